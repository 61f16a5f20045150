"""How a server tells a client when, or whether, to repeat a call that failed: gRPC's proposal A6, "Pushback"."""

from __future__ import annotations

import re
from typing import Any

from shoal.guard import do_not_retry, was_retried

PUSHBACK = "grpc-retry-pushback-ms"
PREVIOUS_ATTEMPTS = "grpc-previous-rpc-attempts"

# Of 32 bits, without needless zeros; what is negative is no wait.
_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]*")
_LARGEST = 2**31 - 1


def heed(error: BaseException) -> None:
    """Mark a client's error with what its server has asked for.

    A number of milliseconds becomes `retry_after`, in seconds; what is negative or no number forbids the retry.
    """
    trailing = getattr(error, "trailing_metadata", None)
    for key, value in (trailing() if callable(trailing) else None) or ():
        if key != PUSHBACK:
            continue
        milliseconds = _milliseconds(value)
        if milliseconds is None:
            do_not_retry(error)
        else:
            error.retry_after = milliseconds / 1000  # type: ignore[attr-defined] # where classifiers and guards look


def _milliseconds(value: object) -> int | None:
    if not isinstance(value, str) or len(value) > len(str(_LARGEST)) or not _WHOLE_NUMBER.fullmatch(value):
        return None
    milliseconds = int(value)
    return milliseconds if milliseconds <= _LARGEST else None


def with_pushback(metadata: Any, error: BaseException | None) -> Any:
    """A server's trailing metadata, and in it that the client must not repeat what a guard here has repeated."""
    if error is None or not was_retried(error):
        return metadata
    present = tuple(metadata or ())
    # What the handler has set itself stands.
    return present if any(key == PUSHBACK for key, _ in present) else (*present, (PUSHBACK, "-1"))
