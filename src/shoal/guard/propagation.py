"""What one service tells the next in headers: how long it will wait, and that a failure is not to be repeated.

Remaining time and not a time of day, as gRPC does it: the clocks of two machines differ by more than a timeout.
"""

from __future__ import annotations

import math

TIMEOUT_HEADER = "Shoal-Timeout-Ms"
"""In a request: the milliseconds, whole, that its sender will wait for the answer."""

RETRY_HEADER = "Shoal-Retry"
"""In an answer: `no` says that its sender has retried already, so that repeating the request multiplies the load."""

NO_RETRY = "no"

# A day. What waits longer than that has no deadline.
_LONGEST_MS = 86_400_000


def timeout_header(seconds: float) -> str | None:
    """The value of `Shoal-Timeout-Ms` for so many seconds left, None where there is no need to send it.

    >>> timeout_header(0.7349), timeout_header(float("inf"))
    ('734', None)
    """
    milliseconds = seconds * 1000
    return str(max(0, math.floor(milliseconds))) if milliseconds <= _LONGEST_MS else None


def timeout_from_header(value: str | None) -> float | None:
    """Seconds the sender will wait, None if the header is missing or is no whole number of milliseconds up to a day.

    A header that cannot be read is ignored: a mistake of the caller's is no reason to refuse its work.

    >>> timeout_from_header("734"), timeout_from_header("soon"), timeout_from_header(None)
    (0.734, None, None)
    """
    if value is None:
        return None
    value = value.strip()
    if not value.isascii() or not value.isdigit() or len(value) > len(str(_LONGEST_MS)):
        return None
    milliseconds = int(value)
    return milliseconds / 1000 if milliseconds <= _LONGEST_MS else None


def forbids_retry(value: str | None) -> bool:
    """Whether the value of `Shoal-Retry` says that the request must not be repeated.

    >>> forbids_retry("no"), forbids_retry(None)
    (True, False)
    """
    return value is not None and value.strip().lower() == NO_RETRY
