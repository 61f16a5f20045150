"""An answer at the deadline, whatever the called code does."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from shoal import _events
from shoal._clock import Clock
from shoal.errors import BulkheadFullError, DeadlineExceededError
from shoal.guard import Guard
from shoal.guard.attempt import Attempt

MakeGuard = Callable[..., Guard]
Jumping = Callable[[Coroutine[Any, Any, None]], None]


async def stubborn(seconds: float) -> str:
    """As psycopg: when cancelled, it first asks the server to stop and waits for that."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(seconds)
        raise
    return "never"


async def deaf() -> str:
    """Takes a cancellation for an answer."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "what cancellation?"
    return "never"


def test_the_caller_is_free_at_the_deadline_although_the_task_takes_ten_seconds_to_die(
    jumping: Jumping, make_guard: MakeGuard
) -> None:
    guard = make_guard(attempts=1, timeout=0.2)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(DeadlineExceededError, match=r"auth: no answer within 0\.2 s"):
            await guard.arun(stubborn, 10.0)
        assert loop.time() == pytest.approx(0.2)
        assert guard.counters.orphans == 1
        assert guard.in_flight == 1, "the orphan holds what it holds"

        await asyncio.sleep(9.9)
        assert guard.in_flight == 1
        await asyncio.sleep(0.2)
        assert guard.in_flight == 0

    jumping(scenario())


def test_each_attempt_has_the_timeout_and_the_call_has_the_deadline(
    jumping: Jumping, make_guard: MakeGuard, loop_clock: Clock
) -> None:
    guard = make_guard(timeout=1.0, deadline=1.75, attempts=5, clock=loop_clock, async_sleep=asyncio.sleep)
    made: list[float] = []

    async def call() -> None:
        made.append(asyncio.get_running_loop().time())
        await asyncio.Event().wait()

    async def scenario() -> None:
        with pytest.raises(DeadlineExceededError) as exceeded:
            await guard.arun(call)
        assert asyncio.get_running_loop().time() == pytest.approx(1.75)
        assert len(made) == 2
        assert exceeded.value.timeout == pytest.approx(1.75 - made[1]), "the error tells what the last attempt had"

    jumping(scenario())

    assert guard.counters.attempts_timeout == 2
    assert guard.counters.retries_by_error["timeout"] == 1


def test_a_deadline_shorter_than_the_timeout_cuts_the_first_attempt_too(
    jumping: Jumping, make_guard: MakeGuard, loop_clock: Clock
) -> None:
    guard = make_guard(timeout=5.0, deadline=0.3, clock=loop_clock)

    async def scenario() -> None:
        with pytest.raises(DeadlineExceededError):
            await guard.arun(asyncio.Event().wait)
        assert asyncio.get_running_loop().time() == pytest.approx(0.3)

    jumping(scenario())


def test_a_stall_of_our_own_loop_is_not_put_down_to_the_dependency(
    jumping: Jumping, make_guard: MakeGuard, stall: Callable[[float], None]
) -> None:
    """The answer came at 0.2 s while the loop was busy; when it is back, answer and deadline are both overdue."""
    guard = make_guard(attempts=1, timeout=0.5)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()

        async def call() -> str:
            return await answer

        loop.call_later(0.1, stall, 5.0)
        loop.call_later(0.2, answer.set_result, "in time")
        assert await guard.arun(call) == "in time"
        assert loop.time() == pytest.approx(5.1)

    jumping(scenario())

    assert guard.counters.attempts_timeout == 0


def test_well_behaved_code_ends_before_the_caller_goes_on(jumping: Jumping, make_guard: MakeGuard) -> None:
    """What the caller lent to the call, such as a connection, is back in its hands when the error reaches it."""
    guard = make_guard(attempts=1, timeout=0.2)
    ended: list[str] = []

    async def call() -> None:
        try:
            async with asyncio.timeout(60.0):
                await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("call")

    async def scenario() -> None:
        with pytest.raises(DeadlineExceededError):
            await guard.arun(call)
        ended.append("caller")

    jumping(scenario())

    assert ended == ["call", "caller"]
    assert guard.counters.orphans == 0


def test_an_answer_to_the_cancellation_is_too_late(jumping: Jumping, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, timeout=0.2)

    async def scenario() -> None:
        with pytest.raises(DeadlineExceededError):
            await guard.arun(deaf)

    jumping(scenario())

    assert guard.counters.orphans == 0


@pytest.mark.parametrize("call", [stubborn, deaf], ids=["stubborn", "deaf"])
def test_a_cancellation_from_outside_gets_through_to_both(
    call: Callable[..., Coroutine[Any, Any, str]], jumping: Jumping, make_guard: MakeGuard
) -> None:
    guard = make_guard(attempts=3, timeout=60.0)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(guard.arun(call, *([10.0] if call is stubborn else [])))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert loop.time() == pytest.approx(1.0)
        assert task.cancelled()
        await asyncio.sleep(11.0)

    jumping(scenario())

    assert guard.counters.calls_cancelled == 1
    assert guard.counters.orphans == (1 if call is stubborn else 0)
    assert guard.in_flight == 0


def test_a_timeout_around_the_guard_is_a_timeout(jumping: Jumping, make_guard: MakeGuard) -> None:
    """The way cancellation is told from timeout since 3.11 still works through a guard."""
    guard = make_guard(attempts=3, timeout=60.0)

    async def scenario() -> None:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.5):
                await guard.arun(stubborn, 10.0)
        assert not isinstance(caught.value, DeadlineExceededError)
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0

    jumping(scenario())


def test_cleaning_up_is_not_cancelled_a_second_time(jumping: Jumping, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, timeout=0.2)
    cleaned: list[float] = []

    async def call() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(3.0)
            cleaned.append(asyncio.get_running_loop().time())

    async def scenario() -> None:
        with pytest.raises(DeadlineExceededError):
            await guard.arun(call)
        await asyncio.sleep(5.0)

    jumping(scenario())

    assert cleaned == [pytest.approx(3.2)]


def test_orphans_fill_the_bulkhead_and_leave_it(jumping: Jumping, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, timeout=0.2, limit=3, breaker=None)

    async def scenario() -> None:
        calls = [guard.arun(stubborn, 10.0) for _ in range(3)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [DeadlineExceededError] * 3
        with pytest.raises(BulkheadFullError):
            await guard.arun(stubborn, 10.0)
        await asyncio.sleep(11.0)
        assert await guard.arun(asyncio.sleep, 0, "ok") == "ok"

    jumping(scenario())

    assert guard.counters.orphans == 3


def test_orphans_are_bounded_without_a_limit_too(jumping: Jumping, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, timeout=0.2, limit=None, breaker=None)

    async def scenario() -> None:
        for _ in range(64):
            with pytest.raises(DeadlineExceededError):
                await guard.arun(stubborn, 60.0)
        with pytest.raises(BulkheadFullError, match="64 calls are in flight"):
            await guard.arun(stubborn, 60.0)
        await asyncio.sleep(61.0)
        assert await guard.arun(asyncio.sleep, 0, "ok") == "ok"

    jumping(scenario())

    assert guard.counters.orphans == 64
    assert guard.in_flight == 0


def test_a_guard_inside_a_guard_lets_go_at_the_outer_deadline(jumping: Jumping, make_guard: MakeGuard) -> None:
    outer, inner = make_guard("outer", attempts=1, timeout=0.2), make_guard("inner", attempts=1, timeout=60.0)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(DeadlineExceededError, match="outer"):
            await outer.arun(inner.arun, stubborn, 10.0)
        assert loop.time() == pytest.approx(0.2)
        await asyncio.sleep(11.0)

    jumping(scenario())

    assert inner.counters.calls_cancelled == 1
    assert inner.in_flight == outer.in_flight == 0


def test_an_orphan_that_fails_is_not_logged_as_forgotten(
    jumping: Jumping, make_guard: MakeGuard, caplog: pytest.LogCaptureFixture
) -> None:
    guard = make_guard(attempts=1, timeout=0.2)

    async def call(seconds: float) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(seconds)
            raise ConnectionResetError

    async def scenario() -> None:
        for seconds in (0.0, 5.0):
            with pytest.raises(DeadlineExceededError):
                await guard.arun(call, seconds)
        await asyncio.sleep(6.0)

    with caplog.at_level(logging.DEBUG, logger="asyncio"):
        jumping(scenario())

    assert [record.message for record in caplog.records if "never retrieved" in record.message] == []
    assert guard.counters.orphans == 1


def test_a_caller_that_is_closed_leaves_an_orphan_not_a_leak(jumping: Jumping, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, timeout=60.0)

    async def scenario() -> None:
        call = guard.arun(asyncio.Event().wait)
        call.send(None)
        call.close()
        assert guard.counters.orphans == 1
        for _ in range(5):
            await asyncio.sleep(0)
        assert guard.in_flight == 0

    jumping(scenario())


async def test_what_a_call_cancels_itself_is_a_cancellation(make_guard: MakeGuard) -> None:
    guard = make_guard()

    async def call() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await guard.arun(call)

    assert guard.counters.calls_cancelled == 1
    assert guard.in_flight == 0


async def test_a_call_is_made_in_its_callers_context_like_any_await(make_guard: MakeGuard) -> None:
    guard = make_guard("outer", attempts=1)
    variable = contextvars.ContextVar("variable", default="unset")

    async def call() -> str:
        seen = variable.get()
        variable.set("by the call")
        _events.note_failed("inner")
        return seen

    variable.set("by the caller")
    trail, token = _events.begin_trail()
    seen = await guard.arun(call)
    _events.end_trail(token)

    assert seen == "by the caller"
    assert variable.get() == "by the call"
    assert trail.failed == ["inner"]


@pytest.mark.parametrize("ending", ["answered", "cut", "let go", "cancelled"])
async def test_no_attempt_waits_for_the_garbage_collector(ending: str, make_guard: MakeGuard) -> None:
    guard = make_guard(timeout=60.0 if ending in {"answered", "cancelled"} else 0.001, attempts=1)

    async def call() -> None:
        try:
            await asyncio.sleep(0.001 if ending == "answered" else 60.0)
        except asyncio.CancelledError:
            if ending == "let go":
                await asyncio.sleep(0.01)
            raise

    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            task = asyncio.create_task(guard.arun(call))
            if ending == "cancelled":
                await asyncio.sleep(0)
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del task
        await asyncio.sleep(0.05)
        alive = sum(type(kept) is Attempt for kept in gc.get_objects())
    finally:
        gc.enable()

    assert alive == 0
