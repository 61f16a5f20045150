"""aiohttp's client, guarded: a middleware for its sessions, for one dependency. Needs aiohttp 3.12.6 or newer."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import aiohttp
from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse
from aiohttp.base_protocol import BaseProtocol

from shoal import Guard
from shoal.guard import TIMEOUT_HEADER

from ._http import Exchange, StatusError, checked, is_read

__all__ = ["guard_middleware"]

_NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)

# The last request in this task that failed in a way which makes the session send it once more by itself.
_LAST: ContextVar[tuple[ClientRequest, aiohttp.ClientError] | None] = ContextVar("shoal_aiohttp_last", default=None)


def guard_middleware(guard: Guard, *, read_body: bool = True) -> ClientMiddlewareType:
    """Every request of a session, called the way the dependency should be called.

    An answer of 500 and above, 408 or 429 is a failed attempt, and so is one without an answer; `classify` is asked
    about an exception with that `response`. After the last attempt the caller gets the last answer, whatever its
    status, or aiohttp's own exception; `raise_for_status` sees that answer only. `DeadlineExceededError` and
    `CallRejectedError` of the guard's are raised through the session.

    POST, PATCH and other methods that are not idempotent are repeated only if no connection was made, unless the
    request has an `Idempotency-Key`; a body of unknown size, from a generator or a pipe, is sent once. Such a request
    has the guard's timeout for all its attempts together, since one that was cut short may have arrived. A guard with
    `idempotent=False` forbids more. The other side is told in `Shoal-Timeout-Ms` how long it may take; if it answers a
    failure with `Shoal-Retry: no`, that is final.

    *read_body* says whether the body belongs to the attempt. With False, for answers that are streamed, only the
    headers do: `session.get(url, middlewares=(guard_middleware(guard, read_body=False),))` does so for one request.
    The session's own timeouts count for all attempts together. Raises TypeError if *guard* is no guard.

    >>> middleware = guard_middleware(Guard("auth", timeout=0.5))
    >>> async def introspect(token: str) -> str:
    ...     async with aiohttp.ClientSession("http://auth", middlewares=(middleware,)) as session:
    ...         async with session.get("/token") as response:
    ...             return await response.text()
    """
    checked(guard)

    async def middleware(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        _raise_again(request)
        exchange = Exchange(guard, method=request.method, headers=request.headers, replayable=_is_replayable(request))
        own = request.headers.get(TIMEOUT_HEADER)

        async def attempt() -> ClientResponse:
            request.headers.update(exchange.begin())
            try:
                response = await handler(request)
                if is_read(response.status, read_body=read_body):
                    await _read(response)
            except Exception as error:
                exchange.failed(error, unsent=isinstance(error, _NEVER_SENT))
                raise
            exchange.judge(response, status=response.status, headers=response.headers)
            return response

        try:
            with exchange.in_all():
                return await guard.arun(attempt)
        except StatusError as error:
            answer: ClientResponse = error.response
            return answer
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            _LAST.set((request, error))
            raise
        finally:
            # The request outlives its attempts, and is shown to the caller as request_info.
            request.headers.pop(TIMEOUT_HEADER, None)
            if own is not None:
                request.headers[TIMEOUT_HEADER] = own

    return middleware


def _is_replayable(request: ClientRequest) -> bool:
    # aiohttp rewinds a file, and keeps what it has the size of.
    body = request.body
    return not body or body.size is not None


async def _read(response: ClientResponse) -> None:
    """Keep the body and give the connection back. Who reads from `content` is to find the body there all the same."""
    body = await response.read()
    if body:
        loop = asyncio.get_running_loop()
        response.content = aiohttp.StreamReader(BaseProtocol(loop), len(body), loop=loop)
        response.content.feed_data(body)
        response.content.feed_eof()


def _raise_again(request: ClientRequest) -> None:
    """End the second round that a session makes by itself after a lost connection: the guard has repeated it enough.

    The session comes back with a new request, and with the timer that all requests of one call share.
    """
    last = _LAST.get()
    if last is None:
        return
    # It keeps the frames of the error alive.
    _LAST.set(None)
    before, error = last
    if before is not request and before._timer is request._timer:
        raise error
