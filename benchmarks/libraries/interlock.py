"""interlock-cb: a breaker, and a pipeline of policies whose retries are tenacity's; sync and async."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import tenacity
from interlock import BulkheadFullError, CircuitBreaker, CircuitOpenError, Config, Pipeline, PipelineBuilder

from .library import Call, Decorator, Library, Make, Settings


class _Excluding:
    def __init__(self, excluded: tuple[type[Exception], ...]) -> None:
        self._excluded = excluded

    def is_failure(self, *, result: object, exception: Exception | None) -> bool:  # noqa: ARG002 -- its protocol
        return exception is not None and not isinstance(exception, self._excluded)


def breaker(settings: Settings) -> CircuitBreaker:
    """Opens at half of the last hundred calls; the least number of calls is the number of failures asked for."""
    slow: dict[str, Any] = {} if settings.slow_after is None else {"slow_call_duration_threshold": settings.slow_after}
    return CircuitBreaker(
        name="bench",
        config=Config(
            minimum_number_of_calls=settings.failures,
            wait_duration_in_open=settings.open_for,
            permitted_calls_in_half_open=1,
            **slow,
        ),
        classifier=_Excluding(settings.excluded) if settings.excluded else None,
    )


def _fallback(pipeline: PipelineBuilder, settings: Settings) -> None:  # noqa: ARG001 -- asked for like the others
    pipeline.fallback(lambda _: 0, on=(ConnectionError,))


def _retry(pipeline: PipelineBuilder, settings: Settings) -> None:
    pipeline.retry(attempts=settings.attempts, wait=tenacity.wait_none())


def _breaker(pipeline: PipelineBuilder, settings: Settings) -> None:
    pipeline.circuit_breaker(breaker(settings))


def _bulkhead(pipeline: PipelineBuilder, settings: Settings) -> None:
    pipeline.bulkhead(settings.limit, max_wait=1.0 if settings.queue else 0.0)


def _timeout(pipeline: PipelineBuilder, settings: Settings) -> None:
    pipeline.timeout(settings.timeout)


_POLICIES = {
    "fallback": _fallback,
    "retry": _retry,
    "breaker": _breaker,
    "bulkhead": _bulkhead,
    "timeout": _timeout,
}


def _pipeline(policies: str) -> Make:
    chosen = [_POLICIES[policy] for policy in policies.split(", ")]

    def make(settings: Settings) -> Decorator:
        pipeline = Pipeline.builder()
        for add in chosen:
            add(pipeline, settings)
        return pipeline.build()

    return make


def counter() -> tuple[Call, Callable[[], int]]:
    """Counts in its window, under a lock."""
    guard = CircuitBreaker(name="bench", config=Config(minimum_number_of_calls=sys.maxsize, window_size=1_000_000))
    return guard(lambda: None), lambda: guard.snapshot().total_calls


_OFFERED: dict[str, Make] = {
    "retry": _pipeline("retry"),
    # Alone it needs no pipeline, and is used without.
    "breaker": breaker,
    "bulkhead": _pipeline("bulkhead"),
    "timeout": _pipeline("timeout"),
    "retry, breaker": _pipeline("retry, breaker"),
    "retry, breaker, bulkhead": _pipeline("retry, breaker, bulkhead"),
    "retry, breaker, bulkhead, timeout": _pipeline("retry, breaker, bulkhead, timeout"),
    "fallback, retry, breaker, bulkhead, timeout": _pipeline("fallback, retry, breaker, bulkhead, timeout"),
}

LIBRARY = Library(
    name="interlock-cb",
    distributions=("interlock-cb", "tenacity"),
    rejections=(CircuitOpenError, BulkheadFullError),
    sync=_OFFERED,
    asynchronous=_OFFERED,
    counter=counter,
    judges_slow_calls=True,
)
