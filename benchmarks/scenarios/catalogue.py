"""All scenarios, in the order of their letters."""

from __future__ import annotations

from . import cancellation, clocks, failures, half_open, instants, late_results, retries, threads
from .scenario import Scenario

_GROUPS = (half_open, late_results, cancellation, instants, retries, clocks, failures, threads)
_ALL = (scenario for group in _GROUPS for scenario in group.SCENARIOS)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in sorted(_ALL, key=lambda one: one.name)}
