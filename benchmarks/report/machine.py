"""What the figures were made on: they mean nothing without."""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import shoal
from benchmarks.libraries import Library

_CPUINFO = Path("/proc/cpuinfo")


def python() -> str:
    """Such as `CPython 3.11.7`."""
    return f"{platform.python_implementation()} {platform.python_version()}"


def machine() -> str:
    """One line: processor, cores, operating system, Python, date."""
    system = platform.system()
    with suppress(OSError):
        system = f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {system} {platform.release().split('-')[0]}"
    return f"{_processor()}, {os.cpu_count()} cores; {system}; {python()}; {dt.datetime.now(dt.UTC):%Y-%m-%d}"


def versions(libraries: Iterable[Library]) -> str:
    """One line: what was measured."""
    names = sorted({name for library in libraries for name in library.distributions})
    return ", ".join([f"shoal {shoal.__version__}", *(f"{name} {metadata.version(name)}" for name in names)])


def _processor() -> str:
    with suppress(OSError):
        for line in _CPUINFO.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
