"""A guarded block."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest

from shoal.errors import BreakerOpenError, BulkheadFullError, DeadlineExceededError
from shoal.guard import BreakerSettings, Guard, deadline, was_retried
from shoal.testing import ManualClock

MakeGuard = Callable[..., Guard]

TRIPS_AT_ONCE = BreakerSettings(consecutive=1, consecutive_over=0.0)


def test_a_block_that_ends_well_is_an_answer(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard()

    with guard.call() as call:
        clock.advance(0.25)
        assert call.remaining() == 0.75
        assert guard.in_flight == 1

    assert (guard.counters.calls_success, guard.in_flight) == (1, 0)
    assert guard.health().p50 == pytest.approx(0.25)


def test_a_block_that_raises_is_judged_and_not_repeated(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=3)

    with pytest.raises(ConnectionResetError) as caught, guard.call():
        raise ConnectionResetError

    assert (guard.counters.attempts_error, guard.counters.calls_non_retryable) == (1, 1)
    assert not was_retried(caught.value), "a guard around the block may repeat it"


def test_a_guard_around_a_block_repeats_it(make_guard: MakeGuard) -> None:
    guard, around = make_guard(attempts=3), make_guard("around", attempts=3)

    def block() -> None:
        with guard.call():
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        around.run(block)

    assert guard.counters.attempts_error == 3


@pytest.mark.parametrize(
    ("said", "counted"),
    [
        pytest.param("ok", "calls_success", id="ok"),
        pytest.param("ignore", "calls_cancelled", id="ignore"),
    ],
)
def test_a_block_may_say_what_an_exception_means(said: str, counted: str, make_guard: MakeGuard) -> None:
    guard = make_guard(breaker=TRIPS_AT_ONCE)

    def block() -> None:
        with guard.call() as call:
            getattr(call, said)()
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        block()

    assert getattr(guard.counters, counted) == 1
    assert guard.breaker_state == "closed"


def test_a_block_may_fail_without_an_exception(make_guard: MakeGuard) -> None:
    guard = make_guard(breaker=TRIPS_AT_ONCE)

    with guard.call() as call:
        call.fail("HTTP 503")

    assert guard.breaker_state == "open"
    assert "HTTP 503" in str(guard.health().last_error)


def test_a_mistake_of_the_blocks_own_says_nothing(make_guard: MakeGuard) -> None:
    guard = make_guard(breaker=TRIPS_AT_ONCE)

    with pytest.raises(KeyError), guard.call():
        raise KeyError("user")

    assert guard.breaker_state == "closed"


def test_an_interrupt_gives_the_place_back(make_guard: MakeGuard) -> None:
    guard = make_guard()

    with pytest.raises(KeyboardInterrupt), guard.call():
        raise KeyboardInterrupt

    assert (guard.in_flight, guard.counters.calls_cancelled) == (0, 1)


def test_a_block_that_is_rejected_is_not_entered(make_guard: MakeGuard) -> None:
    guard = make_guard(limit=1)

    with guard.call(), pytest.raises(BulkheadFullError), guard.call():
        pytest.fail("entered")

    assert guard.in_flight == 0


def test_a_block_is_for_one_use(make_guard: MakeGuard) -> None:
    call = make_guard().call()
    with call:
        pass

    with pytest.raises(RuntimeError, match=r"a block of auth is for one use; write guard\.call\(\) again"), call:
        pass


def test_an_async_block_is_cancelled_at_its_timeout(
    jumping: Callable[..., None], make_guard: MakeGuard, loop_clock: ManualClock
) -> None:
    guard = make_guard(timeout=0.5, clock=loop_clock)

    async def scenario() -> None:
        with pytest.raises(DeadlineExceededError, match=r"auth: no answer within 0\.5 s"):
            async with guard.call():
                await asyncio.sleep(60.0)
        assert asyncio.get_running_loop().time() == pytest.approx(0.5)

    jumping(scenario())
    assert (guard.counters.calls_timeout, guard.in_flight) == (1, 0)


def test_the_callers_deadline_ends_an_async_block_too(
    jumping: Callable[..., None], make_guard: MakeGuard, loop_clock: ManualClock
) -> None:
    guard = make_guard(timeout=5.0, clock=loop_clock)

    async def block() -> None:
        async with guard.call() as call:
            assert call.remaining() == pytest.approx(0.2)
            await asyncio.sleep(60.0)

    async def scenario() -> None:
        with deadline(0.2, clock=loop_clock), pytest.raises(DeadlineExceededError, match=r"within 0\.2 s"):
            await block()

    jumping(scenario())


async def test_a_cancelled_async_block_is_no_failure(make_guard: MakeGuard) -> None:
    guard = make_guard(breaker=TRIPS_AT_ONCE)
    inside = asyncio.Event()

    async def call() -> None:
        async with guard.call():
            inside.set()
            await asyncio.sleep(60.0)

    task = asyncio.create_task(call())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (guard.breaker_state, guard.in_flight, guard.counters.calls_cancelled) == ("closed", 0, 1)


async def test_an_async_block_without_a_timeout_is_the_clients_to_end(make_guard: MakeGuard) -> None:
    guard = make_guard(timeout=math.inf)

    async with guard.call() as call:
        assert call.remaining() == math.inf

    assert guard.counters.calls_success == 1


def test_a_failed_trial_in_a_block_opens_again(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(breaker=BreakerSettings(consecutive=1, consecutive_over=0.0, trials=1, successes_to_close=1))
    with pytest.raises(ConnectionResetError), guard.call():
        raise ConnectionResetError
    clock.advance(5.0)

    with pytest.raises(ConnectionResetError), guard.call():
        raise ConnectionResetError

    with pytest.raises(BreakerOpenError), guard.call():
        pytest.fail("entered")


def test_a_guards_own_deadline_limits_a_block(make_guard: MakeGuard) -> None:
    with make_guard(timeout=5.0, deadline=0.3).call() as call:
        assert call.remaining() == pytest.approx(0.3)
