"""stamina around circuitbreaker: what is written most often where a service has both."""

from __future__ import annotations

from . import circuitbreaker, stamina
from .library import Decorator, Library, Settings, nested


def retry_breaker(settings: Settings) -> Decorator:
    """A rejection is no ConnectionError, so an open breaker ends the retries."""
    return nested(stamina.retry(settings), circuitbreaker.breaker(settings))


LIBRARY = Library(
    name="stamina + circuitbreaker",
    distributions=("stamina", "circuitbreaker"),
    rejections=circuitbreaker.LIBRARY.rejections,
    sync={"retry, breaker": retry_breaker},
    asynchronous={"retry, breaker": retry_breaker},
)
