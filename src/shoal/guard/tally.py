"""What a guard counts on the long way: everything but timely answers, which its cells have."""

from __future__ import annotations

from typing import Literal, TypeAlias, TypeVar

from .dialects import ErrorType

Refusal: TypeAlias = Literal["breaker", "bulkhead", "shed", "late"]
"""Why a call was not made."""

K = TypeVar("K")


class Tally:
    """Running counts. Kinds that never occurred are in no dictionary, since most guards never see most kinds."""

    __slots__ = (
        "answered_late",
        "answers_after_retry",
        "attempts_error",
        "attempts_timeout",
        "backoff_seconds",
        "calls_cancelled",
        "calls_exhausted",
        "calls_non_retryable",
        "calls_timeout",
        "fallbacks",
        "orphans",
        "refused_by_breaker",
        "refused_otherwise",
        "retries",
        "retries_denied",
        "stale",
        "unrefused",
    )

    def __init__(self) -> None:
        self.answered_late = 0
        """Answers that came when the breaker's state was another than at their beginning, and judged nothing."""
        self.answers_after_retry = 0
        self.attempts_error = 0
        self.attempts_timeout = 0
        self.backoff_seconds = 0.0
        self.calls_cancelled = 0
        self.calls_exhausted = 0
        self.calls_non_retryable = 0
        self.calls_timeout = 0
        self.fallbacks = 0
        self.orphans = 0
        self.refused_by_breaker = 0
        self.refused_otherwise: dict[Refusal, int] | None = None
        self.retries: dict[ErrorType, int] | None = None
        self.retries_denied = 0
        self.stale = 0
        self.unrefused: dict[Refusal, int] | None = None
        """What would have been refused, had the guard not been a shadow."""

    def refuse(self, reason: Refusal, *, shadow: bool) -> None:
        """A call is not made, or would not have been."""
        if shadow:
            self.unrefused = _one_more(self.unrefused, reason)
        elif reason == "breaker":
            self.refused_by_breaker += 1
        else:
            self.refused_otherwise = _one_more(self.refused_otherwise, reason)

    def retry(self, kind: ErrorType, wait: float) -> None:
        """A retry was scheduled."""
        self.retries = _one_more(self.retries, kind)
        self.backoff_seconds += wait


def _one_more(counts: dict[K, int] | None, key: K) -> dict[K, int]:
    counts = counts or {}
    counts[key] = counts.get(key, 0) + 1
    return counts
