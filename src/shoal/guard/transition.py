"""A change of a breaker's state: the only event a guard speaks of, since everything else is a count."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

BreakerState: TypeAlias = Literal["closed", "open", "half-open"]

_log = logging.getLogger("shoal.guard")


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """The breaker went from one state to another at time *at* (monotonic seconds), and why.

    *lasted* is for how many seconds it had been in the state it left.
    """

    before: BreakerState
    after: BreakerState
    at: float
    lasted: float
    reason: str


Listener: TypeAlias = Callable[[str, Transition], None]


def log_transition(dependency: str, transition: Transition) -> None:
    """Write it to the logger `shoal.guard`: an opening as a warning, the rest as information."""
    level = logging.WARNING if transition.after == "open" else logging.INFO
    _log.log(
        level,
        "%s: breaker %s after %.1f s %s: %s",
        dependency,
        transition.after,
        transition.lasted,
        transition.before,
        transition.reason,
    )
