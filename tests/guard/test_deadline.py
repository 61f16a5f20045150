"""The caller's deadline: inherited, obeyed, handed on."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

import shoal
from shoal import _events
from shoal.errors import DeadlineExceededError, TooLateError
from shoal.guard import Backoff, BreakerSettings, Guard, deadline, remaining, timeout_from_header, timeout_header
from shoal.testing import ManualClock

MakeGuard = Callable[..., Guard]


def test_a_deadline_inside_can_only_be_nearer(clock: ManualClock) -> None:
    with deadline(2.0, clock=clock):
        with deadline(5.0, clock=clock):
            assert remaining(clock=clock) == 2.0
        with deadline(0.5, clock=clock):
            assert remaining(clock=clock) == 0.5
        assert remaining(clock=clock) == 2.0
    assert remaining(clock=clock) == math.inf


def test_what_remains_is_never_negative(clock: ManualClock) -> None:
    with deadline(1.0, clock=clock):
        clock.advance(3.0)
        assert remaining(clock=clock) == 0.0


@pytest.mark.parametrize("seconds", [-0.1, math.nan])
def test_a_deadline_in_the_past_is_a_mistake(seconds: float) -> None:
    with pytest.raises(ValueError, match="0 seconds from now or more, got"), deadline(seconds):
        pass


async def test_tasks_inherit_it_and_threads_only_by_a_copy_of_the_context() -> None:
    async def seen() -> float:
        return shoal.remaining()

    with shoal.deadline(5.0):
        in_task = await asyncio.create_task(seen())
        in_to_thread = await asyncio.to_thread(shoal.remaining)
        with ThreadPoolExecutor() as pool:
            in_thread = pool.submit(shoal.remaining).result()
            in_copy = pool.submit(contextvars.copy_context().run, shoal.remaining).result()

    assert in_task <= 5.0
    assert in_to_thread <= 5.0
    assert in_thread == math.inf
    assert in_copy <= 5.0


def test_a_call_after_the_deadline_is_not_made(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard()
    trail, token = _events.begin_trail()

    with deadline(1.0, clock=clock):
        clock.advance(1.5)
        with pytest.raises(TooLateError, match=r"auth: not called, the deadline passed 0\.500 s ago") as caught:
            guard.run(lambda: "ok")
    _events.end_trail(token)

    assert isinstance(caught.value, TimeoutError)
    assert guard.counters.rejected_by == {"breaker": 0, "bulkhead": 0, "shed": 0, "late": 1}
    assert guard.in_flight == 0
    assert (trail.late, trail.failed) == (True, []), "no dependency is to blame"


async def test_an_async_call_after_the_deadline_is_not_made_either(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard()

    async def call() -> str:
        return "ok"

    with deadline(0.0, clock=clock), pytest.raises(TooLateError):
        await guard.arun(call)


def test_no_retry_waits_past_the_deadline(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(backoff=Backoff(initial=1.0, maximum=1.0), attempts=5, timeout=10.0)
    began = clock.now()

    def refuse() -> None:
        raise ConnectionRefusedError

    with deadline(0.8, clock=clock), pytest.raises(ConnectionRefusedError):
        guard.run(refuse)

    assert clock.now() - began < 0.8


def test_no_retry_is_made_that_has_less_time_than_answers_take(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(timeout=10.0, backoff=Backoff(initial=0.001, maximum=0.001))
    for _ in range(5):
        guard.run(clock.advance, 0.5)

    def refuse() -> None:
        clock.advance(0.2)
        raise ConnectionRefusedError

    with deadline(0.6, clock=clock), pytest.raises(ConnectionRefusedError):
        guard.run(refuse)

    assert guard.counters.retries == 0


def test_a_sync_attempt_is_told_how_long_it_may_take(clock: ManualClock, make_guard: MakeGuard) -> None:
    """Its client's timeout is the only one there is."""
    guard = make_guard(timeout=1.0)

    assert guard.remaining() == 1.0
    with deadline(0.4, clock=clock):
        assert guard.run(guard.remaining) == pytest.approx(0.4)


def test_a_retry_is_told_what_the_guards_own_deadline_leaves(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(timeout=1.0, deadline=1.5, backoff=Backoff(initial=1e-6, maximum=1e-6))
    told: list[float] = []

    def call() -> str:
        told.append(guard.remaining())
        if len(told) == 1:
            clock.advance(1.0)
            raise TimeoutError
        return "ok"

    assert guard.run(call) == "ok"
    assert told == [pytest.approx(1.0), pytest.approx(0.5, abs=1e-5)]


def test_guards_inside_inherit_a_guards_own_deadline(clock: ManualClock, make_guard: MakeGuard) -> None:
    outer, inner = make_guard("outer", timeout=5.0, deadline=2.0), make_guard("inner", timeout=5.0)

    assert outer.run(inner.remaining) == 2.0
    assert inner.remaining() == 5.0


def test_an_attempt_is_cut_at_the_callers_deadline(
    jumping: Callable[..., None], make_guard: MakeGuard, loop_clock: ManualClock
) -> None:
    guard = make_guard(timeout=5.0, attempts=3, clock=loop_clock, async_sleep=asyncio.sleep)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        with deadline(0.8, clock=loop_clock), pytest.raises(DeadlineExceededError, match=r"no answer within 0\.8 s"):
            await guard.arun(asyncio.sleep, 60.0)
        assert loop.time() == pytest.approx(0.8)

    jumping(scenario())
    assert guard.counters.attempts_timeout == 1


@pytest.mark.parametrize(
    ("given", "state"),
    [
        pytest.param(0.1, "closed", id="less time than answers take says nothing of the dependency"),
        pytest.param(0.4, "open", id="more time than answers take does"),
    ],
)
def test_a_caller_in_a_hurry_does_not_open_the_breaker(
    given: float, state: str, clock: ManualClock, make_guard: MakeGuard
) -> None:
    guard = make_guard(timeout=1.0, attempts=1, breaker=BreakerSettings(consecutive=3, consecutive_over=0.0))
    for _ in range(20):
        guard.run(clock.advance, 0.2)
    trail, token = _events.begin_trail()

    def too_slow() -> None:
        clock.advance(guard.remaining())
        raise TimeoutError

    for _ in range(3):
        with deadline(given, clock=clock), pytest.raises(TimeoutError):
            guard.run(too_slow)
    _events.end_trail(token)

    assert guard.breaker_state == state
    assert guard.counters.calls_timeout == 3
    assert trail.late is (state == "closed")


def test_what_is_let_go_leaves_the_callers_deadline_alone(
    jumping: Callable[..., None], make_guard: MakeGuard, loop_clock: ManualClock
) -> None:
    """It goes on in a context of its own; setting the deadline back there must not reach the caller."""
    guard = make_guard(timeout=0.5, attempts=1, clock=loop_clock)

    async def stubborn() -> None:
        with deadline(0.4, clock=loop_clock):
            try:
                await asyncio.sleep(60.0)
            except asyncio.CancelledError:
                await asyncio.sleep(10.0)

    async def scenario() -> None:
        with deadline(100.0, clock=loop_clock):
            with pytest.raises(DeadlineExceededError):
                await guard.arun(stubborn)
            await asyncio.sleep(20.0)
            assert guard.in_flight == 0
            assert remaining(clock=loop_clock) == pytest.approx(79.5)

    jumping(scenario())


@pytest.mark.parametrize(
    ("seconds", "header"),
    [(0.7349, "734"), (0.0, "0"), (0.0004, "0"), (86_400.0, "86400000"), (90_000.0, None), (math.inf, None)],
)
def test_what_is_left_is_told_in_whole_milliseconds(seconds: float, header: str | None) -> None:
    assert timeout_header(seconds) == header


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("734", 0.734),
        (" 5 ", 0.005),
        ("0", 0.0),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("soon", None),
        ("9" * 400, None),
        ("86400001", None),
        ("٣", None),
        (None, None),
    ],
)
def test_a_header_that_cannot_be_read_is_no_deadline(header: str | None, seconds: float | None) -> None:
    assert timeout_from_header(header) == seconds
