"""What a guard has counted."""

from __future__ import annotations

from dataclasses import dataclass, field

from .breaker import BreakerState
from .outcome import ERROR_TYPES, ErrorType


@dataclass(slots=True, kw_only=True)
class Counters:
    """Plain numbers since the guard was made, read when somebody scrapes them. Nothing is ever reset.

    A *call* is one logical call, its retries included, and ends in exactly one way:

    * `calls_success`, `calls_success_after_retry`: a timely answer, a 404 included
    * `calls_timeout`: failed, and the last attempt got no answer in time
    * `calls_exhausted`: failed otherwise, with no attempt, budget or time left, or the breaker open by then
    * `calls_non_retryable`: failed otherwise, in a way that must not be repeated here
    * `calls_rejected`: the dependency was not contacted
    * `calls_cancelled`: ended without a verdict on the dependency: cancelled, or broken by the caller's own code

    An *attempt* is one try that reached a verdict. `retries_by_error` counts retries when they are scheduled, by what
    made them necessary; `backoff_seconds` is what they were told to wait. `orphans` counts attempts that went on after
    they had been abandoned at their deadline.
    """

    calls_success: int = 0
    calls_success_after_retry: int = 0
    calls_exhausted: int = 0
    calls_non_retryable: int = 0
    calls_timeout: int = 0
    calls_rejected: int = 0
    calls_cancelled: int = 0

    attempts_ok: int = 0
    attempts_error: int = 0
    attempts_timeout: int = 0

    retries_by_error: dict[ErrorType, int] = field(default_factory=lambda: dict.fromkeys(ERROR_TYPES, 0))
    retries_denied: int = 0
    backoff_seconds: float = 0.0

    stale_served: int = 0
    orphans: int = 0

    breaker_transitions: dict[BreakerState, int] = field(
        default_factory=lambda: {"closed": 0, "open": 0, "half-open": 0}
    )

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
        """Calls that failed for good, whether or not a stale answer was served instead."""
        return self.calls_exhausted + self.calls_non_retryable + self.calls_timeout + self.calls_rejected
