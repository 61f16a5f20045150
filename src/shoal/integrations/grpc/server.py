"""Servers: the time that the client still waits becomes the deadline of the handler, and of the guards in it."""

from __future__ import annotations

import functools
import inspect
import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import grpc
import grpc.aio

from shoal import deadline

from ._pushback import with_pushback

__all__ = ["AioDeadlineInterceptor", "DeadlineInterceptor"]

_Behavior: TypeAlias = Callable[..., Any]

_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
_LATE = "the time for this call was over before it began"

# A year. gRPC says 292 thousand million of them where the client has set no timeout.
_NO_TIMEOUT = 3.2e7


class DeadlineInterceptor(grpc.ServerInterceptor):
    """Handlers know how long their client waits, and none is run for a client that has stopped waiting.

    Inside a handler, `shoal.remaining()` is what is left of the client's timeout, and guards obey it. A call that comes
    too late, from a queue in front of busy threads, is ended with `DEADLINE_EXCEEDED` and its handler is not run.

    A handler that raises, or aborts because of, an error that a guard has already retried tells the client so, with
    `grpc-retry-pushback-ms: -1`: one of the services in a row retries, not all. A handler that catches such an error
    and sets a code instead has to say so itself.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> server = grpc.server(ThreadPoolExecutor(8), interceptors=[DeadlineInterceptor()])
    """

    def intercept_service(self, continuation: Callable[..., Any], handler_call_details: Any) -> Any:
        """The handler of one call, wrapped; None if there is none."""
        handler = continuation(handler_call_details)
        return None if handler is None else _Handler(handler, unary=_unary, streaming=_streaming)


class AioDeadlineInterceptor(grpc.aio.ServerInterceptor):
    """Handlers of `grpc.aio` know how long their client waits, and none is run for a client that has stopped waiting.

    As `DeadlineInterceptor`, for handlers that are coroutines, asynchronous generators, or plain functions.
    """

    async def intercept_service(self, continuation: Callable[..., Any], handler_call_details: Any) -> Any:
        """The handler of one call, wrapped; None if there is none."""
        handler = await continuation(handler_call_details)
        return None if handler is None else _Handler(handler, unary=_aio_unary, streaming=_aio_streaming)


class _Handler(grpc.RpcMethodHandler):
    """A handler of which only the function is another one."""

    def __init__(
        self,
        handler: Any,
        *,
        unary: Callable[[_Behavior], _Behavior],
        streaming: Callable[[_Behavior], _Behavior],
    ) -> None:
        self.request_streaming = handler.request_streaming
        self.response_streaming = handler.response_streaming
        self.request_deserializer = handler.request_deserializer
        self.response_serializer = handler.response_serializer
        wrap = streaming if handler.response_streaming else unary
        for kind in _KINDS:
            behavior = getattr(handler, kind)
            setattr(self, kind, behavior and wrap(behavior))


def _unary(behavior: _Behavior) -> _Behavior:
    @functools.wraps(behavior)
    def handle(request: Any, context: Any) -> Any:
        if not _time_left(context):
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, _LATE)
        try:
            with deadline(_time_left(context)):
                return behavior(request, context)
        except Exception as error:
            _say_retried(context, error)
            raise

    return handle


def _streaming(behavior: _Behavior) -> _Behavior:
    if getattr(behavior, "experimental_non_blocking", False):
        # It is handed a function to send answers with, and returns none.
        return behavior

    @functools.wraps(behavior)
    def handle(request: Any, context: Any) -> Iterator[Any]:
        if not _time_left(context):
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, _LATE)
        try:
            with deadline(_time_left(context)):
                answers = behavior(request, context)
            while True:
                # Anew for each answer: between two of them this generator may be closed in another context.
                with deadline(_time_left(context)):
                    try:
                        answer = next(answers)
                    except StopIteration:
                        return
                yield answer
        except Exception as error:
            _say_retried(context, error)
            raise

    return handle


def _aio_unary(behavior: _Behavior) -> _Behavior:
    """Also for handlers that read and write streams themselves: they are coroutines too."""
    if not inspect.iscoroutinefunction(behavior):
        return _with_own_context(_unary(behavior))

    @functools.wraps(behavior)
    async def handle(request: Any, context: Any) -> Any:
        if not _time_left(context):
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, _LATE)
        try:
            with deadline(_time_left(context)):
                return await behavior(request, _Context(context))
        except Exception as error:
            _say_retried(context, error)
            raise

    return handle


def _aio_streaming(behavior: _Behavior) -> _Behavior:
    if inspect.iscoroutinefunction(behavior):
        return _aio_unary(behavior)
    if not inspect.isasyncgenfunction(behavior):
        return _with_own_context(_streaming(behavior))

    @functools.wraps(behavior)
    async def handle(request: Any, context: Any) -> AsyncIterator[Any]:
        if not _time_left(context):
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, _LATE)
        answers = behavior(request, _Context(context))
        try:
            while True:
                with deadline(_time_left(context)):
                    try:
                        answer = await anext(answers)
                    except StopAsyncIteration:
                        return
                yield answer
        except Exception as error:
            _say_retried(context, error)
            raise
        finally:
            await answers.aclose()

    return handle


def _with_own_context(handle: _Behavior) -> _Behavior:
    @functools.wraps(handle)
    def with_context(request: Any, context: Any) -> Any:
        return handle(request, _Context(context))

    return with_context


class _Context:
    """A context of `grpc.aio`, whose `abort` sends at once: the metadata must be complete before."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> Awaitable[None]:
        error = sys.exception()
        if trailing_metadata:
            trailing_metadata = with_pushback(trailing_metadata, error)
        elif error is not None:
            _say_retried(self._context, error)
        aborted: Awaitable[None] = self._context.abort(code, details, tuple(trailing_metadata))
        return aborted

    def abort_with_status(self, status: Any) -> Awaitable[None]:
        return self.abort(status.code, status.details, status.trailing_metadata or ())


def _time_left(context: Any) -> float:
    """Seconds that the client still waits; infinity if it has set no timeout."""
    left: float | None = context.time_remaining()
    return math.inf if left is None or left > _NO_TIMEOUT else left


def _say_retried(context: Any, error: BaseException) -> None:
    # The context that plain functions get from grpc.aio cannot be asked what is set.
    present = context.trailing_metadata() if hasattr(context, "trailing_metadata") else None
    metadata = with_pushback(present, error)
    if metadata is not present:
        context.set_trailing_metadata(metadata)
