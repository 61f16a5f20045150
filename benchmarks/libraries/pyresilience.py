"""pyresilience: one decorator with all policies, sync and async."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyresilience import (
    BulkheadConfig,
    BulkheadFullError,
    CircuitBreakerConfig,
    CircuitOpenError,
    FallbackConfig,
    MetricsCollector,
    RetryBudgetConfig,
    RetryConfig,
    TimeoutConfig,
    resilient,
)

from .library import Call, Decorator, Library, Make, Settings


def _retry(settings: Settings) -> RetryConfig:
    return RetryConfig(max_attempts=settings.attempts, delay=0.0, jitter=False, retry_on=(ConnectionError,))


def _budget(settings: Settings) -> RetryBudgetConfig:  # noqa: ARG001 -- asked for like the others
    # Its own default: 100 retries at once and 10 a second, for each decorated function.
    return RetryBudgetConfig()


def _breaker(settings: Settings) -> CircuitBreakerConfig:
    # Slow calls are judged in its window mode only.
    slow: dict[str, Any] = {}
    if settings.slow_after is not None:
        slow = {"sliding_window_size": 20, "slow_call_duration": settings.slow_after, "slow_call_rate_threshold": 0.8}
    return CircuitBreakerConfig(
        failure_threshold=settings.failures,
        recovery_timeout=settings.open_for,
        success_threshold=1,
        error_types=(ConnectionError,),
        ignore_on=settings.excluded,
        **slow,
    )


def _bulkhead(settings: Settings) -> BulkheadConfig:
    return BulkheadConfig(max_concurrent=settings.limit, max_wait=1.0 if settings.queue else 0.0)


def _timeout(settings: Settings) -> TimeoutConfig:
    return TimeoutConfig(seconds=settings.timeout)


def _fallback(settings: Settings) -> FallbackConfig:  # noqa: ARG001 -- asked for like the others
    return FallbackConfig(handler=0, fallback_on=(ConnectionError,))


_POLICIES = {
    "fallback": ("fallback", _fallback),
    "retry": ("retry", _retry),
    "budget": ("retry_budget", _budget),
    "breaker": ("circuit_breaker", _breaker),
    "bulkhead": ("bulkhead", _bulkhead),
    "timeout": ("timeout", _timeout),
}


def _make(policies: str) -> Make:
    chosen = [_POLICIES[policy] for policy in policies.split(", ")]

    def make(settings: Settings) -> Decorator:
        arguments: dict[str, Any] = {name: config(settings) for name, config in chosen}
        made: Decorator = resilient(**arguments)
        return made

    return make


def counter() -> tuple[Call, Callable[[], int]]:
    """Counts by listener."""
    collector = MetricsCollector()

    def call() -> None:
        return None

    guarded: Call = resilient(circuit_breaker=CircuitBreakerConfig(), listeners=[collector])(call)
    return guarded, lambda: int(collector.get_counts()["call"]["success"])


_OFFERED = (
    "retry",
    "breaker",
    "bulkhead",
    "timeout",
    "retry, budget",
    "retry, breaker",
    "retry, breaker, bulkhead",
    "fallback, retry, budget, breaker, bulkhead",
    "fallback, retry, budget, breaker, bulkhead, timeout",
)

LIBRARY = Library(
    name="pyresilience",
    distributions=("pyresilience",),
    rejections=(CircuitOpenError, BulkheadFullError),
    sync={policies: _make(policies) for policies in _OFFERED},
    asynchronous={policies: _make(policies) for policies in _OFFERED},
    counter=counter,
    judges_slow_calls=True,
)
