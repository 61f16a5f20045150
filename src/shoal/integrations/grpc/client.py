"""Channels, guarded: each unary call in as many attempts as the guard makes, each stream with the caller's deadline."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from typing import Any

import grpc
import grpc.aio

from shoal import Guard, deadline, remaining

from ._pushback import PREVIOUS_ATTEMPTS, heed

__all__ = ["AioGuardInterceptor", "GuardInterceptor", "aio_interceptors"]

# Seconds that an RPC of grpc.aio ends before the guard would cut it, and the share of its time they are at most.
_HEAD_START = 0.02
_LARGEST_SHARE = 0.1


class GuardInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Every call through a channel, made the way its server should be called.

    Give the guard `classify=classify_grpc`, or a NOT_FOUND counts as a failure. The timeout of a call is for all its
    attempts together; one attempt has what the guard leaves of it, and the server is told by gRPC itself. The caller
    gets the `RpcError` of the last attempt, or `BreakerOpenError` and its kin. Retries carry
    `grpc-previous-rpc-attempts`; a server that answers a failure with `grpc-retry-pushback-ms` is obeyed.

    A `future()` must not wait, so it is one attempt: it counts, an open breaker refuses it, and it is not repeated.
    Streams are not guarded, since no attempt can be told from the next: they get no more time than the surrounding
    `shoal.deadline` leaves, and are not held to the guard's timeout, which a stream may well outlive. Raises TypeError
    if *guard* is no guard.

    >>> from shoal.guard import Guard, classify_grpc
    >>> guard = Guard("ledger", timeout=0.5, classify=classify_grpc)
    >>> channel = grpc.insecure_channel("ledger:50051", options=[("grpc.enable_retries", 0)])
    >>> channel = grpc.intercept_channel(channel, GuardInterceptor(guard))
    >>> channel.close()
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = _checked(guard)

    def intercept_unary_unary(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        """Make one call. Returns the call of its last attempt, as gRPC asks for."""
        if _returns_at_once(continuation):
            return self._begin(continuation, client_call_details, request)
        guard = self._guard
        begun = 0

        def attempt() -> Any:
            nonlocal begun
            details = _CallDetails(client_call_details, timeout=guard.remaining(), previous_attempts=begun)
            begun += 1
            call = continuation(details, request)
            try:
                call.result()
            except grpc.RpcError as error:
                heed(error)
                raise
            return call

        try:
            with _within(client_call_details.timeout):
                return guard.run(attempt)
        except grpc.RpcError as error:
            if isinstance(error, grpc.Future):
                # gRPC's errors are calls as well, and interceptors outside of this one expect to be given a call.
                return error
            raise

    def _begin(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        """One attempt that goes on after this returns, and ends in a thread of gRPC's."""
        block = self._guard.call()
        # The request that is charged with a failure is known in the caller's context, not in gRPC's thread.
        context = copy_context()
        block.__enter__()
        try:
            call = continuation(_CallDetails(details, timeout=_shorter(details.timeout, block.remaining())), request)
        except BaseException:
            block.__exit__(*sys.exc_info())
            raise

        def ended(call: Any) -> None:
            error = None
            if call.cancelled():
                block.ignore()
            else:
                error = call.exception()
            if error is not None:
                heed(error)
            context.run(block.__exit__, type(error) if error else None, error, None)

        call.add_done_callback(ended)
        return call

    def _stream(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        """Open one stream."""
        timeout = _shorter(client_call_details.timeout, remaining())
        return continuation(_CallDetails(client_call_details, timeout=timeout), request)

    intercept_unary_stream = _stream
    intercept_stream_unary = _stream
    intercept_stream_stream = _stream


class AioGuardInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """Every unary call through a channel of `grpc.aio`, made the way its server should be called.

    As `GuardInterceptor`, and a call that is cancelled cancels its RPC. An RPC gets 20 ms less than the guard leaves,
    at most a tenth of it less, so that an attempt which takes too long ends as `DEADLINE_EXCEEDED` with what the server
    had to say; only where the event loop is too busy for that the guard ends it with `DeadlineExceededError`.

    This one is for unary calls alone, because `grpc.aio` uses an interceptor for one kind of call only: give a channel
    `aio_interceptors(guard)` if it has streams. Raises TypeError if *guard* is no guard.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = _checked(guard)

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        """Make one call. Returns the call of its last attempt, ended."""
        guard = self._guard
        begun = 0

        async def attempt() -> Any:
            nonlocal begun
            left = guard.remaining()
            timeout = max(left - _HEAD_START, left * (1 - _LARGEST_SHARE))
            details = _aio_details(client_call_details, timeout=timeout, previous_attempts=begun)
            begun += 1
            try:
                call = await continuation(details, request)
                await call
            except grpc.RpcError as error:
                heed(error)
                raise
            return call

        with _within(client_call_details.timeout):
            return await guard.arun(attempt)


def aio_interceptors(guard: Guard) -> list[grpc.aio.ClientInterceptor]:
    """All that a channel of `grpc.aio` needs: unary calls are guarded, streams get what the deadline leaves.

    >>> guard = Guard("ledger", timeout=0.5)
    >>> [type(interceptor).__name__ for interceptor in aio_interceptors(guard)][0]
    'AioGuardInterceptor'
    """
    return [AioGuardInterceptor(guard), _AioUnaryStream(), _AioStreamUnary(), _AioStreamStream()]


class _AioUnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_aio_stream(client_call_details), request)


class _AioStreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(_aio_stream(client_call_details), request_iterator)


class _AioStreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(_aio_stream(client_call_details), request_iterator)


def _aio_stream(details: Any) -> grpc.aio.ClientCallDetails:
    return _aio_details(details, timeout=_shorter(details.timeout, remaining()))


class _CallDetails(grpc.ClientCallDetails):
    """Those of the caller's, with another timeout."""

    def __init__(self, details: Any, *, timeout: float | None, previous_attempts: int = 0) -> None:
        self.method = details.method
        self.timeout = None if timeout == math.inf else timeout
        self.metadata = details.metadata
        self.credentials = details.credentials
        self.wait_for_ready = details.wait_for_ready
        self.compression = details.compression
        if previous_attempts:
            self.metadata = (*(details.metadata or ()), (PREVIOUS_ATTEMPTS, str(previous_attempts)))


def _aio_details(details: Any, *, timeout: float | None, previous_attempts: int = 0) -> grpc.aio.ClientCallDetails:
    metadata = details.metadata
    if previous_attempts:
        metadata = grpc.aio.Metadata(*(metadata or ()), (PREVIOUS_ATTEMPTS, str(previous_attempts)))
    return grpc.aio.ClientCallDetails(
        method=details.method,
        timeout=None if timeout == math.inf else timeout,
        metadata=metadata,
        credentials=details.credentials,
        wait_for_ready=details.wait_for_ready,
    )


def _checked(guard: Guard) -> Guard:
    if not isinstance(guard, Guard):
        raise TypeError(f"guard must be a shoal.Guard, got {guard!r}")
    return guard


def _returns_at_once(continuation: Callable[..., Any]) -> bool:
    # Nothing else tells `stub.Method.future()` from `stub.Method()` before the call is made. Should gRPC rename its
    # functions, futures will be guarded in full, and be done when the caller gets them.
    return ".future." in getattr(continuation, "__qualname__", "")


def _within(timeout: float | None) -> AbstractContextManager[None]:
    """The caller's timeout as the deadline of all attempts."""
    return nullcontext() if timeout is None else deadline(max(0.0, timeout))


def _shorter(timeout: float | None, seconds: float) -> float:
    return seconds if timeout is None else min(timeout, seconds)
