"""circuitbreaker: a breaker, sync and async."""

from __future__ import annotations

import circuitbreaker

from .library import Decorator, Library, Settings


def breaker(settings: Settings) -> Decorator:
    """It names what counts as a failure, so that there is nothing to exclude."""
    made: Decorator = circuitbreaker.CircuitBreaker(
        failure_threshold=settings.failures,
        recovery_timeout=settings.open_for,
        expected_exception=(ConnectionError,),
        name="bench",
    )
    return made


LIBRARY = Library(
    name="circuitbreaker",
    distributions=("circuitbreaker",),
    rejections=(circuitbreaker.CircuitBreakerError,),
    sync={"breaker": breaker},
    asynchronous={"breaker": breaker},
)
