"""purgatory: a breaker, sync and async by two factories."""

from __future__ import annotations

from purgatory import AsyncCircuitBreakerFactory, SyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState

from .library import Decorator, Library, Settings


def breaker(settings: Settings) -> Decorator:
    """For sync functions."""
    factory = SyncCircuitBreakerFactory(
        default_threshold=settings.failures, default_ttl=settings.open_for, exclude=list(settings.excluded)
    )
    made: Decorator = factory("bench")
    return made


def async_breaker(settings: Settings) -> Decorator:
    """For async functions."""
    factory = AsyncCircuitBreakerFactory(
        default_threshold=settings.failures, default_ttl=settings.open_for, exclude=list(settings.excluded)
    )
    made: Decorator = factory("bench")
    return made


LIBRARY = Library(
    name="purgatory",
    distributions=("purgatory",),
    rejections=(OpenedState,),
    sync={"breaker": breaker},
    asynchronous={"breaker": async_breaker},
)
