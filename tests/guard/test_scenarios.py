"""Situations in which circuit breakers and retries are known to go wrong, each under the letter it is known by.

a: half-open and late results. b: cancellation. c: a storm of retries. d: nested retries. e: the wall clock jumps.
f: errors that are answers. h: threads and event loops.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest

from shoal.errors import BreakerOpenError, BulkheadFullError, CallRejectedError, DeadlineExceededError
from shoal.guard import BreakerSettings, BudgetSettings, Guard
from shoal.testing import ManualClock

QUICK = BreakerSettings(consecutive=3, consecutive_over=0.0, open_for=0.3, longest_open=0.3, lease=5.0)

MakeGuard = Callable[..., Guard]
Jumping = Callable[[Coroutine[Any, Any, None]], None]


def fail() -> None:
    raise ConnectionRefusedError


def succeed() -> str:
    return "ok"


def trip(guard: Guard) -> None:
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            guard.run(fail)
    assert guard.breaker_state == "open"


def not_found() -> None:
    request = httpx.Request("GET", "http://auth/token")
    raise httpx.HTTPStatusError("404", request=request, response=httpx.Response(404))


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a1_of_a_hundred_tasks_three_make_trial_calls(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, breaker=QUICK, limit=None)
    trip(guard)
    clock.advance(0.3)
    answer = asyncio.Event()
    contacted = 0

    @guard
    async def call() -> None:
        nonlocal contacted
        contacted += 1
        await answer.wait()
        raise ConnectionRefusedError

    tasks = [asyncio.create_task(call()) for _ in range(100)]
    await turns()
    assert sum(task.done() for task in tasks) == 97
    answer.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert contacted == 3
    assert [type(result) for result in results].count(BreakerOpenError) == 97
    assert guard.breaker_state == "open"


def test_a2_of_thirty_two_threads_three_make_trial_calls(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, breaker=QUICK)
    trip(guard)
    clock.advance(0.3)
    start = threading.Barrier(32)
    rejected = threading.Semaphore(0)
    answer = threading.Event()
    contacted: deque[int] = deque()

    def call() -> None:
        contacted.append(1)
        assert answer.wait(10.0)
        raise ConnectionRefusedError

    def caller() -> None:
        start.wait(10.0)
        try:
            guard.run(call)
        except BreakerOpenError:
            rejected.release()
        except ConnectionRefusedError:
            pass

    threads = [threading.Thread(target=caller) for _ in range(32)]
    for thread in threads:
        thread.start()
    for _ in range(29):
        assert rejected.acquire(timeout=10.0)
    answer.set()
    for thread in threads:
        thread.join(10.0)

    assert len(contacted) == 3
    assert not rejected.acquire(blocking=False)


@pytest.mark.parametrize("waiting", [pytest.param(0.0, id="while-open"), pytest.param(0.3, id="in-the-trial")])
def test_a3_a_late_success_changes_nothing(waiting: float, clock: ManualClock, make_guard: MakeGuard) -> None:
    """The outer call begins while the breaker is closed, and succeeds when it no longer is."""
    guard = make_guard(attempts=1, breaker=QUICK)
    after: list[str] = []

    def began_while_closed() -> str:
        trip(guard)
        clock.advance(waiting)
        if waiting:
            with pytest.raises(ConnectionRefusedError):
                guard.run(fail)
        after.append(guard.breaker_state)
        return "late"

    assert guard.run(began_while_closed) == "late"

    assert [guard.breaker_state] == after
    if waiting:
        # One trial failed, one success would now re-open nothing and close nothing; the late one must not be it.
        assert guard.run(succeed) == "ok"
        assert guard.breaker_state == "half-open"
    else:
        for _ in range(20):
            with pytest.raises(BreakerOpenError):
                guard.run(succeed)


def test_a4_a_late_failure_does_not_lengthen_the_pause(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, breaker=QUICK)

    def began_while_closed() -> None:
        trip(guard)
        clock.advance(0.29)
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        guard.run(began_while_closed)
    clock.advance(0.01)

    assert guard.run(succeed) == "ok"
    assert guard.counters.breaker_transitions["open"] == 1


def test_a5_a_hanging_trial_loses_its_lease(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, breaker=QUICK)
    trip(guard)
    clock.advance(0.3)
    heard: list[object] = []

    def hang(others: int) -> None:
        if others:
            guard.run(hang, others - 1)
            return
        # All three trials are out and hang.
        with pytest.raises(BreakerOpenError) as rejection:
            guard.run(succeed)
        heard.append(rejection.value.retry_after)
        clock.advance(5.0)
        heard.extend([guard.run(succeed), guard.run(succeed), guard.breaker_state])

    guard.run(hang, 2)

    assert heard == [pytest.approx(5.0), "ok", "ok", "closed"]


async def cancel_a_call(guard: Guard) -> None:
    hung = asyncio.Event()
    task = asyncio.create_task(guard.arun(hung.wait))
    await turns(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_b1_a_cancelled_call_is_no_failure(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, breaker=QUICK)

    for _ in range(20):
        await cancel_a_call(guard)

    assert guard.breaker_state == "closed"
    assert guard.counters.calls_cancelled == 20
    assert guard.counters.attempts == guard.counters.final_failures == 0


async def test_b2_a_cancelled_call_is_no_success(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, breaker=QUICK)

    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            guard.run(fail)
    await cancel_a_call(guard)
    with pytest.raises(ConnectionRefusedError):
        guard.run(fail)

    assert guard.breaker_state == "open"


async def test_b3_a_cancelled_trial_gives_its_permit_back(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, breaker=QUICK)
    trip(guard)
    clock.advance(0.3)

    for _ in range(10):
        await cancel_a_call(guard)

    for _ in range(2):
        guard.run(succeed)
    assert guard.counters.breaker_transitions == {"closed": 1, "open": 1, "half-open": 1}


@pytest.mark.parametrize("when", ["while-running", "before-it-began", "with-the-answer", "while-backing-off"])
async def test_b4_every_place_is_free_after_cancellations(when: str, make_guard: MakeGuard) -> None:
    waiting = asyncio.Event()

    async def wait(seconds: float) -> None:
        await waiting.wait()

    guard = make_guard(attempts=2, limit=2, breaker=None, budget=None, async_sleep=wait)

    async def call(answer: asyncio.Future[str]) -> str:
        if when == "while-backing-off":
            raise ConnectionRefusedError
        return await answer

    for _ in range(20):
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        tasks = [asyncio.create_task(guard.arun(call, answer)) for _ in range(2)]
        if when != "before-it-began":
            await turns(4)
            assert guard.in_flight == (0 if when == "while-backing-off" else 2)
        if when == "with-the-answer":
            answer.set_result("ok")
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError] * 2

    assert guard.in_flight == 0
    answer = asyncio.get_running_loop().create_future()
    answer.set_result("ok")
    when = "done"
    assert await asyncio.gather(*(guard.arun(call, answer) for _ in range(2))) == ["ok", "ok"]


@pytest.mark.parametrize("order", ["cancelled-first", "deadline-first", "a-turn-after-the-deadline"])
def test_b5_a_cancellation_at_the_instant_of_the_deadline_wins(
    order: str, jumping: Jumping, make_guard: MakeGuard
) -> None:
    guard = make_guard(attempts=1, timeout=0.5, breaker=None)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(20):
            at = loop.time() + 0.5
            call = guard.arun(asyncio.wait_for, loop.create_future(), None)
            if order == "cancelled-first":
                # Among timers for the same instant the one set first rings first.
                tasks: list[asyncio.Task[Any]] = []
                loop.call_at(at, lambda tasks: tasks[0].cancel(), tasks)
                tasks.append(loop.create_task(call))
            else:
                tasks = [loop.create_task(call)]
                await turns(3)
                if order == "deadline-first":
                    loop.call_at(at, tasks[0].cancel)
                else:
                    loop.call_at(at, lambda task: loop.call_soon(task.cancel), tasks[0])
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]
            assert loop.time() == at

    jumping(scenario())

    assert guard.counters.calls_cancelled == 20
    assert guard.in_flight == 0


def test_c_a_storm_of_failures_is_answered_with_a_fifth_more_calls(clock: ManualClock, make_guard: MakeGuard) -> None:
    """1000 callers in one second, three attempts each, nothing works, and no breaker has opened yet."""
    guard = make_guard(breaker=None, budget=BudgetSettings(ratio=0.2, reserve=3.0), sleep=lambda _: None)
    contacted = 0

    def call() -> None:
        nonlocal contacted
        contacted += 1
        raise ConnectionRefusedError

    for _ in range(1000):
        with pytest.raises(ConnectionRefusedError):
            guard.run(call)
        clock.advance(0.001)

    assert contacted == 1000 + 200 + 30
    assert guard.counters.retries == 230
    assert guard.counters.retries_denied > 0
    assert guard.budget_remaining == 0.0


def test_c_with_its_breaker_a_storm_is_over_after_a_second(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard()

    for _ in range(1000):
        with pytest.raises((ConnectionRefusedError, CallRejectedError)):
            guard.run(fail)
        clock.advance(0.001)

    assert guard.counters.attempts < 60
    assert guard.counters.calls_rejected > 900


@pytest.mark.parametrize("wrapped", [pytest.param(False, id="as-it-is"), pytest.param(True, id="wrapped-on-the-way")])
async def test_d_three_layers_of_three_attempts_are_three_calls(wrapped: bool, make_guard: MakeGuard) -> None:
    outer, middle, inner = (make_guard(name) for name in ("outer", "middle", "inner"))
    contacted = 0

    class WalletError(Exception):
        pass

    @inner
    async def fetch() -> None:
        nonlocal contacted
        contacted += 1
        raise ConnectionRefusedError

    @middle
    async def validate() -> None:
        try:
            await fetch()
        except ConnectionRefusedError:
            if wrapped:
                raise WalletError("no token")  # noqa: B904 -- the mark must survive the implicit context, too
            raise

    @outer
    async def serve() -> None:
        await validate()

    with pytest.raises(WalletError if wrapped else ConnectionRefusedError):
        await serve()

    assert contacted == 3
    assert [guard.counters.attempts for guard in (outer, middle, inner)] == [1, 1, 3]
    assert [guard.counters.calls_non_retryable for guard in (outer, middle, inner)] == [1, 1, 0]


@pytest.mark.parametrize("jump", [pytest.param(-3600.0, id="back"), pytest.param(3600.0, id="forward")])
def test_e_a_jump_of_the_wall_clock_changes_nothing(jump: float, make_guard: MakeGuard) -> None:
    class Jumpy(ManualClock):
        def jump(self, seconds: float) -> None:
            self._wall += seconds

    clock = Jumpy(wall=1_800_000_000.0)
    guard = make_guard(attempts=1, breaker=QUICK, clock=clock)
    trip(guard)

    clock.jump(jump)
    with pytest.raises(BreakerOpenError):
        guard.run(succeed)
    clock.advance(0.3)

    assert guard.run(succeed) == "ok"


def test_f1_answers_that_say_no_do_not_open_the_breaker(make_guard: MakeGuard) -> None:
    guard = make_guard()

    for _ in range(200):
        with pytest.raises(httpx.HTTPStatusError):
            guard.run(not_found)

    assert guard.breaker_state == "closed"
    assert guard.counters.calls_success == guard.counters.attempts_ok == 200


def test_f2_failures_between_answers_that_say_no_do_open_it(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1)

    for call in range(20):
        with pytest.raises((httpx.HTTPStatusError, ConnectionRefusedError)):
            guard.run(fail if call % 2 else not_found)

    assert guard.breaker_state == "open"


def test_h1_threads_do_not_wait_for_each_other(make_guard: MakeGuard) -> None:
    """All sixteen are inside their call at the same time; one after the other, the barrier would break."""
    guard = make_guard(attempts=1)
    everyone = threading.Barrier(16)
    threads = [threading.Thread(target=guard.run, args=(everyone.wait, 10.0)) for _ in range(16)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)

    assert guard.counters.calls_success == 16


def test_h2_one_guard_serves_four_event_loops(make_guard: MakeGuard) -> None:
    guard = make_guard(limit=5, budget=None, breaker=None, attempts=1)
    inside = threading.Lock()
    now_inside = most_inside = 0
    results: deque[object] = deque()

    async def call() -> str:
        nonlocal now_inside, most_inside
        with inside:
            now_inside += 1
            most_inside = max(most_inside, now_inside)
        await turns(2)
        with inside:
            now_inside -= 1
        return "ok"

    async def callers() -> None:
        for _ in range(25):
            results.extend(await asyncio.gather(*(guard.arun(call) for _ in range(4)), return_exceptions=True))

    threads = [threading.Thread(target=lambda: asyncio.run(callers())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20.0)

    assert len(results) == 400
    assert {type(result) for result in results} <= {str, BulkheadFullError}
    assert results.count("ok") == guard.counters.calls_success >= 100
    assert most_inside <= 5
    assert guard.in_flight == 0


def test_a_deadline_is_no_cancellation(jumping: Jumping, make_guard: MakeGuard) -> None:
    """The counterpart of b5: without one from outside, the deadline is a failure."""
    guard = make_guard(attempts=1, timeout=0.5)

    async def scenario() -> None:
        with pytest.raises(DeadlineExceededError):
            await guard.arun(asyncio.Event().wait)

    jumping(scenario())

    assert guard.counters.attempts_timeout == guard.counters.calls_timeout == 1
    assert guard.counters.calls_cancelled == 0
