"""aiobreaker: pybreaker for asyncio; sync functions too."""

from __future__ import annotations

from datetime import timedelta

import aiobreaker

from .library import Decorator, Library, Settings


def breaker(settings: Settings) -> Decorator:
    """Its own error takes the place of the dependency's on the call that opens it."""
    made: Decorator = aiobreaker.CircuitBreaker(
        fail_max=settings.failures,
        timeout_duration=timedelta(seconds=settings.open_for),
        exclude=list(settings.excluded),
    )
    return made


LIBRARY = Library(
    name="aiobreaker",
    distributions=("aiobreaker",),
    rejections=(aiobreaker.CircuitBreakerError,),
    sync={"breaker": breaker},
    asynchronous={"breaker": breaker},
)
