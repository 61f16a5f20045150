"""pybreaker: a breaker for sync functions. Under it an `async def` is a success each time (danielfm/pybreaker#7)."""

from __future__ import annotations

import pybreaker

from .library import Decorator, Library, Settings


def breaker(settings: Settings) -> Decorator:
    """Its own error takes the place of the dependency's on the call that opens it; that is the default."""
    made: Decorator = pybreaker.CircuitBreaker(
        fail_max=settings.failures, reset_timeout=settings.open_for, exclude=list(settings.excluded)
    )
    return made


LIBRARY = Library(
    name="pybreaker",
    distributions=("pybreaker",),
    rejections=(pybreaker.CircuitBreakerError,),
    sync={"breaker": breaker},
)
