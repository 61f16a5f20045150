"""tenacity: retries, sync and async."""

from __future__ import annotations

import tenacity

from .library import Decorator, Library, Settings


def retry(settings: Settings) -> Decorator:
    """The last error survives: `reraise` is not the default."""
    return tenacity.retry(
        retry=tenacity.retry_if_exception_type(ConnectionError),
        stop=tenacity.stop_after_attempt(settings.attempts),
        wait=tenacity.wait_none(),
        reraise=True,
    )


LIBRARY = Library(name="tenacity", distributions=("tenacity",), sync={"retry": retry}, asynchronous={"retry": retry})
