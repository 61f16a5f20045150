"""
LabError                  the lab cannot go on; the message says what, the value, and what to do
├─ UsageError             what was asked for cannot be done: exit code 2
└─ PlatformError          a part would not start or died: exit code 1
"""

from __future__ import annotations


class LabError(Exception):
    """The lab cannot go on."""

    exit_code = 1


class UsageError(LabError):
    """What was asked for cannot be done: unknown scenario, broken file, impossible option."""

    exit_code = 2


class PlatformError(LabError):
    """A real part (PostgreSQL, Kafka, Envoy, a pod) would not start, or died."""

    exit_code = 1
