"""httpx2, guarded: the transports of `shoal.integrations.httpx` for the maintained continuation of httpx."""

from __future__ import annotations

import httpx2

from shoal import Guard

from ._http import Family, asend, checked, send

__all__ = ["AsyncGuardTransport", "GuardTransport"]

_FAMILY = Family(
    byte_stream=httpx2.ByteStream,
    request=httpx2.Request,
    read_timeout=httpx2.ReadTimeout,
    never_sent=(httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout),
)


class GuardTransport(httpx2.BaseTransport):
    """Every request of a client, called the way the dependency should be called.

    All that `shoal.integrations.httpx.GuardTransport` says is true of it, with httpx2's exceptions.

    >>> answers = iter([503, 503, 200])
    >>> server = httpx2.MockTransport(lambda request: httpx2.Response(next(answers), text="hello"))
    >>> auth = Guard("auth", timeout=0.5)
    >>> with httpx2.Client(transport=GuardTransport(server, guard=auth)) as client:
    ...     client.get("http://auth/token"), auth.counters.attempts
    (<Response [200 OK]>, 3)
    """

    def __init__(self, transport: httpx2.BaseTransport, *, guard: Guard, read_body: bool = True) -> None:
        self._transport = transport
        self._guard = checked(guard)
        self._read_body = read_body

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request, in as many attempts as the guard makes."""
        response: httpx2.Response = send(_FAMILY, self._transport, self._guard, request, read_body=self._read_body)
        return response

    def close(self) -> None:
        """Close the transport inside."""
        self._transport.close()


class AsyncGuardTransport(httpx2.AsyncBaseTransport):
    """The same for `httpx2.AsyncClient`, where the guard ends an attempt in time, whatever the server does.

    All that `shoal.integrations.httpx.AsyncGuardTransport` says is true of it, with httpx2's exceptions.

    >>> import asyncio
    >>> server = httpx2.MockTransport(lambda request: httpx2.Response(503, headers={"Shoal-Retry": "no"}))
    >>> auth = Guard("auth", timeout=0.5)
    >>> async def ask() -> httpx2.Response:
    ...     async with httpx2.AsyncClient(transport=AsyncGuardTransport(server, guard=auth)) as client:
    ...         return await client.get("http://auth/token")
    >>> asyncio.run(ask()), auth.counters.attempts
    (<Response [503 Service Unavailable]>, 1)
    """

    def __init__(self, transport: httpx2.AsyncBaseTransport, *, guard: Guard, read_body: bool = True) -> None:
        self._transport = transport
        self._guard = checked(guard)
        self._read_body = read_body

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request, in as many attempts as the guard makes."""
        response: httpx2.Response = await asend(
            _FAMILY, self._transport, self._guard, request, read_body=self._read_body
        )
        return response

    async def aclose(self) -> None:
        """Close the transport inside."""
        await self._transport.aclose()
