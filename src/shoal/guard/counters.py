"""What a guard has counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar, get_args

from .cells import Cells
from .dialects import ERROR_TYPES, ErrorType
from .tally import Refusal, Tally
from .transition import BreakerState

REFUSALS: tuple[Refusal, ...] = get_args(Refusal)
K = TypeVar("K")

_STATES: tuple[BreakerState, ...] = get_args(BreakerState)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Numbers since the guard was made, as they were when `Guard.counters` was read. Nothing is ever reset.

    A *call* is one logical call, its retries included, and ends in exactly one way:

    * `calls_success`, `calls_success_after_retry`: a timely answer, a 404 included
    * `calls_timeout`: failed, and the last attempt got no answer in time
    * `calls_exhausted`: failed otherwise, with no attempt, budget or time left, or the breaker open by then
    * `calls_non_retryable`: failed otherwise, in a way that must not be repeated here
    * `calls_rejected`: the dependency was not contacted; `rejected_by` says why
    * `calls_cancelled`: ended without a verdict on the dependency: cancelled, or broken by the caller's own code

    An *attempt* is one try that reached a verdict. `retries_by_error` counts retries when they are scheduled, by what
    made them necessary; `backoff_seconds` is what they were told to wait. `stale_served` and `fallback_served` are
    failed calls that were answered otherwise. `orphans` counts attempts that went on after they had been let go at
    their deadline. `shadow_rejected_by` is what a guard with `shadow=True` would have rejected.
    """

    calls_success: int
    calls_success_after_retry: int
    calls_exhausted: int
    calls_non_retryable: int
    calls_timeout: int
    calls_cancelled: int
    rejected_by: Mapping[Refusal, int]
    shadow_rejected_by: Mapping[Refusal, int]

    attempts_ok: int
    attempts_error: int
    attempts_timeout: int

    retries_by_error: Mapping[ErrorType, int]
    retries_denied: int
    backoff_seconds: float

    stale_served: int
    fallback_served: int
    orphans: int

    breaker_transitions: Mapping[BreakerState, int]

    @property
    def calls_rejected(self) -> int:
        """All calls that were not made."""
        return sum(self.rejected_by.values())

    @property
    def calls(self) -> int:
        """All calls that ended."""
        return self.calls_success + self.calls_success_after_retry + self.final_failures + self.calls_cancelled

    @property
    def attempts(self) -> int:
        """All attempts that reached a verdict."""
        return self.attempts_ok + self.attempts_error + self.attempts_timeout

    @property
    def retries(self) -> int:
        """All retries that were scheduled."""
        return sum(self.retries_by_error.values())

    @property
    def final_failures(self) -> int:
        """Calls that failed for good, whether or not another answer was served instead."""
        return self.calls_exhausted + self.calls_non_retryable + self.calls_timeout + self.calls_rejected


def read_counters(cells: Cells, tally: Tally, *, changes: Mapping[BreakerState, int]) -> Counters:
    """What the cells, the tally and the breaker's changes of state amount to."""
    attempts_ok = cells.answered + tally.answered_late
    return Counters(
        calls_success=attempts_ok - tally.answers_after_retry,
        calls_success_after_retry=tally.answers_after_retry,
        calls_exhausted=tally.calls_exhausted,
        calls_non_retryable=tally.calls_non_retryable,
        calls_timeout=tally.calls_timeout,
        calls_cancelled=tally.calls_cancelled,
        rejected_by=_all(REFUSALS, {**(tally.refused_otherwise or {}), "breaker": tally.refused_by_breaker}),
        shadow_rejected_by=_all(REFUSALS, tally.unrefused),
        attempts_ok=attempts_ok,
        attempts_error=tally.attempts_error,
        attempts_timeout=tally.attempts_timeout,
        retries_by_error=_all(ERROR_TYPES, tally.retries),
        retries_denied=tally.retries_denied,
        backoff_seconds=tally.backoff_seconds,
        stale_served=tally.stale,
        fallback_served=tally.fallbacks,
        orphans=tally.orphans,
        breaker_transitions=_all(_STATES, changes),
    )


def _all(names: tuple[K, ...], counts: Mapping[K, int] | None) -> dict[K, int]:
    return {name: (counts or {}).get(name, 0) for name in names}
