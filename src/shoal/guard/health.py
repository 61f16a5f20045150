"""What the calls to a dependency say about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from .transition import BreakerState

Status: TypeAlias = Literal["up", "degraded", "down", "unknown"]

# Half of the attempts failing is what opens a breaker by default; a tenth is what users notice in spite of retries.
DOWN_AT = 0.5
DEGRADED_AT = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardHealth:
    """A dependency's health as seen by those who call it. For people and documents; no probe depends on it.

    *status* is `down` while the breaker is open or at least half of the recent attempts failed, `degraded` while it is
    half-open or at least a tenth failed, `unknown` if nothing was heard lately, else `up`. Recent is the breaker's
    window, 30 s by default. *error_rate* is the failed share of recent attempts, 0 if there were none. *p50* and *p95*
    are the seconds that half and 95 % of the last answers took at most, 64 of them, None if there were none. *since* is
    for how many seconds the breaker has been in its state. *last_error* is
    the kind and message of the last failure, at most 200 characters, and None once it is no longer recent; it is
    the dependency's own text, so take care where it is shown. *age* is the number of seconds since the last attempt
    reached a verdict, None if none ever did.
    """

    status: Status
    error_rate: float
    p50: float | None
    p95: float | None
    in_flight: int
    breaker_state: BreakerState
    since: float
    last_error: str | None
    age: float | None


def status_of(breaker_state: BreakerState, *, good: int, bad: int) -> Status:
    """The status that so many good and bad recent attempts amount to.

    >>> status_of("closed", good=9, bad=1), status_of("closed", good=0, bad=0), status_of("open", good=9, bad=1)
    ('degraded', 'unknown', 'down')
    """
    if breaker_state == "open":
        return "down"
    if breaker_state == "half-open":
        return "degraded"
    if good + bad == 0:
        return "unknown"
    rate = bad / (good + bad)
    if rate >= DOWN_AT:
        return "down"
    return "degraded" if rate >= DEGRADED_AT else "up"
