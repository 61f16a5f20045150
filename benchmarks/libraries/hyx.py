"""hyx: retry, breaker, bulkhead and timeout as decorators of async functions."""

from __future__ import annotations

from hyx.bulkhead import bulkhead as hyx_bulkhead
from hyx.bulkhead.exceptions import BulkheadFull
from hyx.circuitbreaker import consecutive_breaker
from hyx.circuitbreaker.exceptions import BreakerFailing
from hyx.retry import retry as hyx_retry
from hyx.timeout import timeout as hyx_timeout

from .library import Decorator, Library, Settings, nested


def retry(settings: Settings) -> Decorator:
    """Its `attempts` counts the retries, not the first call; it is given the same number as the others."""
    made: Decorator = hyx_retry(on=(ConnectionError,), attempts=settings.attempts, backoff=0.0)
    return made


def breaker(settings: Settings) -> Decorator:
    """The decorator. As `async with` it counts a cancelled call as a success."""
    made: Decorator = consecutive_breaker(
        exceptions=(ConnectionError,),
        failure_threshold=settings.failures,
        recovery_time_secs=settings.open_for,
        recovery_threshold=1,
    )
    return made


def bulkhead(settings: Settings) -> Decorator:
    """Its capacity is the limit and the queue together."""
    made: Decorator = hyx_bulkhead(max_concurrency=settings.limit, max_capacity=settings.limit + settings.queue)
    return made


def timeout(settings: Settings) -> Decorator:
    """Decorates only where an event loop is running."""
    made: Decorator = hyx_timeout(settings.timeout)
    return made


def retry_breaker(settings: Settings) -> Decorator:
    """Retries that an open breaker ends."""
    return nested(retry(settings), breaker(settings))


def everything(settings: Settings) -> Decorator:
    """All it has, in shoal's order."""
    return nested(retry(settings), breaker(settings), bulkhead(settings), timeout(settings))


LIBRARY = Library(
    name="hyx",
    distributions=("hyx",),
    rejections=(BreakerFailing, BulkheadFull),
    asynchronous={
        "retry": retry,
        "breaker": breaker,
        "bulkhead": bulkhead,
        "timeout": timeout,
        "retry, breaker": retry_breaker,
        "retry, breaker, bulkhead, timeout": everything,
    },
)
