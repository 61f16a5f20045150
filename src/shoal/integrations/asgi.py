"""Any ASGI application, counted by journey, with the probes mounted in it. Needs no framework."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from shoal.guard import NO_RETRY, RETRY_HEADER, TIMEOUT_HEADER, timeout_from_header
from shoal.health import ProbeAnswer
from shoal.service import JourneyRequest, Service

__all__ = ["ASGIApp", "JourneyMiddleware", "Message", "ProbeRoutes", "Receive", "Scope", "Send"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_TIMEOUT_HEADER = TIMEOUT_HEADER.lower().encode()
_DO_NOT_RETRY = (RETRY_HEADER.lower().encode(), NO_RETRY.encode())

_PROBES = frozenset({"/livez", "/readyz", "/startupz", "/health"})


class JourneyMiddleware:
    """Counts every request of a journey at its end, with its outcome and its cause.

    Requests of no journey, websockets and lifespan pass through uncounted. Above the service's limit a request is
    answered 503 with `Retry-After` and does not reach *app*. A request whose client went away counts by the status that
    *app* had begun to send, and as failed when it had sent none. Routes are as *app* sees them, without a root path.

    A request that says in `Shoal-Timeout-Ms` how long its sender waits is served under that deadline, which guards
    obey; one whose time has passed is answered 504 and does not reach *app*. An answer of 500 and above for want of a
    dependency that was asked again already carries `Shoal-Retry: no`.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI says."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        timeout = timeout_from_header(_header(scope, _TIMEOUT_HEADER))
        request = self._service.begin(scope["method"], _path(scope), timeout=timeout)
        with self._service.deadline(timeout):
            if request is None:
                await self.app(scope, receive, send)
            elif request.late:
                await _refuse(send, 504, cause="deadline", why="its sender waits no longer")
            elif request.shed:
                why = "too many requests are being served; try again in a moment"
                await _refuse(send, 503, cause="overload", why=why, headers=[(b"retry-after", b"1")])
            else:
                await self._serve(request, scope, receive, send)

    async def _serve(self, request: JourneyRequest, scope: Scope, receive: Receive, send: Send) -> None:
        status: int | None = None
        gone = False

        async def watched(message: Message) -> None:
            nonlocal status, gone
            if message["type"] == "http.response.start":
                status = message["status"]
                if status >= 500 and request.must_not_be_repeated:
                    message = {**message, "headers": [*message.get("headers", ()), _DO_NOT_RETRY]}
            try:
                await send(message)
            except OSError:
                # So a server says that the client is gone (ASGI 2.4); what the application makes of it is no failure.
                gone = True
                raise

        try:
            await self.app(scope, receive, watched)
        except BaseException as error:
            request.end(status=status, error=None if gone else error)
            raise
        request.end(status=status)


class ProbeRoutes:
    """Answers `/livez`, `/readyz`, `/startupz` and `/health` on the application's own port as well.

    For callers that reach only that port. A busy event loop makes these late: point Kubernetes at the probe port of
    `Service.running` instead. Put it outside of `JourneyMiddleware`; every other path goes to *app*.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI says."""
        if scope["type"] == "http" and _path(scope) in _PROBES and scope["method"] in {"GET", "HEAD"}:
            query = scope.get("query_string", b"").decode("latin-1")
            answer = await self._service.aanswer(f"{_path(scope)}?{query}")
            if answer is not None:
                await _send(send, answer, head_only=scope["method"] == "HEAD")
                return
        await self.app(scope, receive, send)


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    # Servers and routers put the root path in front of the path; older servers do not.
    root: str = scope.get("root_path", "").rstrip("/")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


async def _refuse(
    send: Send, status: int, *, cause: str, why: str, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    answer = ProbeAnswer(status, json.dumps({"error": why, "cause": cause}).encode() + b"\n")
    await _send(send, answer, headers=headers)


async def _send(
    send: Send, answer: ProbeAnswer, *, head_only: bool = False, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    standard = [
        (b"content-type", answer.content_type.encode("latin-1")),
        (b"content-length", str(len(answer.body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": [*standard, *(headers or [])]})
    await send({"type": "http.response.body", "body": b"" if head_only else answer.body})
