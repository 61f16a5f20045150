"""Servers whose handlers know how long their client waits, asked by real clients."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest

import shoal
from shoal.guard import Backoff, Guard, classify_grpc
from shoal.integrations.grpc import AioDeadlineInterceptor, DeadlineInterceptor, GuardInterceptor

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
NO_RETRIES = [("grpc.enable_retries", 0)]
PUSHBACK = "grpc-retry-pushback-ms"

# gRPC rounds the time it sends up.
SLACK = 0.05

Serve = Callable[..., Any]


class Late(grpc.ServerInterceptor):
    """Stands for a long queue: lets the client's time pass, then calls the handler."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None
        self.ended = threading.Event()

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)

        def late(request: bytes, context: Any) -> Any:
            while context.time_remaining() > 0:
                self.ended.wait(context.time_remaining())
            try:
                answer = handler.unary_unary(request, context)
            finally:
                self.code = context.code()
                self.ended.set()
            return answer

        return grpc.unary_unary_rpc_method_handler(late)


def retried() -> Any:
    """Raises an error that a guard has retried."""
    guard = Guard("database", timeout=1.0, attempts=2, budget=None, backoff=Backoff(initial=0.001))

    def refuse() -> None:
        raise ConnectionRefusedError("no database")

    return guard.run(refuse)


def fails_for_good(request: bytes, context: Any) -> bytes:
    retried()
    return request


def aborts(request: bytes, context: Any) -> bytes:
    try:
        retried()
    except ConnectionRefusedError:
        context.abort(UNAVAILABLE, "no database")
    return request


def aborts_with_status(request: bytes, context: Any) -> bytes:
    try:
        retried()
    except ConnectionRefusedError:
        context.abort_with_status(Status((("ledger", "closed"),)))
    return request


def fails_once(request: bytes, context: Any) -> bytes:
    raise ConnectionResetError


class Status(grpc.Status):
    code = UNAVAILABLE
    details = "no database"

    def __init__(self, trailing_metadata: Any) -> None:
        self.trailing_metadata = trailing_metadata


def trailing_of(error: Any) -> dict[str, str]:
    return dict(tuple(error.value.trailing_metadata() or ()))


@pytest.fixture
def connect() -> Iterator[Callable[..., grpc.Channel]]:
    channels = []

    def make(ledger: Any, guard: Guard | None = None) -> grpc.Channel:
        channel = grpc.insecure_channel(ledger.target, options=NO_RETRIES)
        channels.append(channel)
        return channel if guard is None else grpc.intercept_channel(channel, GuardInterceptor(guard))

    yield make
    for channel in channels:
        channel.close()


class TestSync:
    def test_a_handler_has_what_its_client_waits(self, serve_with: Serve, connect: Any) -> None:
        ledger, left = serve_with(DeadlineInterceptor()), []
        guard = Guard("database", timeout=5.0)

        def note(request: bytes, context: Any) -> bytes:
            left.append((shoal.remaining(), guard.remaining()))
            return request

        ledger.script = [note, note]
        ask = connect(ledger).unary_unary("/Ledger/Once")
        ask(b"", timeout=2.0)
        ask(b"")

        assert 1.5 < left[0][0] < 2.0 + SLACK
        assert left[0][1] <= left[0][0]
        assert left[1] == (math.inf, 5.0)

    def test_what_comes_too_late_is_not_begun(self, serve_with: Serve, connect: Any) -> None:
        late = Late()
        ledger = serve_with(late, DeadlineInterceptor())

        with pytest.raises(grpc.RpcError) as error:
            connect(ledger).unary_unary("/Ledger/Once")(b"", timeout=0.05)
        assert late.ended.wait(5.0)

        assert error.value.code() is late.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert ledger.seen == []

    @pytest.mark.parametrize(
        ("kind", "method", "request_"),
        [
            pytest.param("unary_stream", "/Ledger/Many", b"ab", id="unary-stream"),
            pytest.param("stream_unary", "/Ledger/OnceOfMany", [b"a", b"b"], id="stream-unary"),
            pytest.param("stream_stream", "/Ledger/ManyOfMany", [b"a", b"b"], id="stream-stream"),
        ],
    )
    def test_streams_have_it_too(self, serve_with: Serve, connect: Any, kind: str, method: str, request_: Any) -> None:
        ledger, left = serve_with(DeadlineInterceptor()), []

        def note(request: bytes, context: Any) -> bytes:
            left.append(shoal.remaining())
            return request

        ledger.script = [note]
        ask = getattr(connect(ledger), kind)(method)
        answers = ask(iter(request_) if isinstance(request_, list) else request_, timeout=2.0)

        assert (answers if kind == "stream_unary" else b"".join(answers)) in {b"ab", b"abab"}
        assert 1.5 < left[0] < 2.0 + SLACK

    def test_between_two_answers_of_a_stream_nothing_is_set(self) -> None:
        """A generator that is left alone may be closed by whoever collects it."""

        def answers(request: bytes, context: Any) -> Iterator[float]:
            yield shoal.remaining()
            yield shoal.remaining()

        handler = grpc.unary_stream_rpc_method_handler(answers)
        wrapped = DeadlineInterceptor().intercept_service(lambda details: handler, None)
        stream = wrapped.unary_stream(b"", SimpleNamespace(time_remaining=lambda: 2.0))

        assert next(stream) <= 2.0
        assert shoal.remaining() == math.inf
        assert next(stream) <= 2.0
        stream.close()
        assert shoal.remaining() == math.inf

    @pytest.mark.parametrize("handler", [fails_for_good, aborts], ids=["raises", "aborts"])
    @pytest.mark.parametrize("method", ["/Ledger/Once", "/Ledger/Many"])
    def test_what_was_retried_here_is_not_to_be_retried_there(
        self, serve_with: Serve, connect: Any, handler: Any, method: str
    ) -> None:
        ledger = serve_with(DeadlineInterceptor())
        ledger.script = [handler]
        channel = connect(ledger)
        ask = channel.unary_unary(method) if method == "/Ledger/Once" else channel.unary_stream(method)

        with pytest.raises(grpc.RpcError) as error:
            b"".join(ask(b""))

        assert trailing_of(error) == {PUSHBACK: "-1"}

    def test_what_was_not_retried_may_be(self, serve_with: Serve, connect: Any) -> None:
        ledger = serve_with(DeadlineInterceptor())
        ledger.script = [fails_once, UNAVAILABLE]
        ask = connect(ledger).unary_unary("/Ledger/Once")

        for _ in range(2):
            with pytest.raises(grpc.RpcError) as error:
                ask(b"")
            assert PUSHBACK not in trailing_of(error)

    @pytest.mark.parametrize(
        ("own", "sent"),
        [
            pytest.param((("ledger", "closed"),), {"ledger": "closed", PUSHBACK: "-1"}, id="other-metadata"),
            pytest.param(((PUSHBACK, "50"),), {PUSHBACK: "50"}, id="a-pushback-of-its-own"),
        ],
    )
    def test_metadata_that_the_handler_has_set_stays(
        self, serve_with: Serve, connect: Any, own: Any, sent: dict[str, str]
    ) -> None:
        def fails(request: bytes, context: Any) -> bytes:
            context.set_trailing_metadata(own)
            return fails_for_good(request, context)

        ledger = serve_with(DeadlineInterceptor())
        ledger.script = [fails]

        with pytest.raises(grpc.RpcError) as error:
            connect(ledger).unary_unary("/Ledger/Once")(b"")

        assert trailing_of(error) == sent

    def test_three_services_in_a_row_make_three_attempts_and_not_nine(self, serve_with: Serve, connect: Any) -> None:
        settings: Any = {"timeout": 5.0, "attempts": 3, "budget": None, "classify": classify_grpc}
        settings["backoff"] = Backoff(initial=0.001)
        back, middle = serve_with(DeadlineInterceptor()), serve_with(DeadlineInterceptor())
        ask_back = connect(back, Guard("back", **settings)).unary_unary("/Ledger/Once")
        ask_middle = connect(middle, Guard("middle", **settings)).unary_unary("/Ledger/Once")
        back.script = [UNAVAILABLE] * 20
        middle.script = [lambda request, context: ask_back(request)] * 20

        with pytest.raises(grpc.RpcError):
            ask_middle(b"")

        assert (len(middle.seen), len(back.seen)) == (1, 3)
        assert back.seen[-1].metadata["grpc-previous-rpc-attempts"] == "2"

    def test_a_method_that_is_not_there_is_not_there(self, serve_with: Serve, connect: Any) -> None:
        with pytest.raises(grpc.RpcError) as error:
            connect(serve_with(DeadlineInterceptor())).unary_unary("/Ledger/Nothing")(b"")

        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED

    def test_the_rest_of_a_handler_stays_as_it_was(self) -> None:
        def once(request: int, context: Any) -> str:
            return str(request)

        once.experimental_thread_pool = "a pool"
        handler = grpc.unary_unary_rpc_method_handler(once, request_deserializer=int, response_serializer=str.encode)

        wrapped = DeadlineInterceptor().intercept_service(lambda details: handler, None)

        assert (wrapped.request_streaming, wrapped.response_streaming) == (False, False)
        assert (wrapped.request_deserializer, wrapped.response_serializer) == (int, str.encode)
        assert wrapped.unary_unary.experimental_thread_pool == "a pool"
        assert (wrapped.unary_stream, wrapped.stream_unary, wrapped.stream_stream) == (None, None, None)

    def test_a_handler_that_sends_by_itself_is_left_alone(self) -> None:
        def send(request: bytes, context: Any, send_response: Any) -> None:
            send_response(None)

        send.experimental_non_blocking = True
        handler = grpc.unary_stream_rpc_method_handler(send)

        assert DeadlineInterceptor().intercept_service(lambda details: handler, None).unary_stream is send


class AioLedger:
    """One method of each way to write a handler for grpc.aio. *act* is what each of them does first."""

    def __init__(self) -> None:
        self.left: list[float] = []
        self.error: Callable[[], Any] | None = None
        self.own: Any = None
        self.port = 0

    def note(self) -> None:
        self.left.append(shoal.remaining())
        if self.error is not None:
            self.error()

    async def coroutine(self, request: bytes, context: Any) -> bytes:
        if self.own is not None:
            context.set_trailing_metadata(self.own)
        self.note()
        return request

    def function(self, request: bytes, context: Any) -> bytes:
        self.note()
        return request

    async def generator(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.note()
        yield request
        self.note()
        yield request

    def plain_generator(self, request: bytes, context: Any) -> Iterator[bytes]:
        self.note()
        yield request
        self.note()
        yield request

    async def writer(self, request: bytes, context: Any) -> None:
        self.note()
        await context.write(request)
        self.note()
        await context.write(request)

    async def collector(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        collected = b"".join([request async for request in requests])
        self.note()
        return collected

    async def echo(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            self.note()
            yield request

    async def aborts(self, request: bytes, context: Any) -> bytes:
        if self.own is not None:
            context.set_trailing_metadata(self.own)
        try:
            self.note()
        except ConnectionError:
            await context.abort(UNAVAILABLE, "no database")
        return request

    async def aborts_with(self, request: bytes, context: Any) -> bytes:
        try:
            self.note()
        except ConnectionError:
            await context.abort_with_status(Status((("ledger", "closed"),)))
        return request

    def function_that_aborts(self, request: bytes, context: Any) -> bytes:
        try:
            self.note()
        except ConnectionError:
            context.abort(UNAVAILABLE, "no database")
        return request


@asynccontextmanager
async def asking(ledger: AioLedger, *interceptors: Any) -> AsyncIterator[grpc.aio.Channel]:
    once, many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    handlers = {
        "Coroutine": once(ledger.coroutine),
        "Function": once(ledger.function),
        "Generator": many(ledger.generator),
        "PlainGenerator": many(ledger.plain_generator),
        "Writer": many(ledger.writer),
        "Collector": grpc.stream_unary_rpc_method_handler(ledger.collector),
        "Echo": grpc.stream_stream_rpc_method_handler(ledger.echo),
        "Aborts": once(ledger.aborts),
        "AbortsWith": once(ledger.aborts_with),
        "FunctionThatAborts": once(ledger.function_that_aborts),
    }
    server = grpc.aio.server(
        handlers=[grpc.method_handlers_generic_handler("Ledger", handlers)],
        interceptors=[*interceptors, AioDeadlineInterceptor()],
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=NO_RETRIES) as channel:
            yield channel
    finally:
        await server.stop(None)


async def answers_of(channel: grpc.aio.Channel, method: str, **settings: Any) -> list[bytes]:
    path = f"/Ledger/{method}"
    if method in {"Generator", "PlainGenerator", "Writer"}:
        return [answer async for answer in channel.unary_stream(path)(b"a", **settings)]
    if method == "Echo":
        # One after the other: a client that still writes when the call fails gets INTERNAL, of its own.
        call, answers = channel.stream_stream(path)(**settings), []
        for request in (b"a", b"b"):
            await call.write(request)
            answers.append(await call.read())
        await call.done_writing()
        return answers
    if method == "Collector":
        return [await channel.stream_unary(path)(iter([b"a", b"b"]), **settings)]
    return [await channel.unary_unary(path)(b"a", **settings)]


class LateAio(grpc.aio.ServerInterceptor):
    """Stands for a busy loop: lets the client's time pass, then calls the handler."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None
        self.ended = asyncio.Event()

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)

        async def late(request: bytes, context: Any) -> Any:
            # gRPC cancels the handler when the client gives up; this one cannot be.
            task = asyncio.create_task(self._call(handler, request, context))
            return await asyncio.shield(task)

        return grpc.unary_unary_rpc_method_handler(late)

    async def _call(self, handler: Any, request: bytes, context: Any) -> Any:
        # Twice: a sleep may end a little early.
        await asyncio.sleep(context.time_remaining())
        await asyncio.sleep(context.time_remaining() + 0.001)
        try:
            return await handler.unary_unary(request, context)
        except grpc.aio.AbortError:
            return b""
        finally:
            self.code = context.code()
            self.ended.set()


class TestAio:
    @pytest.mark.parametrize(
        ("method", "expected"),
        [
            ("Coroutine", [b"a"]),
            ("Function", [b"a"]),
            ("Generator", [b"a", b"a"]),
            ("PlainGenerator", [b"a", b"a"]),
            ("Writer", [b"a", b"a"]),
            ("Collector", [b"ab"]),
            ("Echo", [b"a", b"b"]),
        ],
    )
    async def test_a_handler_of_any_kind_has_what_its_client_waits(self, method: str, expected: list[bytes]) -> None:
        ledger = AioLedger()
        async with asking(ledger) as channel:
            assert await answers_of(channel, method, timeout=2.0) == expected
            assert await answers_of(channel, method) == expected

        half = len(ledger.left) // 2
        assert all(1.5 < left < 2.0 + SLACK for left in ledger.left[:half])
        assert ledger.left[half:] == [math.inf] * half

    async def test_what_comes_too_late_is_not_begun(self) -> None:
        ledger, late = AioLedger(), LateAio()
        async with asking(ledger, late) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await answers_of(channel, "Coroutine", timeout=0.05)
            await asyncio.wait_for(late.ended.wait(), 5.0)

        assert error.value.code() is late.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert ledger.left == []

    @pytest.mark.parametrize(
        "method",
        [
            "Coroutine", "Function", "Generator", "PlainGenerator", "Writer", "Collector", "Echo", "Aborts",
            "FunctionThatAborts",
        ],
    )  # fmt: skip
    async def test_what_was_retried_here_is_not_to_be_retried_there(self, method: str) -> None:
        ledger = AioLedger()
        ledger.error = retried
        async with asking(ledger) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await answers_of(channel, method)

        assert trailing_of(error) == {PUSHBACK: "-1"}

    @pytest.mark.parametrize("method", ["Coroutine", "Generator", "Aborts", "AbortsWith", "FunctionThatAborts"])
    async def test_what_was_not_retried_may_be(self, method: str) -> None:
        ledger = AioLedger()
        ledger.error = lambda: fails_once(b"", None)
        async with asking(ledger) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await answers_of(channel, method)

        assert PUSHBACK not in trailing_of(error)

    @pytest.mark.parametrize("method", ["Coroutine", "Aborts", "AbortsWith"])
    async def test_metadata_that_the_handler_has_set_stays(self, method: str) -> None:
        ledger = AioLedger()
        ledger.error, ledger.own = retried, (("ledger", "closed"),)
        async with asking(ledger) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await answers_of(channel, method)

        assert trailing_of(error) == {"ledger": "closed", PUSHBACK: "-1"}

    async def test_a_pushback_of_the_handlers_own_stays(self) -> None:
        ledger = AioLedger()
        ledger.error, ledger.own = retried, ((PUSHBACK, "50"),)
        async with asking(ledger) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await answers_of(channel, "Coroutine")

        assert trailing_of(error) == {PUSHBACK: "50"}

    async def test_a_method_that_is_not_there_is_not_there(self) -> None:
        async with asking(AioLedger()) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await answers_of(channel, "Nothing")

        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED

    async def test_a_stream_that_is_closed_closes_its_handler_at_once(self) -> None:
        closed = []

        async def answers(request: bytes, context: Any) -> AsyncIterator[float]:
            try:
                yield shoal.remaining()
            finally:
                closed.append(shoal.remaining())

        async def find(details: Any) -> Any:
            return grpc.unary_stream_rpc_method_handler(answers)

        wrapped = await AioDeadlineInterceptor().intercept_service(find, None)
        stream = wrapped.unary_stream(b"", SimpleNamespace(time_remaining=lambda: 2.0))

        assert await anext(stream) <= 2.0
        assert shoal.remaining() == math.inf
        await stream.aclose()

        assert closed == [math.inf]

    async def test_a_client_that_leaves_a_stream_ends_its_handler(self) -> None:
        ended = asyncio.Event()

        class Endless(AioLedger):
            async def generator(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
                try:
                    while True:
                        yield request
                        await asyncio.sleep(0)
                finally:
                    ended.set()

        async with asking(Endless()) as channel:
            call = channel.unary_stream("/Ledger/Generator")(b"a")
            assert await call.read() == b"a"
            call.cancel()

            await asyncio.wait_for(ended.wait(), 5.0)
