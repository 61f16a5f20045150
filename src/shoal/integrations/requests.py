"""requests, guarded: an adapter to mount in a session, for one dependency. Needs urllib3 2.2 or newer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from io import BytesIO
from operator import attrgetter
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse
from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import Timeout

from shoal import Guard, deadline

from ._http import Exchange, StatusError, checked, is_read, seconds_left

__all__ = ["GuardAdapter"]

_PART = 65_536

# The connection of an answer that ends with it has let go of its socket already; only the answer's file holds it.
_socket_of = attrgetter("_fp.fp.raw._sock")


class GuardAdapter(HTTPAdapter):
    """Every request to what it is mounted for, called the way the dependency should be called.

    An answer of 500 and above, 408 or 429 is a failed attempt, and so is one without an answer; `classify` is asked
    about an exception with that `response`. After the last attempt the caller gets the last answer, whatever its
    status, or requests' own exception. A `CallRejectedError` of the guard's is raised through the session.

    POST, PATCH and other methods that are not idempotent are repeated only if no connection was made, unless the
    request has an `Idempotency-Key`; a body from a generator or a file is sent once. A guard with `idempotent=False`
    forbids more. The other side is told in `Shoal-Timeout-Ms` how long it may take; if it answers a failure with
    `Shoal-Retry: no`, that is final.

    The body belongs to the attempt; with `stream=True` only the headers do, and the body is under the request's own
    timeout. Within the attempt no timeout is longer than what the guard leaves of it; only a server that sends its
    headers byte by byte can outstay that, and with *pool_block* the wait for a free connection. *pool_connections*,
    *pool_maxsize* and *pool_block* are those of `requests.adapters.HTTPAdapter`; there is no *max_retries*, since the
    guard retries. Raises TypeError if *guard* is no guard.

    >>> session = requests.Session()
    >>> session.mount("http://auth", GuardAdapter(guard=Guard("auth", timeout=0.5)))
    """

    def __init__(
        self, *, guard: Guard, pool_connections: int = 10, pool_maxsize: int = 10, pool_block: bool = False
    ) -> None:
        super().__init__(pool_connections, pool_maxsize, pool_block=pool_block)
        self._guard = checked(guard)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002 -- the signature is that of requests
        timeout: Any = None,
        verify: bool | str = True,  # noqa: FBT001, FBT002
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send one request, in as many attempts as the guard makes."""
        guard = self._guard
        # A file is not rewound, a generator cannot be.
        replayable = request.body is None or isinstance(request.body, bytes | str)
        exchange = Exchange(guard, method=request.method or "", headers=request.headers, replayable=replayable)
        own = _timeout(timeout)
        # The annotations do not say that urllib3's own timeouts are taken as well.
        send: Callable[..., requests.Response] = super().send

        def attempt() -> requests.Response:
            # Makes guard.remaining() what is left of this attempt.
            with deadline(guard.remaining()):
                # The caller's request must not keep what belongs to one attempt.
                copy = request.copy()
                copy.headers.update(exchange.begin())
                try:
                    limited = _limited(own, guard)
                    response = send(copy, stream=True, timeout=limited, verify=verify, cert=cert, proxies=proxies)
                    response.request = request
                    if is_read(response.status_code, read_body=not stream):
                        _read(response, guard, longest_wait=_read_timeout(own))
                    else:
                        _wait_at_most(response, _read_timeout(own))
                except Exception as error:
                    exchange.failed(error, unsent=_never_sent(error))
                    raise
            exchange.judge(response, status=response.status_code, headers=response.headers)
            return response

        try:
            return guard.run(attempt)
        except StatusError as error:
            answer: requests.Response = error.response
            return answer


def _timeout(given: Any) -> Timeout:
    """What requests takes as a timeout, as urllib3 takes it."""
    if isinstance(given, Timeout):
        return given
    connect, read = given if isinstance(given, tuple) else (given, given)
    return Timeout(connect=connect, read=read)


def _limited(own: Timeout, guard: Guard) -> Timeout:
    limited = own.clone()
    left = seconds_left(guard)
    # Connecting and waiting for the headers share it.
    limited.total = min(limited.total, left) if isinstance(limited.total, int | float) else left
    return limited


def _read_timeout(own: Timeout) -> float | None:
    started = own.clone()
    started.start_connect()
    return started.read_timeout


def _wait_at_most(response: requests.Response, seconds: float | None) -> None:
    """For each read from now on. A connection of another kind keeps the timeout it has."""
    with suppress(AttributeError):
        _socket_of(response.raw).settimeout(seconds)


def _read(response: requests.Response, guard: Guard, *, longest_wait: float | None) -> None:
    """Replace the connection by what came from it, undecoded, and give it back."""
    raw, request = response.raw, response.request
    body = BytesIO()
    try:
        for part in _parts(response, guard, longest_wait=longest_wait):
            body.write(part)
    # As requests calls them, except for the first, which it calls ConnectionError once the headers have come.
    except ReadTimeoutError as error:
        raise requests.ReadTimeout(error, request=request) from error
    except ProtocolError as error:
        raise requests.exceptions.ChunkedEncodingError(error, request=request) from error
    except SSLError as error:
        raise requests.exceptions.SSLError(error, request=request) from error
    finally:
        response.close()
    body.seek(0)
    response.raw = HTTPResponse(
        body=body,
        headers=raw.headers,
        status=raw.status,
        version=raw.version,
        reason=raw.reason,
        preload_content=False,
        decode_content=False,
        # Holds the cookies.
        original_response=raw._original_response,
        request_method=request.method,
    )


def _parts(response: requests.Response, guard: Guard, *, longest_wait: float | None) -> Iterator[bytes]:
    while True:
        left = seconds_left(guard)
        _wait_at_most(response, left if longest_wait is None else min(left, longest_wait))
        # What stream() gives is complete parts, and it waits for them as long as it takes.
        part = response.raw.read1(_PART, decode_content=False)
        if not part:
            return
        yield part
        # A socket's timeout begins anew with each part. What trickles must not outstay the attempt.
        if guard.remaining() <= 0:
            raise requests.ReadTimeout(
                "the answer was not complete in time", request=response.request
            ) from TimeoutError()


def _never_sent(error: Exception) -> bool:
    """Whether there was no connection to send the request on."""
    cause = error.args[0] if error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, ConnectTimeoutError | NewConnectionError)
