"""What an exception says about the dependency: the classes of outcomes, the labels of retries, and Retry-After.

Works by the base classes of the standard library and by the attributes that HTTP clients agree on, so that no
client needs to be imported. What this module cannot recognise counts as a failure.
"""

from __future__ import annotations

import errno
import math
import socket
from collections.abc import Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TypeAlias

from shoal.errors import CallRejectedError

from .dialects import ErrorType, is_refusal_in_words, kind_in_dialect
from .peek import first_argument, peek


class Outcome(Enum):
    """What one attempt says about the dependency."""

    OK = "ok"
    """A timely answer, even if it says no (a 404): the dependency works."""
    FAIL = "fail"
    """No answer in time, no connection, or a server error: counts against the dependency."""
    THROTTLE = "throttle"
    """The dependency asks for patience: backs off, and does not trip the breaker."""
    NEUTRAL = "neutral"
    """Says nothing about the dependency: the caller's own mistake, or a call that was never made."""

    @property
    def is_bad(self) -> bool:
        """Whether the caller got no answer to its question, and may ask again or make do without."""
        return self is Outcome.FAIL or self is Outcome.THROTTLE


Classifier: TypeAlias = Callable[[Exception], Outcome]

_OWN_MISTAKES = (
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
    NameError,
    ImportError,
    ArithmeticError,
    NotImplementedError,
    RecursionError,
    MemoryError,
)

_REFUSED = frozenset({errno.ECONNREFUSED})
_UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN})
_RESET = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED})

# Clients wrap two or three deep; a longer chain is somebody's loop.
_DEEPEST_CAUSE = 8

_REQUEST_TIMEOUT = 408
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500
_UNAVAILABLE = 503


def classify_default(error: Exception) -> Outcome:
    """Tell a failing dependency from one that merely says no, and from a mistake of the caller's own.

    In this order: a rejection by another guard is NEUTRAL. An HTTP status (attribute `.response.status_code`,
    `.response.status`, `.status_code` or `.status`) of 500 and above or 408 is FAIL, 429 and 503 with Retry-After are
    THROTTLE, any other is OK. `OSError`, which
    `ConnectionError` and `TimeoutError` derive from, is FAIL. What bugs raise (`TypeError`,
    `KeyError`, `AssertionError`, ...) is NEUTRAL. Anything else is FAIL: an unknown error that was
    ignored would hide an outage.

    The classes follow Envoy (below 500 is a success) and gRPC's A6 (pushback is no failure).

    >>> classify_default(ConnectionRefusedError())
    <Outcome.FAIL: 'fail'>
    >>> classify_default(KeyError("user"))
    <Outcome.NEUTRAL: 'neutral'>
    """
    # First, since one of the rejections is an OSError as well.
    if isinstance(error, CallRejectedError):
        return Outcome.NEUTRAL
    status = http_status(error)
    if status is not None:
        if status == _TOO_MANY_REQUESTS or (status == _UNAVAILABLE and _retry_after_header(error) is not None):
            return Outcome.THROTTLE
        return Outcome.FAIL if status >= _SERVER_ERROR or status == _REQUEST_TIMEOUT else Outcome.OK
    if isinstance(error, OSError):
        return Outcome.FAIL
    if isinstance(error, _OWN_MISTAKES):
        return Outcome.NEUTRAL
    return Outcome.FAIL


def error_type(error: BaseException) -> ErrorType:
    """Name the kind of failure, for the label of a retry.

    Looks through explicit causes (`raise ... from ...`) and wrapped errors, because clients wrap: the innermost of
    httpx's `ReadTimeout` is a `TimeoutError`. A group of errors has the kind that all its members share.

    >>> error_type(ConnectionResetError())
    'reset'
    """
    status = http_status(error)
    if status is not None:
        if status == _TOO_MANY_REQUESTS or (status == _UNAVAILABLE and _retry_after_header(error) is not None):
            return "throttled"
        if status == _REQUEST_TIMEOUT:
            return "timeout"
        return "5xx" if status >= _SERVER_ERROR else "other"
    for link in _causes(error):
        if isinstance(link, BaseExceptionGroup):
            kinds = {error_type(member) for member in link.exceptions}
            return kinds.pop() if len(kinds) == 1 else "other"
        if isinstance(link, TimeoutError):
            return "timeout"
        if _is_refused(link) or _has_errno(link, _UNREACHABLE):
            return "connect"
        if isinstance(link, ConnectionError | EOFError) or _has_errno(link, _RESET):
            return "reset"
    # What a library calls it comes second: Python's own error inside, where there is one, says more.
    return next((kind for link in _causes(error) if (kind := kind_in_dialect(link)) is not None), "other")


def never_sent(error: BaseException) -> bool:
    """Whether the error proves that the request did not reach the dependency, so that even a write may be repeated.

    True for a refused connection and a name that does not resolve, also as an explicit cause, or in the words of a
    client that keeps nothing else of it. "Host unreachable" is
    no proof: it may end a connection that had carried the request.
    """
    for link in _causes(error):
        if isinstance(link, BaseExceptionGroup):
            return all(never_sent(member) for member in link.exceptions)
        if _is_refused(link) or is_refusal_in_words(link):
            return True
    return False


def http_status(error: BaseException) -> int | None:
    """The HTTP status an exception carries, the way httpx, requests, aiohttp, urllib and Starlette carry it."""
    response = peek(error, "response")
    for holder, name in ((response, "status_code"), (response, "status"), (error, "status_code"), (error, "status")):
        value = peek(holder, name)
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
            return int(value)
    return None


def retry_after(error: BaseException, *, wall: float) -> float | None:
    """Seconds the dependency asks to wait, None if it does not ask.

    Read from an attribute `retry_after` or a Retry-After header, which holds seconds or a date. *wall* is the time in
    seconds since 1970, to subtract from the date. Never negative; `inf` for absurdly many seconds.
    """
    value = peek(error, "retry_after")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return None if math.isnan(value) else max(0.0, float(value))
    text = _retry_after_header(error)
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) <= 12 else math.inf
    with suppress(ValueError, OverflowError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - wall)
    return None


def _retry_after_header(error: BaseException) -> str | None:
    for holder in (peek(error, "response"), error):
        get = peek(peek(holder, "headers"), "get")
        if not callable(get):
            continue
        # Clients' mappings ignore case, a plain dict does not.
        for name in ("Retry-After", "retry-after"):
            with suppress(Exception):
                value = get(name)
                if isinstance(value, str):
                    return value
    return None


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what it names as its cause, or wraps: httpcore and urllib as first argument, urllib3 as reason.

    Not `__context__`: that may be an unrelated error being handled.
    """
    chain: list[BaseException] = []
    link: object = error
    while isinstance(link, BaseException) and len(chain) < _DEEPEST_CAUSE:
        chain.append(link)
        candidates = (link.__cause__, first_argument(link), peek(link, "reason"), peek(link, "orig"))
        link = next((candidate for candidate in candidates if isinstance(candidate, BaseException)), None)
    return chain


def _is_refused(error: BaseException) -> bool:
    # By number too: a client's own subclass of OSError is never turned into ConnectionRefusedError by Python.
    return isinstance(error, ConnectionRefusedError | socket.gaierror) or _has_errno(error, _REFUSED)


def _has_errno(error: BaseException, numbers: frozenset[int]) -> bool:
    return isinstance(error, OSError) and error.errno in numbers
