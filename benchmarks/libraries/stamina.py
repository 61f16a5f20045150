"""stamina: retries, sync and async."""

from __future__ import annotations

import stamina

from .library import Decorator, Library, Settings


def retry(settings: Settings) -> Decorator:
    """Retries without waiting, so that a storm of a second takes a second."""
    return stamina.retry(
        on=ConnectionError, attempts=settings.attempts, timeout=None, wait_initial=0.0, wait_max=0.0, wait_jitter=0.0
    )


LIBRARY = Library(
    name="stamina", distributions=("stamina", "tenacity"), sync={"retry": retry}, asynchronous={"retry": retry}
)
