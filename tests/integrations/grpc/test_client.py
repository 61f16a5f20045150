"""Channels whose calls are guarded, against a real server."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest

from shoal import Service, deadline
from shoal.errors import BreakerOpenError, DeadlineExceededError
from shoal.guard import BreakerSettings, Guard, classify_grpc
from shoal.integrations.grpc import AioGuardInterceptor, GuardInterceptor, aio_interceptors

UNAVAILABLE, NOT_FOUND = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND

MakeGuard = Callable[..., Guard]
NO_RETRIES = [("grpc.enable_retries", 0)]

# The server's clock may tick between the client's reading and its own, and gRPC rounds up.
SLACK = 0.05


class Pushback:
    """A failure with which the server says when to come back."""

    def __init__(self, value: str, code: grpc.StatusCode = UNAVAILABLE) -> None:
        self._value = value
        self._code = code

    def __call__(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("grpc-retry-pushback-ms", self._value),))
        context.abort(self._code, "pushed back")
        raise AssertionError


def until_given_up(request: bytes, context: grpc.ServicerContext) -> bytes:
    """Answers nothing until the client has stopped waiting."""
    given_up = threading.Event()
    if context.add_callback(given_up.set):
        given_up.wait()
    return request


def code_of(error: BaseException | pytest.ExceptionInfo[Any]) -> grpc.StatusCode:
    return (error.value if isinstance(error, pytest.ExceptionInfo) else error).code()


@pytest.fixture
def open_channel(ledger: Any) -> Iterator[Callable[..., grpc.Channel]]:
    channels = []

    def make(guard: Guard, *, options: Any = NO_RETRIES, outside: Any = (), inside: Any = ()) -> grpc.Channel:
        plain = grpc.insecure_channel(ledger.target, options=options)
        channels.append(plain)
        return grpc.intercept_channel(plain, *outside, GuardInterceptor(guard), *inside)

    yield make
    for channel in channels:
        channel.close()


@pytest.fixture
def open_aio_channel(ledger: Any) -> Callable[..., grpc.aio.Channel]:
    def make(guard: Guard, *, inside: Any = ()) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(
            ledger.target, options=NO_RETRIES, interceptors=[*aio_interceptors(guard), *inside]
        )

    return make


class TestUnary:
    def test_an_answer_comes_with_all_that_belongs_to_a_call(
        self, ledger: Any, make_guard: MakeGuard, open_channel: Any
    ) -> None:
        guard = make_guard()
        ask = open_channel(guard).unary_unary("/Ledger/Once")

        answer = ask(b"balance")
        same, call = ask.with_call(b"balance")

        assert answer == same == b"balance"
        assert call.code() is grpc.StatusCode.OK
        assert dict(call.initial_metadata()) == {"ledger-initial": "2"}
        assert not call.trailing_metadata()
        assert guard.counters.calls_success == 2

    def test_three_attempts_are_three_calls_and_the_caller_gets_the_last_error(
        self, ledger: Any, make_guard: MakeGuard, open_channel: Any
    ) -> None:
        ledger.script = [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, UNAVAILABLE]
        guard = make_guard(attempts=3)

        with pytest.raises(grpc.RpcError) as error:
            open_channel(guard).unary_unary("/Ledger/Once")(b"")

        assert len(ledger.seen) == 3
        assert code_of(error) is UNAVAILABLE
        assert error.value.details() == "step 3"
        assert dict(tuple(error.value.trailing_metadata())) == {"ledger-trailing": "3"}
        assert guard.counters.calls_exhausted == 1
        assert guard.counters.attempts == 3

    def test_a_failed_attempt_is_made_good_by_the_next(
        self, ledger: Any, make_guard: MakeGuard, open_channel: Any
    ) -> None:
        ledger.script = [UNAVAILABLE, b"5"]
        guard = make_guard()

        assert open_channel(guard).unary_unary("/Ledger/Once")(b"") == b"5"
        assert guard.counters.retries == 1

    def test_a_server_that_says_no_is_asked_once(self, ledger: Any, make_guard: MakeGuard, open_channel: Any) -> None:
        ledger.script = [NOT_FOUND]
        guard = make_guard()

        with pytest.raises(grpc.RpcError) as error:
            open_channel(guard).unary_unary("/Ledger/Once")(b"")

        assert code_of(error) is NOT_FOUND
        assert len(ledger.seen) == 1
        assert guard.counters.attempts_ok == 1

    @pytest.mark.parametrize(("options", "calls"), [(NO_RETRIES, 3), ([], 6)], ids=["switched-off", "left-on"])
    def test_retries_of_grpc_itself_multiply_unless_they_are_switched_off(
        self, ledger: Any, make_guard: MakeGuard, open_channel: Any, options: Any, calls: int
    ) -> None:
        ledger.script = [UNAVAILABLE] * 10
        policy = {
            "maxAttempts": 2, "initialBackoff": "0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }  # fmt: skip
        config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})

        channel = open_channel(make_guard(attempts=3), options=[*options, ("grpc.service_config", config)])
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/Ledger/Once")(b"")

        assert len(ledger.seen) == calls

    def test_metadata_is_handed_on_with_every_attempt_and_retries_say_so(
        self, ledger: Any, make_guard: MakeGuard, open_channel: Any
    ) -> None:
        ledger.script = [UNAVAILABLE, UNAVAILABLE, b"5"]

        open_channel(make_guard()).unary_unary("/Ledger/Once")(b"", metadata=[("tenant", "acme")])

        assert [seen.metadata["tenant"] for seen in ledger.seen] == ["acme"] * 3
        assert [seen.metadata.get("grpc-previous-rpc-attempts") for seen in ledger.seen] == [None, "1", "2"]

    def test_an_outer_interceptor_is_given_a_call_even_when_it_failed(
        self, ledger: Any, make_guard: MakeGuard, open_channel: Any
    ) -> None:
        class Observer(grpc.UnaryUnaryClientInterceptor):
            codes: list[grpc.StatusCode] = []  # noqa: RUF012

            def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
                call = continuation(client_call_details, request)
                self.codes.append(call.code())
                return call

        ledger.script = [UNAVAILABLE] * 2
        observer = Observer()
        ask = open_channel(make_guard(attempts=2), outside=[observer]).unary_unary("/Ledger/Once")

        with pytest.raises(grpc.RpcError):
            ask(b"")
        ask(b"")

        assert observer.codes == [UNAVAILABLE, grpc.StatusCode.OK]

    def test_a_server_that_is_gone_is_asked_again_and_its_error_raised(self, make_guard: MakeGuard) -> None:
        guard = make_guard(attempts=2)
        with grpc.insecure_channel("127.0.0.1:1", options=NO_RETRIES) as plain:
            channel = grpc.intercept_channel(plain, GuardInterceptor(guard))
            with pytest.raises(grpc.RpcError) as error:
                channel.unary_unary("/Ledger/Once")(b"")

        assert code_of(error) is UNAVAILABLE
        assert guard.counters.attempts == 2

    def test_an_open_breaker_keeps_the_call_from_being_made(
        self, ledger: Any, make_guard: MakeGuard, open_channel: Any
    ) -> None:
        ledger.script = [UNAVAILABLE] * 10
        guard = make_guard(attempts=1, breaker=BreakerSettings(minimum_calls=1, open_for=60.0))
        ask = open_channel(guard).unary_unary("/Ledger/Once")

        with pytest.raises(grpc.RpcError):
            ask(b"")
        with pytest.raises(BreakerOpenError):
            ask(b"")

        assert len(ledger.seen) == 1

    def test_a_request_that_cannot_be_serialized_is_not_repeated(
        self, ledger: Any, make_guard: MakeGuard, open_channel: Any
    ) -> None:
        tried = []

        def serialize(request: object) -> bytes:
            tried.append(request)
            raise TypeError("not a message")

        ask = open_channel(make_guard()).unary_unary("/Ledger/Once", request_serializer=serialize)
        with pytest.raises(grpc.RpcError):
            ask(None)

        assert len(tried) == 1

    def test_a_message_that_is_too_large_is_not_sent_again(
        self, ledger: Any, make_guard: MakeGuard, open_channel: Any
    ) -> None:
        guard = make_guard()
        channel = open_channel(guard, options=[*NO_RETRIES, ("grpc.max_send_message_length", 1)])

        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/Ledger/Once")(b"balance")

        assert code_of(error) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert guard.counters.attempts == 1


class TestTime:
    @pytest.mark.parametrize(
        ("guards", "callers", "surrounding", "expected"),
        [
            pytest.param(5.0, None, None, 5.0, id="guard"),
            pytest.param(5.0, 2.0, None, 2.0, id="caller"),
            pytest.param(5.0, 2.0, 1.0, 1.0, id="deadline"),
            pytest.param(2.0, 5.0, 60.0, 2.0, id="all"),
        ],
    )
    def test_an_attempt_gets_the_shortest_of_all_times(
        self,
        ledger: Any,
        make_guard: MakeGuard,
        open_channel: Any,
        guards: float,
        callers: float | None,
        surrounding: float | None,
        expected: float,
    ) -> None:
        ask = open_channel(make_guard(timeout=guards)).unary_unary("/Ledger/Once")
        with deadline(1e9 if surrounding is None else surrounding):
            ask(b"", timeout=callers)

        assert expected - 0.5 < ledger.seen[0].time_remaining < expected + SLACK

    def test_an_attempt_that_takes_too_long_ends_and_is_repeated(
        self, ledger: Any, make_guard: MakeGuard, open_channel: Any
    ) -> None:
        ledger.script = [until_given_up, b"5"]
        guard = make_guard(timeout=0.2)

        assert open_channel(guard).unary_unary("/Ledger/Once")(b"") == b"5"
        assert guard.counters.retries == 1

    def test_the_callers_timeout_is_for_all_attempts_together(
        self, ledger: Any, make_guard: MakeGuard, open_channel: Any
    ) -> None:
        ledger.script = [until_given_up] * 10
        ask = open_channel(make_guard(timeout=0.2, attempts=10)).unary_unary("/Ledger/Once")

        with pytest.raises((grpc.RpcError, DeadlineExceededError)):
            ask(b"", timeout=0.3)

        assert len(ledger.seen) == 2
        assert ledger.seen[1].time_remaining < 0.1 + SLACK

    def test_a_guard_without_a_timeout_sets_none(self, ledger: Any, make_guard: MakeGuard, open_channel: Any) -> None:
        open_channel(make_guard(timeout=math.inf)).unary_unary("/Ledger/Once")(b"")

        assert ledger.seen[0].time_remaining > 1e6


class TestPushback:
    @pytest.mark.parametrize("value", ["-1", "soon", "", "1.5", "0x5", "99999999999", "2147483648"])
    def test_what_is_no_time_to_wait_forbids_the_retry(
        self, ledger: Any, make_guard: MakeGuard, open_channel: Any, value: str
    ) -> None:
        ledger.script = [Pushback(value)]

        with pytest.raises(grpc.RpcError):
            open_channel(make_guard()).unary_unary("/Ledger/Once")(b"")

        assert len(ledger.seen) == 1

    def test_a_guard_around_does_not_repeat_it_either(
        self, ledger: Any, make_guard: MakeGuard, open_channel: Any
    ) -> None:
        ledger.script = [Pushback("-1")]
        outer = Guard("outer", timeout=5.0, budget=None)
        # One attempt, so the guard itself has no say about repeating.
        ask = open_channel(make_guard(attempts=1)).unary_unary("/Ledger/Once")

        with pytest.raises(grpc.RpcError):
            outer.run(ask, b"")

        assert len(ledger.seen) == 1

    @pytest.mark.parametrize(("value", "seconds"), [("0", 0.0), ("1500", 1.5)], ids=["at-once", "later"])
    def test_the_servers_wait_is_the_least_that_is_waited(
        self,
        ledger: Any,
        make_guard: MakeGuard,
        open_channel: Any,
        sleeps: list[float],
        value: str,
        seconds: float,
    ) -> None:
        ledger.script = [Pushback(value), b"5"]

        assert open_channel(make_guard()).unary_unary("/Ledger/Once")(b"") == b"5"
        assert seconds <= sleeps[0] <= seconds + 2.0

    async def test_grpc_aio_is_pushed_back_in_the_same_way(
        self, ledger: Any, make_guard: MakeGuard, open_aio_channel: Any, sleeps: list[float]
    ) -> None:
        ledger.script = [Pushback("1500"), Pushback("-1")]

        async with open_aio_channel(make_guard()) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary("/Ledger/Once")(b"")

        assert len(ledger.seen) == 2
        assert len(sleeps) == 1
        assert sleeps[0] >= 1.5


class TestFuture:
    def test_futures_run_side_by_side(self, ledger: Any, make_guard: MakeGuard, open_channel: Any) -> None:
        """Neither is answered before the other one has arrived."""
        both = threading.Barrier(2, timeout=5.0)

        def meet(request: bytes, context: grpc.ServicerContext) -> bytes:
            both.wait()
            return request

        ledger.script = [meet, meet]
        ask = open_channel(make_guard()).unary_unary("/Ledger/Once")

        futures = [ask.future(b"1"), ask.future(b"2")]

        assert [future.result(timeout=5.0) for future in futures] == [b"1", b"2"]
        assert {future.code() for future in futures} == {grpc.StatusCode.OK}

    def test_a_future_is_one_attempt_that_counts(self, ledger: Any, make_guard: MakeGuard, open_channel: Any) -> None:
        ledger.script = [UNAVAILABLE]
        guard = make_guard(breaker=BreakerSettings(minimum_calls=1, open_for=60.0))
        ask = open_channel(guard).unary_unary("/Ledger/Once")

        failed, ended = ask.future(b""), threading.Event()
        failed.add_done_callback(lambda future: ended.set())
        assert ended.wait(5.0)
        rejected = ask.future(b"")

        assert failed.code() is UNAVAILABLE
        assert isinstance(rejected.exception(), BreakerOpenError)
        assert len(ledger.seen) == 1
        assert guard.counters.attempts_error == 1
        assert guard.in_flight == 0

    def test_a_future_that_is_cancelled_says_nothing_about_the_server(
        self, ledger: Any, make_guard: MakeGuard, open_channel: Any
    ) -> None:
        arrived = threading.Event()

        def arrive(request: bytes, context: grpc.ServicerContext) -> bytes:
            arrived.set()
            return until_given_up(request, context)

        ledger.script = [arrive]
        guard = make_guard()
        future, ended = open_channel(guard).unary_unary("/Ledger/Once").future(b""), threading.Event()
        future.add_done_callback(lambda future: ended.set())
        assert arrived.wait(5.0)

        assert future.cancel()
        assert ended.wait(5.0)

        assert future.cancelled()
        assert guard.counters.attempts == 0
        assert guard.in_flight == 0

    def test_a_future_gets_the_shortest_of_all_times(
        self, ledger: Any, make_guard: MakeGuard, open_channel: Any
    ) -> None:
        ask = open_channel(make_guard(timeout=3.0)).unary_unary("/Ledger/Once")
        with deadline(2.0):
            ask.future(b"", timeout=1.0).result()
            ask.future(b"", timeout=60.0).result()
        ask.future(b"").result()

        expected = [1.0, 2.0, 3.0]
        assert [round(seen.time_remaining + SLACK) for seen in ledger.seen] == expected

    def test_a_future_that_fails_is_charged_to_the_request_that_began_it(self, ledger: Any, open_channel: Any) -> None:
        """And not to whichever began the thread in which gRPC tells of all their ends."""
        service = Service("wallet")
        dependency = service.dependency("ledger", target="grpc://ledger", timeout=5.0, classify=classify_grpc)
        service.journey("pay", routes=["POST /pay"], needs=[dependency])
        arrived, release, ended = threading.Event(), threading.Event(), threading.Event()

        def wait(request: bytes, context: grpc.ServicerContext) -> bytes:
            arrived.set()
            release.wait(5.0)
            return request

        ledger.script = [wait]
        ask = open_channel(dependency.guard).unary_unary("/Ledger/Once")
        another = ask.future(b"")
        assert arrived.wait(5.0)
        ledger.script = [UNAVAILABLE]

        request = service.begin("POST", "/pay")
        ask.future(b"").add_done_callback(lambda future: ended.set())
        assert ended.wait(5.0)
        request.end(status=503)
        release.set()

        assert another.result() == b""
        counted = 'shoal_journey_requests_total{journey="pay",outcome="failed",cause="ledger"} 1'
        assert counted in service.answer("/metrics").body.decode().splitlines()

    def test_a_future_is_guarded_in_full_should_it_no_longer_be_told_apart(
        self, ledger: Any, make_guard: MakeGuard
    ) -> None:
        """A channel of somebody else's may name its functions differently."""
        ledger.script = [UNAVAILABLE, b"5", UNAVAILABLE, UNAVAILABLE]
        with grpc.insecure_channel(ledger.target, options=NO_RETRIES) as channel:

            def unknown(details: Any, request: bytes) -> Any:
                return channel.unary_unary(details.method).future(request, timeout=details.timeout)

            unknown.__qualname__ = "unknown"
            details = SimpleNamespace(
                method="/Ledger/Once",
                timeout=None,
                metadata=None,
                credentials=None,
                wait_for_ready=None,
                compression=None,
            )
            interceptor = GuardInterceptor(make_guard(attempts=2))
            good, bad = (interceptor.intercept_unary_unary(unknown, details, b"") for _ in range(2))

            assert good.result() == b"5"
            assert bad.code() is UNAVAILABLE

        assert len(ledger.seen) == 4


STREAMS = [
    pytest.param("unary_stream", "/Ledger/Many", b"ab", id="unary-stream"),
    pytest.param("stream_unary", "/Ledger/OnceOfMany", [b"a", b"b"], id="stream-unary"),
    pytest.param("stream_stream", "/Ledger/ManyOfMany", [b"a", b"b"], id="stream-stream"),
]


class TestStreams:
    @pytest.mark.parametrize(("kind", "method", "request_"), STREAMS)
    def test_a_stream_gets_what_the_deadline_leaves_and_may_outlive_the_guards_timeout(
        self, ledger: Any, make_guard: MakeGuard, open_channel: Any, kind: str, method: str, request_: Any
    ) -> None:
        guard = make_guard(timeout=1.0)
        ask = getattr(open_channel(guard), kind)(method)

        def answers(**settings: Any) -> list[bytes]:
            answer = ask(iter(request_) if isinstance(request_, list) else request_, **settings)
            return [answer] if isinstance(answer, bytes) else list(answer)

        assert set(answers()) == {b"ab"}
        answers(timeout=3.0)
        with deadline(2.0):
            answers(timeout=3.0)
            answers()

        times = [seen.time_remaining for seen in ledger.seen]
        assert times[0] > 1e6
        assert [round(time + SLACK) for time in times[1:]] == [3, 2, 2]
        assert guard.counters.attempts == 0

    @pytest.mark.parametrize(("kind", "method", "request_"), STREAMS)
    async def test_streams_of_grpc_aio_do_too(
        self, ledger: Any, make_guard: MakeGuard, open_aio_channel: Any, kind: str, method: str, request_: Any
    ) -> None:
        async with open_aio_channel(make_guard(timeout=1.0)) as channel:
            ask = getattr(channel, kind)(method)

            async def answers(**settings: Any) -> list[bytes]:
                call = ask(iter(request_) if isinstance(request_, list) else request_, **settings)
                return [await call] if kind == "stream_unary" else [answer async for answer in call]

            assert set(await answers()) == {b"ab"}
            await answers(timeout=3.0)
            with deadline(2.0):
                await answers(timeout=3.0)
                await answers()

        times = [seen.time_remaining for seen in ledger.seen]
        assert times[0] > 1e6
        assert [round(time + SLACK) for time in times[1:]] == [3, 2, 2]


class TestAio:
    async def test_an_answer_comes_with_all_that_belongs_to_a_call(
        self, ledger: Any, make_guard: MakeGuard, open_aio_channel: Any
    ) -> None:
        ledger.script = [UNAVAILABLE, b"5"]
        guard, ended = make_guard(), asyncio.Event()
        async with open_aio_channel(guard) as channel:
            call = channel.unary_unary("/Ledger/Once")(b"")
            call.add_done_callback(lambda call: ended.set())

            assert await call == b"5"
            assert await call == b"5"
            assert await call.code() is grpc.StatusCode.OK
            assert dict(tuple(await call.initial_metadata())) == {"ledger-initial": "2"}
            assert call.done()
            assert not call.cancelled()
            await asyncio.wait_for(ended.wait(), 5.0)

        assert guard.counters.calls_success_after_retry == 1

    async def test_three_attempts_are_three_calls_and_the_caller_gets_the_last_error(
        self, ledger: Any, make_guard: MakeGuard, open_aio_channel: Any
    ) -> None:
        ledger.script = [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, UNAVAILABLE]
        async with open_aio_channel(make_guard(attempts=3)) as channel:
            call = channel.unary_unary("/Ledger/Once")(b"")
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call

            assert len(ledger.seen) == 3
            assert code_of(error) is await call.code() is UNAVAILABLE
            assert error.value.details() == await call.details() == "step 3"
            assert dict(tuple(await call.trailing_metadata())) == {"ledger-trailing": "3"}

    async def test_a_server_that_says_no_is_asked_once(
        self, ledger: Any, make_guard: MakeGuard, open_aio_channel: Any
    ) -> None:
        ledger.script = [NOT_FOUND]
        async with open_aio_channel(make_guard()) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary("/Ledger/Once")(b"")

        assert len(ledger.seen) == 1

    async def test_metadata_is_handed_on_with_every_attempt_and_retries_say_so(
        self, ledger: Any, make_guard: MakeGuard, open_aio_channel: Any
    ) -> None:
        ledger.script = [UNAVAILABLE, UNAVAILABLE, b"5"]
        metadata = grpc.aio.Metadata(("tenant", "acme"))

        async with open_aio_channel(make_guard()) as channel:
            await channel.unary_unary("/Ledger/Once")(b"", metadata=metadata)

        assert [seen.metadata["tenant"] for seen in ledger.seen] == ["acme"] * 3
        assert [seen.metadata.get("grpc-previous-rpc-attempts") for seen in ledger.seen] == [None, "1", "2"]
        assert metadata == grpc.aio.Metadata(("tenant", "acme"))

    async def test_an_attempt_gets_the_shortest_of_all_times(
        self, ledger: Any, make_guard: MakeGuard, open_aio_channel: Any
    ) -> None:
        async with open_aio_channel(make_guard(timeout=3.0)) as channel:
            ask = channel.unary_unary("/Ledger/Once")
            with deadline(2.0):
                await ask(b"", timeout=1.0)
                await ask(b"", timeout=60.0)
            await ask(b"")

        assert [round(seen.time_remaining) for seen in ledger.seen] == [1.0, 2.0, 3.0]

    async def test_an_attempt_that_takes_too_long_ends_with_the_status_of_grpc(
        self, ledger: Any, make_guard: MakeGuard, open_aio_channel: Any
    ) -> None:
        """And not with the guard's DeadlineExceededError, which knows nothing of what the server said."""
        ledger.script = [until_given_up] * 2
        guard = make_guard(timeout=0.2, attempts=2)

        async with open_aio_channel(guard) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await channel.unary_unary("/Ledger/Once")(b"")

        assert code_of(error) is grpc.StatusCode.DEADLINE_EXCEEDED
        assert len(ledger.seen) == 2

    @pytest.mark.parametrize("how", ["the-call", "its-task"])
    async def test_whoever_cancels_cancels_the_rpc(
        self, ledger: Any, make_guard: MakeGuard, open_aio_channel: Any, how: str
    ) -> None:
        loop, arrived, left = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

        def arrive(request: bytes, context: grpc.ServicerContext) -> bytes:
            loop.call_soon_threadsafe(arrived.set)
            until_given_up(request, context)
            loop.call_soon_threadsafe(left.set)
            return request

        ledger.script = [arrive]
        guard = make_guard()
        async with open_aio_channel(guard) as channel:
            call = channel.unary_unary("/Ledger/Once")(b"")

            async def wait() -> bytes:
                return await call

            task = asyncio.create_task(wait())
            await asyncio.wait_for(arrived.wait(), 5.0)
            (call if how == "the-call" else task).cancel()

            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(left.wait(), 5.0)

            assert call.cancelled()
            assert guard.in_flight == 0
            assert guard.counters.attempts == 0

    async def test_an_open_breaker_keeps_the_call_from_being_made(
        self, ledger: Any, make_guard: MakeGuard, open_aio_channel: Any
    ) -> None:
        ledger.script = [UNAVAILABLE] * 10
        guard = make_guard(attempts=1, breaker=BreakerSettings(minimum_calls=1, open_for=60.0))
        async with open_aio_channel(guard) as channel:
            ask = channel.unary_unary("/Ledger/Once")
            with pytest.raises(grpc.aio.AioRpcError):
                await ask(b"")
            with pytest.raises(BreakerOpenError):
                await ask(b"")

        assert len(ledger.seen) == 1

    async def test_interceptors_inside_of_the_guard_see_every_attempt(
        self, ledger: Any, make_guard: MakeGuard, open_aio_channel: Any
    ) -> None:
        class Answers(grpc.aio.UnaryUnaryClientInterceptor):
            asked = 0

            async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
                self.asked += 1
                call = await continuation(client_call_details, request)
                return await call

        ledger.script = [UNAVAILABLE]
        answers = Answers()
        async with open_aio_channel(make_guard(), inside=[answers]) as channel:
            assert await channel.unary_unary("/Ledger/Once")(b"5") == b"5"

        assert answers.asked == 2

    async def test_a_stream_can_be_written_to(self, ledger: Any, make_guard: MakeGuard, open_aio_channel: Any) -> None:
        async with open_aio_channel(make_guard()) as channel:
            call = channel.stream_stream("/Ledger/ManyOfMany")()
            await call.write(b"a")
            await call.write(b"b")
            await call.done_writing()

            assert await call.read() == b"ab"
            assert await call.read() == b"ab"
            assert await call.read() is grpc.aio.EOF


class TestSettings:
    @pytest.mark.parametrize("make", [GuardInterceptor, AioGuardInterceptor, aio_interceptors])
    def test_what_is_no_guard_is_refused(self, make: Any) -> None:
        with pytest.raises(TypeError, match="'ledger'"):
            make("ledger")

    async def test_grpc_aio_takes_an_interceptor_for_one_kind_of_call(self, make_guard: MakeGuard) -> None:
        """Else AioGuardInterceptor could do what aio_interceptors does."""

        class Both(grpc.aio.UnaryUnaryClientInterceptor, grpc.aio.UnaryStreamClientInterceptor):
            opened = 0

            async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
                return await continuation(client_call_details, request)

            async def intercept_unary_stream(
                self, continuation: Any, client_call_details: Any, request: Any
            ) -> AsyncIterator[bytes]:
                self.opened += 1
                return await continuation(client_call_details, request)

        both = Both()
        async with grpc.aio.insecure_channel("127.0.0.1:1", interceptors=[both]) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_stream("/Ledger/Many")(b"").read()

        assert both.opened == 0
