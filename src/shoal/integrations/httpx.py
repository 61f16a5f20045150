"""httpx, guarded: transports that go around another, for one dependency. For httpx2 there is a module of its own."""

from __future__ import annotations

import httpx

from shoal import Guard

from ._http import Family, asend, checked, send

__all__ = ["AsyncGuardTransport", "GuardTransport"]

_FAMILY = Family(
    byte_stream=httpx.ByteStream,
    request=httpx.Request,
    read_timeout=httpx.ReadTimeout,
    never_sent=(httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout),
)


class GuardTransport(httpx.BaseTransport):
    """Every request of a client, called the way the dependency should be called.

    An answer of 500 and above, 408 or 429 is a failed attempt, and so is one without an answer; `classify` is asked
    about an exception with that `response`. After the last attempt the caller gets the last answer, whatever its
    status, or httpx's own exception. A `CallRejectedError` of the guard's is raised through the client.

    POST, PATCH and other methods that are not idempotent are repeated only if no connection was made, unless the
    request has an `Idempotency-Key`; a body from a generator, a file or a multipart form is sent once. A guard with
    `idempotent=False` forbids more. The other side is told in `Shoal-Timeout-Ms` how long it may take; if it answers a
    failure with `Shoal-Retry: no`, that is final. Leave the `retries` of `httpx.HTTPTransport` at 0, or each attempt
    becomes several.

    *read_body* says whether the body belongs to the attempt. With False, for clients that stream, only the headers do,
    and the body is under the request's own timeouts. Within the attempt none of those is longer than what the guard
    leaves of it; only a server that sends its headers byte by byte can outstay that. Raises TypeError if *guard* is no
    guard.

    >>> answers = iter([503, 503, 200])
    >>> server = httpx.MockTransport(lambda request: httpx.Response(next(answers), text="hello"))
    >>> auth = Guard("auth", timeout=0.5)
    >>> with httpx.Client(transport=GuardTransport(server, guard=auth)) as client:
    ...     client.get("http://auth/token"), auth.counters.attempts
    (<Response [200 OK]>, 3)
    """

    def __init__(self, transport: httpx.BaseTransport, *, guard: Guard, read_body: bool = True) -> None:
        self._transport = transport
        self._guard = checked(guard)
        self._read_body = read_body

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, in as many attempts as the guard makes."""
        response: httpx.Response = send(_FAMILY, self._transport, self._guard, request, read_body=self._read_body)
        return response

    def close(self) -> None:
        """Close the transport inside."""
        self._transport.close()


class AsyncGuardTransport(httpx.AsyncBaseTransport):
    """The same for `httpx.AsyncClient`, where the guard ends an attempt in time, whatever the server does.

    Raises `DeadlineExceededError` then, or httpx's own timeout, whichever is first. A request that must not be repeated
    has the guard's timeout for all its attempts together, since one that was cut short may have arrived.

    >>> import asyncio
    >>> server = httpx.MockTransport(lambda request: httpx.Response(503, headers={"Shoal-Retry": "no"}))
    >>> auth = Guard("auth", timeout=0.5)
    >>> async def ask() -> httpx.Response:
    ...     async with httpx.AsyncClient(transport=AsyncGuardTransport(server, guard=auth)) as client:
    ...         return await client.get("http://auth/token")
    >>> asyncio.run(ask()), auth.counters.attempts
    (<Response [503 Service Unavailable]>, 1)
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, *, guard: Guard, read_body: bool = True) -> None:
        self._transport = transport
        self._guard = checked(guard)
        self._read_body = read_body

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, in as many attempts as the guard makes."""
        response: httpx.Response = await asend(
            _FAMILY, self._transport, self._guard, request, read_body=self._read_body
        )
        return response

    async def aclose(self) -> None:
        """Close the transport inside."""
        await self._transport.aclose()
