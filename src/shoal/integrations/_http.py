"""What the HTTP client integrations share: what an answer means, what may be repeated, and how long it may take.

First the rules, which know no client; then the two clients of the httpx family, which differ in name only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from shoal import DeadlineExceededError, Guard, deadline
from shoal.guard import RETRY_HEADER, TIMEOUT_HEADER, do_not_retry, forbids_retry, timeout_header

# RFC 9110, 9.2.2; QUERY came later and is safe. Of a method that is not known, the worst is assumed.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})
_IDEMPOTENCY_KEY = "Idempotency-Key"

_SWITCHING_PROTOCOLS = 101
_REQUEST_TIMEOUT = 408
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500

# To a socket, a timeout of 0 means not to wait at all, and urllib3 forbids it.
_SHORTEST = 0.001

Error = TypeVar("Error", bound=Exception)


class StatusError(Exception):
    """An answer that is a failure, on its way through the guard, which reads its status and its Retry-After.

    Never reaches the caller, who gets the *response* itself.
    """

    def __init__(self, response: Any, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.response = response


class Exchange:
    """One request under a guard: what every attempt of it sends along, and which of its failures may be repeated.

    A request that is not *replayable*, because its body can be read only once, gets one attempt. One whose method is
    not idempotent is repeated only after an error that proves that it was not sent, unless an `Idempotency-Key`
    says that the other side will notice.
    """

    def __init__(self, guard: Guard, *, method: str, headers: Mapping[str, str], replayable: bool) -> None:
        self._guard = guard
        self._replayable = replayable
        self._idempotent = method.upper() in _IDEMPOTENT or _IDEMPOTENCY_KEY in headers
        self._may_have_arrived = False

    def begin(self) -> dict[str, str]:
        """Begin an attempt: the headers that it adds to the request.

        Raises DeadlineExceededError if an attempt before it was cut short and may have arrived. The deadline of
        `in_all` keeps the guard from asking for another; a payment must not depend on two clocks agreeing.
        """
        if self._may_have_arrived:
            raise _final(DeadlineExceededError(self._guard.name, timeout=self._guard.timeout))
        self._may_have_arrived = not self._may_repeat(unsent=False)
        value = timeout_header(self._guard.remaining())
        return {} if value is None else {TIMEOUT_HEADER: value}

    def judge(self, response: Any, *, status: int, headers: Mapping[str, str]) -> None:
        """Raise StatusError for an answer that is a failure."""
        if is_failure(status):
            # Without a name: a frame and the traceback of an error in it keep each other alive, and so the response.
            if self._may_repeat(unsent=False) and not forbids_retry(headers.get(RETRY_HEADER)):
                raise StatusError(response, status)
            raise _final(StatusError(response, status))

    def failed(self, error: Exception, *, unsent: bool) -> None:
        """Mark an error that must not be followed by another attempt."""
        if self._may_repeat(unsent=unsent):
            self._may_have_arrived = False
        else:
            do_not_retry(error)

    def in_all(self) -> AbstractContextManager[None]:
        """What goes around all attempts where the guard can cut one short.

        Such an attempt leaves no error to mark, and the request may have arrived. So its deadline is the deadline of
        the whole exchange: past it, no guard begins another attempt.
        """
        return nullcontext() if self._may_repeat(unsent=False) else deadline(self._guard.remaining())

    def _may_repeat(self, *, unsent: bool) -> bool:
        return self._replayable and (self._idempotent or unsent)


def _final(error: Error) -> Error:
    do_not_retry(error)
    return error


def is_failure(status: int) -> bool:
    """Whether an answer is a failure of the dependency's, as `classify_default` sees it."""
    return status >= _SERVER_ERROR or status in {_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS}


def is_read(status: int, *, read_body: bool) -> bool:
    """Whether the body is read inside the attempt.

    That of a failure always is: it is short, and its connection is free again before the next attempt. What follows
    101 is no body.
    """
    return is_failure(status) or (read_body and status != _SWITCHING_PROTOCOLS)


def seconds_left(guard: Guard) -> float:
    """What a client can be given as a timeout."""
    return max(guard.remaining(), _SHORTEST)


def checked(guard: Guard) -> Guard:
    """The guard, or TypeError: a dependency is easily taken for its guard."""
    if not isinstance(guard, Guard):
        raise TypeError(f"guard must be a shoal.Guard, such as the .guard of a dependency, got {guard!r}")
    return guard


class Timeouts(Mapping[str, float | None]):
    """The timeouts of an httpx request, none longer than what is left of the attempt when it is looked up.

    Looked up at the beginning of each phase: a connection that took long to make leaves less time to read from it.
    After `release` they are the caller's own again, for a body that is read outside of the attempt.
    """

    _PHASES = ("connect", "read", "write", "pool")

    def __init__(self, own: Mapping[str, float | None], guard: Guard) -> None:
        self._own = own
        self._guard: Guard | None = guard

    def __getitem__(self, phase: str) -> float | None:
        if phase not in self._PHASES:
            raise KeyError(phase)
        own = self._own.get(phase)
        if self._guard is None:
            return own
        left = seconds_left(self._guard)
        return left if own is None else min(own, left)

    def __iter__(self) -> Iterator[str]:
        return iter(self._PHASES)

    def __len__(self) -> int:
        return len(self._PHASES)

    def release(self) -> None:
        """The attempt is over."""
        self._guard = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """The names that httpx and httpx2 have in common. Untyped, since neither need be installed."""

    byte_stream: Any
    request: Any
    read_timeout: Any
    never_sent: tuple[type[Exception], ...]

    def exchange(self, guard: Guard, request: Any) -> Exchange:
        """For this request."""
        # Any other stream is read only once, or sends what is left of it when it is read again: a generator, a file.
        replayable = isinstance(request.stream, self.byte_stream)
        return Exchange(guard, method=request.method, headers=request.headers, replayable=replayable)

    def attempt(self, request: Any, headers: Mapping[str, str], timeouts: Timeouts) -> Any:
        """A copy of the request: the caller's own must not keep what belongs to one attempt."""
        copy = self.request(
            request.method,
            request.url,
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "timeout": timeouts},
        )
        copy.headers.update(headers)
        return copy


def send(family: Family, transport: Any, guard: Guard, request: Any, *, read_body: bool) -> Any:
    """The answer to a request of a synchronous client of the httpx family."""
    exchange = family.exchange(guard, request)

    def attempt() -> Any:
        timeouts = Timeouts(request.extensions.get("timeout", {}), guard)
        # Makes guard.remaining() what is left of this attempt.
        with deadline(guard.remaining()):
            try:
                response = transport.handle_request(family.attempt(request, exchange.begin(), timeouts))
                if is_read(response.status_code, read_body=read_body):
                    _read(family, response, guard)
            except Exception as error:
                exchange.failed(error, unsent=isinstance(error, family.never_sent))
                raise
        timeouts.release()
        exchange.judge(response, status=response.status_code, headers=response.headers)
        return response

    try:
        return guard.run(attempt)
    except StatusError as error:
        return error.response


async def asend(family: Family, transport: Any, guard: Guard, request: Any, *, read_body: bool) -> Any:
    """The answer to a request of an asynchronous client of the httpx family."""
    exchange = family.exchange(guard, request)

    async def attempt() -> Any:
        timeouts = Timeouts(request.extensions.get("timeout", {}), guard)
        try:
            response = await transport.handle_async_request(family.attempt(request, exchange.begin(), timeouts))
            if is_read(response.status_code, read_body=read_body):
                await _aread(family, response)
        except Exception as error:
            exchange.failed(error, unsent=isinstance(error, family.never_sent))
            raise
        timeouts.release()
        exchange.judge(response, status=response.status_code, headers=response.headers)
        return response

    try:
        with exchange.in_all():
            return await guard.arun(attempt)
    except StatusError as error:
        return error.response


def _read(family: Family, response: Any, guard: Guard) -> None:
    """Replace the stream by what it holds, undecoded, and give the connection back."""
    stream = response.stream
    parts = []
    try:
        for part in stream:
            parts.append(part)
            # A client's timeout begins anew with each part. What trickles must not outstay the attempt.
            if guard.remaining() <= 0:
                raise family.read_timeout("the answer was not complete in time") from TimeoutError()
    finally:
        stream.close()
    response.stream = family.byte_stream(b"".join(parts))


async def _aread(family: Family, response: Any) -> None:
    stream = response.stream
    try:
        parts = [part async for part in stream]
    finally:
        await stream.aclose()
    response.stream = family.byte_stream(b"".join(parts))
