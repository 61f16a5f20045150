"""cashews: a cache library that has a breaker for async functions."""

from __future__ import annotations

from cashews import Cache
from cashews.exceptions import CircuitBreakerOpen

from .library import Decorator, Library, Settings


def breaker(settings: Settings) -> Decorator:
    """Opens at half of the calls of ten seconds; while half-open it lets every second one through, by chance."""
    cache = Cache()
    cache.setup("mem://")
    made: Decorator = cache.circuit_breaker(
        errors_rate=50,
        period=10,
        ttl=settings.open_for,
        # From the first rejection on, so this is what is left of it after the pause.
        half_open_ttl=2 * settings.open_for,
        min_calls=settings.failures,
        exceptions=(ConnectionError,),
    )
    return made


LIBRARY = Library(
    name="cashews", distributions=("cashews",), rejections=(CircuitBreakerOpen,), asynchronous={"breaker": breaker}
)
