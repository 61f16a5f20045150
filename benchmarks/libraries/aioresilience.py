"""aioresilience: retry, breaker, bulkhead, timeout and fallback as decorators of async functions."""

from __future__ import annotations

from aioresilience import (
    Bulkhead,
    BulkheadConfig,
    BulkheadFullError,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitConfig,
    FallbackConfig,
    FallbackHandler,
    RetryConfig,
    RetryPolicy,
    TimeoutConfig,
    TimeoutManager,
    with_bulkhead,
    with_circuit_breaker,
    with_fallback_handler,
    with_retry,
    with_timeout_manager,
)

from .library import Decorator, Library, Settings, nested


def retry(settings: Settings) -> Decorator:
    """Without waits."""
    config = RetryConfig(
        max_attempts=settings.attempts,
        initial_delay=0.0,
        max_delay=0.0,
        jitter=0.0,
        retry_on_exceptions=(ConnectionError,),
    )
    made: Decorator = with_retry(RetryPolicy(config=config))
    return made


def breaker(settings: Settings) -> Decorator:
    """One trial at a time, one success closes it."""
    config = CircuitConfig(
        failure_threshold=settings.failures,
        recovery_timeout=settings.open_for,
        success_threshold=1,
        half_open_max_calls=1,
        failure_exceptions=(ConnectionError,),
    )
    made: Decorator = with_circuit_breaker(CircuitBreaker(name="bench", config=config))
    return made


def bulkhead(settings: Settings) -> Decorator:
    """With a queue where one is asked for."""
    config = BulkheadConfig(max_concurrent=settings.limit, max_waiting=settings.queue)
    made: Decorator = with_bulkhead(Bulkhead(name="bench", config=config))
    return made


def timeout(settings: Settings) -> Decorator:
    """`asyncio.wait_for`, counted."""
    made: Decorator = with_timeout_manager(TimeoutManager(config=TimeoutConfig(timeout=settings.timeout)))
    return made


def fallback(settings: Settings) -> Decorator:  # noqa: ARG001 -- asked for like the others
    """A fixed value."""
    config = FallbackConfig(fallback=0, fallback_on_exceptions=(ConnectionError,))
    made: Decorator = with_fallback_handler(FallbackHandler(config=config))
    return made


def retry_breaker(settings: Settings) -> Decorator:
    """Retries that an open breaker ends."""
    return nested(retry(settings), breaker(settings))


def everything(settings: Settings) -> Decorator:
    """All of these, in shoal's order."""
    return nested(fallback(settings), retry(settings), breaker(settings), bulkhead(settings), timeout(settings))


LIBRARY = Library(
    name="aioresilience",
    distributions=("aioresilience",),
    rejections=(CircuitBreakerOpenError, BulkheadFullError),
    asynchronous={
        "retry": retry,
        "breaker": breaker,
        "bulkhead": bulkhead,
        "timeout": timeout,
        "retry, breaker": retry_breaker,
        "fallback, retry, breaker, bulkhead, timeout": everything,
    },
)
