"""What kind of failure an error of gRPC, of a database, of Kafka or of Redis is: theirs are not the standard library's.

As in `classifiers`, none of those libraries is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

from .peek import ask, first_argument, peek

ErrorType: TypeAlias = Literal["timeout", "connect", "reset", "5xx", "throttled", "other"]
ERROR_TYPES: tuple[ErrorType, ...] = get_args(ErrorType)

_GRPC: Mapping[object, ErrorType] = {
    "DEADLINE_EXCEEDED": "timeout",
    "UNAVAILABLE": "reset",
    "INTERNAL": "5xx",
    "UNKNOWN": "5xx",
    "DATA_LOSS": "5xx",
}

# SQLSTATE, single states before their classes: a statement's time is over; no connection, refused, starting up; a
# connection that ended; the server is in trouble.
_SQL: Mapping[str, ErrorType] = {
    "57014": "timeout",
    "08001": "connect",
    "08004": "connect",
    "57P03": "connect",
    "08": "reset",
    "57": "reset",
    "58": "5xx",
    "XX": "5xx",
    "F0": "5xx",
}

# librdkafka's numbers below -1, the protocol's above: timed out; no broker, no name; transport, not available.
_KAFKA: Mapping[object, ErrorType] = {
    -192: "timeout",
    -185: "timeout",
    -166: "timeout",
    7: "timeout",
    -193: "connect",
    -187: "connect",
    -195: "reset",
    13: "reset",
}

# What clients say that wrap an error in words only. gRPC's and libpq's, and redis-py's "Error 111 connecting to".
_REFUSALS = ("connection refused", "failed to connect to all addresses", "dns resolution failed", "name or service not")


def kind_in_dialect(error: BaseException) -> ErrorType | None:
    """The kind of failure this error is by what its library calls it, without what it was raised from.

    >>> class QueryCanceled(Exception):
    ...     sqlstate = "57014"
    >>> kind_in_dialect(QueryCanceled())
    'timeout'
    """
    if is_refusal_in_words(error):
        return "connect"
    state = peek(error, "sqlstate") or peek(error, "pgcode")
    if isinstance(state, str) and (kind := _SQL.get(state) or _SQL.get(state[:2])) is not None:
        return kind
    for code in (peek(ask(error, "code"), "name"), ask(first_argument(error), "code"), peek(error, "errno")):
        kind = _GRPC.get(code) if isinstance(code, str) else _KAFKA.get(code) if isinstance(code, int) else None
        if kind is not None and not isinstance(error, OSError):
            return kind
    names = [base.__name__ for base in type(error).__mro__]
    if any("Timeout" in name or "TimedOut" in name for name in names):
        return "timeout"
    # redis-py and aiokafka have a ConnectionError of their own.
    return "reset" if any(name.endswith("ConnectionError") for name in names) else None


def is_refusal_in_words(error: BaseException) -> bool:
    """Whether the error says that no connection was made, and keeps no other trace of it."""
    # An operating system's error has a number; what a server answers has a status.
    if isinstance(error, OSError):
        return False
    details = ask(error, "details")
    text = details if isinstance(details, str) else first_argument(error)
    return isinstance(text, str) and any(words in text[:500].lower() for words in _REFUSALS)
