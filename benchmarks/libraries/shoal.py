"""shoal: one guard with all policies; here with those switched off that a scenario is not about."""

from __future__ import annotations

from collections.abc import Callable

from shoal import Guard
from shoal.errors import CallRejectedError
from shoal.guard import Backoff, BreakerSettings, BudgetSettings

from .library import Call, Decorator, Library, Make, Settings

# As short as can be asked for, so that a storm of a second takes a second.
_AT_ONCE = Backoff(initial=1e-6, maximum=1e-6)


def breaker_settings(settings: Settings) -> BreakerSettings:
    """One trial, as with the other libraries; by default it is three."""
    return BreakerSettings(
        consecutive=settings.failures,
        consecutive_over=0.0,
        slow_after=settings.slow_after,
        open_for=settings.open_for,
        longest_open=settings.open_for,
        trials=1,
        successes_to_close=1,
    )


def _make(policies: str) -> Make:
    chosen = set(policies.split(", "))

    def make(settings: Settings) -> Decorator:
        return Guard(
            "bench",
            timeout=settings.timeout,
            attempts=settings.attempts if "retry" in chosen else 1,
            backoff=_AT_ONCE,
            budget=BudgetSettings() if "budget" in chosen else None,
            breaker=breaker_settings(settings) if "breaker" in chosen else None,
            limit=settings.limit if "bulkhead" in chosen else None,
        )

    return make


def counter() -> tuple[Call, Callable[[], int]]:
    """Plain integers, without a lock where the GIL makes one."""
    guard = Guard("bench", timeout=1.0)
    return guard(lambda: None), lambda: guard.counters.calls_success


_OFFERED = {
    policies: _make(policies)
    for policies in ("retry, budget", "breaker", "bulkhead", "timeout", "retry, budget, breaker")
}

LIBRARY = Library(
    name="shoal",
    distributions=(),
    rejections=(CallRejectedError,),
    sync=_OFFERED,
    asynchronous=_OFFERED,
    counter=counter,
    judges_slow_calls=True,
)
