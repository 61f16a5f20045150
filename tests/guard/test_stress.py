"""Many guards, many threads, many loops: nothing is lost, nothing stays behind, nothing locks up."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import ContextVar
from dataclasses import dataclass, field

import pytest

import shoal
from shoal.errors import BreakerOpenError, BulkheadFullError, CallRejectedError, DeadlineExceededError
from shoal.guard import Backoff, BreakerSettings, BudgetSettings, Counters, Guard, Transition
from shoal.testing import ManualClock

MakeGuard = Callable[..., Guard]

QUICK = BreakerSettings(minimum_calls=20, consecutive=5, consecutive_over=0.0, open_for=0.02, longest_open=0.04)
AT_ONCE = Backoff(initial=1e-6, maximum=1e-6, throttled=1e-6)


def silent(name: str, change: Transition) -> None:
    """Nobody needs a thousand warnings."""


def refuse() -> None:
    raise ConnectionRefusedError


class BusyError(Exception):
    retry_after = 0.0
    status = 429


def all_calls(counters: Counters) -> dict[str, int]:
    return {
        "success": counters.calls_success + counters.calls_success_after_retry,
        "timeout": counters.calls_timeout,
        "failure": counters.calls_exhausted + counters.calls_non_retryable,
        "cancelled": counters.calls_cancelled,
        "rejected": counters.calls_rejected,
    }


# Ten thousand guards, eight threads, four loops.

GUARDS, HOT = 10_000, 20
SYNC_CALLS, ASYNC_CALLS, TOGETHER = 4000, 1800, 60


@dataclass
class Ledger:
    """What one worker saw itself, by guard."""

    ended: Counter[tuple[int, str]] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    void: Counter[int] = field(default_factory=Counter)
    """Attempts that said nothing of the dependency."""
    throttled: Counter[int] = field(default_factory=Counter)
    resisted: Counter[int] = field(default_factory=Counter)
    """Attempts that took no notice of being cancelled."""
    hurried: Counter[int] = field(default_factory=Counter)
    """Calls with so little time that being late may say nothing."""
    slow: Counter[int] = field(default_factory=Counter)
    """Answers that took so long that others have little time by comparison."""


async def nap(seconds: float) -> None:
    """The wait between attempts, by which a cancellation there is told from one in an attempt."""
    _where.set("between attempts")
    await asyncio.sleep(min(seconds, 0.002))


_where: ContextVar[str] = ContextVar("_where")


def make_guards() -> list[Guard]:
    return [
        Guard(
            f"dependency {number}",
            timeout=0.03 + 0.01 * (number % 3),
            attempts=1 + number % 3,
            limit=8 if number < HOT else (None, 64)[number % 2],
            breaker=QUICK if number < HOT or number % 7 else None,
            budget=BudgetSettings(reserve=100.0) if number % 5 else None,
            backoff=AT_ONCE,
            on_transition=silent,
            sleep=lambda _: None,
            async_sleep=nap,
        )
        for number in range(GUARDS)
    ]


def pick(rng: random.Random) -> int:
    return rng.randrange(HOT) if rng.random() < 0.5 else rng.randrange(HOT, GUARDS)


def sync_worker(guards: list[Guard], seed: int) -> Ledger:
    rng, ledger = random.Random(seed), Ledger()

    def call(number: int) -> str:
        ledger.attempts[number] += 1
        draw = rng.random()
        if draw < 0.25:
            raise ConnectionResetError
        if draw < 0.3:
            raise TimeoutError
        if draw < 0.35:
            ledger.throttled[number] += 1
            raise BusyError
        if draw < 0.4:
            ledger.void[number] += 1
            raise KeyError(number)
        return "ok"

    for _ in range(SYNC_CALLS):
        number = pick(rng)
        began = time.monotonic()
        try:
            guards[number].run(call, number)
            ending = "success"
            ledger.slow[number] += time.monotonic() - began > guards[number].timeout / 2
        except CallRejectedError:
            ending = "rejected"
        except TimeoutError:
            ending = "timeout"
        except (ConnectionResetError, BusyError):
            ending = "failure"
        except KeyError:
            ending = "cancelled"
        ledger.ended[number, ending] += 1
    return ledger


async def async_worker(guards: list[Guard], seed: int) -> Ledger:  # noqa: C901 -- one branch for each way to end
    rng, ledger = random.Random(seed), Ledger()
    over = asyncio.Event()

    async def attempt(number: int) -> str:
        ledger.attempts[number] += 1
        _where.set("in an attempt")
        draw = rng.random()
        if draw < 0.3:
            return "at once"
        if draw < 0.4:
            raise ConnectionResetError
        await asyncio.sleep(rng.choice([0, 0, 0.001]))
        if draw < 0.6:
            return "soon"
        if draw < 0.7:
            raise ConnectionResetError
        if draw < 0.75:
            _where.set("its own mistake")
            raise KeyError(number)
        if draw < 0.8:
            async with asyncio.timeout(0.002):
                await over.wait()
        try:
            await over.wait()
        finally:
            if draw > 0.95 and number >= HOT:
                ledger.resisted[number] += 1
                await over.wait()
        return "never"

    async def caller(number: int, within: contextlib.AbstractContextManager[None]) -> None:
        with within:
            began = time.monotonic()
            try:
                await guards[number].arun(attempt, number)
                ending = "success"
                ledger.slow[number] += time.monotonic() - began > guards[number].timeout / 2
            except CallRejectedError:
                ending = "rejected"
            except TimeoutError:
                ending = "timeout"
            except ConnectionResetError:
                ending = "failure"
            except KeyError:
                ending = "cancelled"
                ledger.void[number] += 1
            except asyncio.CancelledError:
                ending = "cancelled"
                if _where.get("between attempts") == "in an attempt":
                    ledger.void[number] += 1
            ledger.ended[number, ending] += 1

    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()
    for _ in range(ASYNC_CALLS):
        number, hurry = pick(rng), rng.random() < 0.1
        ledger.hurried[number] += hurry
        task = asyncio.create_task(caller(number, shoal.deadline(0.02) if hurry else contextlib.nullcontext()))
        running.add(task)
        task.add_done_callback(running.discard)
        if rng.random() < 0.15:
            loop.call_later(0.02 * rng.random(), task.cancel)
        if len(running) >= TOGETHER:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait(running)
    over.set()
    orphans = asyncio.all_tasks() - {asyncio.current_task()}
    assert len(orphans) == ledger.resisted.total()
    if orphans:
        await asyncio.wait(orphans)
    # Their callbacks are a turn later.
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return ledger


def run_async_worker(guards: list[Guard], seed: int) -> Ledger:
    return asyncio.run(async_worker(guards, seed))


def test_ten_thousand_guards_eight_threads_and_four_loops_lose_nothing() -> None:
    guards = make_guards()
    with ThreadPoolExecutor(12) as pool:
        jobs = [pool.submit(sync_worker, guards, seed) for seed in range(8)]
        jobs += [pool.submit(run_async_worker, guards, seed) for seed in range(4)]
        wait(jobs)
    ledgers = [job.result() for job in jobs]

    total = Ledger()
    for ledger in ledgers:
        for name, counts in vars(ledger).items():
            getattr(total, name).update(counts)
    ended = total.ended
    # Nearly all of them: a task that is cancelled before it began made no call.
    assert 0.95 * (8 * SYNC_CALLS + 4 * ASYNC_CALLS) <= ended.total() <= 8 * SYNC_CALLS + 4 * ASYNC_CALLS
    assert {ending for _, ending in ended} == {"success", "timeout", "failure", "cancelled", "rejected"}
    assert sum(guard.counters.breaker_transitions["open"] for guard in guards[:HOT]) > 0
    exact = 0

    for number, guard in enumerate(guards):
        counters, health = guard.counters, guard.health()
        seen = {ending: ended[number, ending] for ending in all_calls(counters)}
        assert (guard.name, all_calls(counters)) == (guard.name, seen)
        assert counters.calls == sum(seen.values())
        assert (guard.name, counters.attempts + total.void[number]) == (guard.name, total.attempts[number])
        assert counters.orphans == total.resisted[number]
        assert guard.in_flight == health.in_flight == 0
        assert 0.0 <= guard.budget_remaining <= 1.0
        assert 0.0 <= health.error_rate <= 1.0
        assert (health.p50 or 0.0) <= (health.p95 or 0.0) < 5.0
        is_simple = number % 3 == counters.breaker_transitions["open"] == 0
        if is_simple and total.hurried[number] == total.slow[number] == 0:
            bad = counters.attempts_error + counters.attempts_timeout - total.throttled[number]
            assert health.error_rate == (bad / (counters.attempts_ok + bad) if bad else 0.0)
            exact += 1
    assert exact > GUARDS / 10


# Storms: a thousand callers at once, three attempts each, and nothing works.

CALLERS = 1000
NOT_YET = BreakerSettings(minimum_calls=1100, consecutive=10_000)


class Dependency:
    """Never works. Knows how often it was asked before its breaker opened, and since."""

    def __init__(self) -> None:
        self.asked = 0
        self.asked_before = 0
        self._lock = threading.Lock()

    def note(self, name: str, change: Transition) -> None:
        if change.before == "closed":
            self.asked_before = self.asked

    def ask(self) -> None:
        with self._lock:
            self.asked += 1
        raise ConnectionRefusedError

    async def ask_async(self) -> None:
        self.asked += 1
        # All are there before the first one fails.
        await asyncio.sleep(0)
        raise ConnectionRefusedError


async def yield_once(seconds: float) -> None:
    await asyncio.sleep(0)


storms = pytest.mark.parametrize(
    "breaker",
    [
        pytest.param(BreakerSettings(), id="opens at once"),
        pytest.param(NOT_YET, id="opens when retries are under way"),
        pytest.param(None, id="never opens"),
    ],
)


def assert_weathered(dependency: Dependency, breaker: BreakerSettings | None, wave: Callable[[], None]) -> None:
    wave()
    if breaker is None:
        assert dependency.asked <= 1.35 * CALLERS
        return
    assert 0 < dependency.asked_before <= 1.35 * CALLERS
    wave()
    assert dependency.asked - dependency.asked_before <= 0.05 * CALLERS


@storms
def test_a_storm_of_tasks(breaker: BreakerSettings | None, clock: ManualClock, make_guard: MakeGuard) -> None:
    dependency = Dependency()
    guard = make_guard(limit=None, breaker=breaker, on_transition=dependency.note, async_sleep=yield_once)

    async def callers() -> None:
        calls = (guard.arun(dependency.ask_async) for _ in range(CALLERS))
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} <= {ConnectionRefusedError, BreakerOpenError}

    assert_weathered(dependency, breaker, lambda: asyncio.run(callers()))
    if breaker is not None:
        # The pause is over, and nothing has changed.
        clock.advance(60.0)
        asyncio.run(callers())
        assert dependency.asked - dependency.asked_before <= 0.05 * CALLERS
    assert guard.in_flight == 0


@storms
def test_a_storm_of_thirty_two_threads(breaker: BreakerSettings | None, make_guard: MakeGuard) -> None:
    dependency = Dependency()
    guard = make_guard(limit=None, breaker=breaker, on_transition=dependency.note, sleep=lambda _: None)
    with ThreadPoolExecutor(32) as pool:

        def caller() -> None:
            with contextlib.suppress(ConnectionRefusedError, BreakerOpenError):
                guard.run(dependency.ask)

        def callers() -> None:
            for job in [pool.submit(caller) for _ in range(CALLERS)]:
                job.result()

        assert_weathered(dependency, breaker, callers)
    assert guard.counters.calls == CALLERS * (1 if breaker is None else 2)
    assert guard.counters.attempts == dependency.asked
    assert guard.in_flight == 0


# Threads that are switched as often as they can be.


@pytest.fixture
def restless() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_no_count_is_lost_by_restless_threads(restless: None) -> None:
    guard = Guard("auth", timeout=1.0, limit=None, breaker=None, backoff=AT_ONCE, sleep=lambda _: None)
    begin = threading.Barrier(8)
    made: list[Counter[str]] = []

    def worker(seed: int) -> None:
        rng, mine = random.Random(seed), Counter[str]()

        def call() -> None:
            mine["attempts"] += 1
            draw = rng.random()
            if draw < 0.1:
                raise ConnectionResetError
            if draw < 0.15:
                mine["void"] += 1
                raise KeyError

        begin.wait(10.0)
        for _ in range(3000):
            try:
                guard.run(call)
                mine["success"] += 1
            except ConnectionResetError:
                mine["failure"] += 1
            except KeyError:
                mine["cancelled"] += 1
        made.append(mine)

    threads = [threading.Thread(target=worker, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    total = sum(made, Counter())
    counters = guard.counters
    expected = {kind: total[kind] for kind in ("success", "timeout", "failure", "cancelled", "rejected")}
    assert all_calls(counters) == expected
    assert counters.calls == 8 * 3000
    assert counters.attempts == total["attempts"] - total["void"]
    assert counters.attempts_error == counters.retries + counters.calls_exhausted
    assert guard.in_flight == 0


def test_no_transition_is_told_twice_or_not_at_all_by_restless_threads(restless: None) -> None:
    told: list[Transition] = []
    settings = BreakerSettings(consecutive=3, consecutive_over=0.0, open_for=1e-4, longest_open=1e-4)
    guard = Guard(
        "auth",
        timeout=1.0,
        attempts=1,
        breaker=settings,
        on_transition=lambda name, change: told.append(change),
    )

    def worker(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(1000):
            with contextlib.suppress(ConnectionRefusedError, BreakerOpenError):
                guard.run(refuse if rng.random() < 0.6 else int)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(worker, range(8)))

    counts = Counter[str](change.after for change in told)
    assert counts["open"] > 5
    assert counts == Counter(guard.counters.breaker_transitions)
    # Each leaves the state that another one has led to; the breaker began closed.
    left = Counter[str](change.before for change in told)
    entered = counts + Counter[str]({"closed": 1})
    assert entered - left == Counter({guard.breaker_state: 1})
    assert left - entered == Counter()
    assert guard.in_flight == 0


def test_threads_that_come_together_do_not_exceed_the_limit(make_guard: MakeGuard) -> None:
    """Both are stopped where a thread may be: after they asked for the deadline."""
    guard = make_guard(limit=1)
    both_asked, both_inside = threading.Barrier(2), threading.Barrier(2)
    endings: list[str] = []

    def call() -> str:
        try:
            both_inside.wait(10.0)
        except threading.BrokenBarrierError:
            return "alone"
        return "together"

    def caller() -> None:
        def stop(frame: object, event: str, what: object) -> None:
            if event == "c_return" and isinstance(getattr(what, "__self__", None), ContextVar):
                sys.setprofile(None)
                both_asked.wait(10.0)

        sys.setprofile(stop)
        try:
            endings.append(guard.run(call))
        except BulkheadFullError:
            endings.append("rejected")
            both_inside.abort()

    threads = [threading.Thread(target=caller) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(endings) == ["alone", "rejected"]


# Code that calls the guard in the middle of the guard.


class Ambush(random.Random):
    """Randomness is drawn under the guard's lock, so this is where a signal or a finaliser comes worst."""

    def __init__(self, spring: Callable[[], object], *, times: int = 50) -> None:
        super().__init__(7)
        self._spring = spring
        self._times = times
        self.sprung = 0

    def random(self) -> float:
        self.sprung += 1
        if self.sprung <= self._times:
            self._spring()
        return super().random()


def in_another_thread(function: Callable[[], None]) -> None:
    """Runs it, and fails instead of hanging should it lock up."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(10.0)
    assert not thread.is_alive(), "it is locked up"


def call_in_all_ways(guard: Guard) -> Counter[str]:
    seen: Counter[str] = Counter()
    for function in (refuse, int):
        try:
            guard.run(function)
            seen["success"] += 1
        except ConnectionRefusedError:
            seen["failure"] += 1
        except BreakerOpenError:
            seen["rejected"] += 1
    assert guard.counters.calls >= 0
    assert guard.health().in_flight >= 0
    assert guard.may_retry() in {True, False}
    assert 0.0 <= guard.budget_remaining <= 1.0
    return seen


def assert_counted(guard: Guard, seen: Counter[str]) -> None:
    assert all_calls(guard.counters) == {kind: seen[kind] for kind in all_calls(guard.counters)}
    assert guard.in_flight == 0


def test_a_signal_handler_may_call_the_guard_whose_lock_it_interrupts(
    clock: ManualClock, make_guard: MakeGuard
) -> None:
    seen: Counter[str] = Counter()
    rng = Ambush(lambda: signal.raise_signal(signal.SIGUSR1))
    guard: Guard = make_guard(rng=rng, breaker=QUICK, budget=BudgetSettings(reserve=100.0), on_transition=silent)
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.update(call_in_all_ways(guard)))
    # A signal handler runs in the main thread; so if it locks up, that one has to be freed.
    watchdog = threading.Timer(10.0, os._exit, (70,))
    watchdog.start()

    try:
        for _ in range(200):
            seen.update(call_in_all_ways(guard))
            clock.advance(0.01)
    finally:
        watchdog.cancel()
        watchdog.join()
        signal.signal(signal.SIGUSR1, before)

    assert rng.sprung > 20
    assert_counted(guard, seen)


def test_a_finaliser_may_call_the_guard_whose_lock_it_interrupts(clock: ManualClock, make_guard: MakeGuard) -> None:
    seen: Counter[str] = Counter()

    class Finalised:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            seen.update(call_in_all_ways(guard))

    def collect() -> None:
        Finalised()
        gc.collect(0)

    def callers() -> None:
        for _ in range(200):
            seen.update(call_in_all_ways(guard))
            clock.advance(0.01)

    rng = Ambush(collect)
    guard: Guard = make_guard(rng=rng, breaker=QUICK, budget=BudgetSettings(reserve=100.0), on_transition=silent)

    in_another_thread(callers)

    assert rng.sprung > 20
    assert_counted(guard, seen)


def test_a_breaker_that_is_interrupted_while_it_opens_opens_once(make_guard: MakeGuard) -> None:
    told: list[tuple[str, str]] = []
    rng = Ambush(lambda: call_in_all_ways(guard), times=1)
    guard: Guard = make_guard(
        attempts=1,
        rng=rng,
        breaker=BreakerSettings(consecutive=1, consecutive_over=0.0),
        on_transition=lambda name, change: told.append((change.before, change.after)),
    )

    with pytest.raises(ConnectionRefusedError):
        guard.run(refuse)

    assert told == [("closed", "open")]
    assert guard.counters.breaker_transitions["open"] == 1


@pytest.mark.parametrize("how", ["raises", "calls the guard", "waits for a thread that does"])
def test_a_listener_does_no_harm(how: str, clock: ManualClock, make_guard: MakeGuard) -> None:
    seen: Counter[str] = Counter()
    told: list[str] = []

    def listener(name: str, change: Transition) -> None:
        told.append(change.after)
        if how == "raises":
            raise ZeroDivisionError
        if len(told) > 30:
            return
        if how == "calls the guard":
            seen.update(call_in_all_ways(guard))
        else:
            in_another_thread(lambda: seen.update(call_in_all_ways(guard)))

    guard: Guard = make_guard(breaker=QUICK, on_transition=listener)

    for _ in range(50):
        seen.update(call_in_all_ways(guard))
        clock.advance(0.01)

    assert {"open", "half-open"} <= set(told)
    assert Counter(told) == Counter(guard.counters.breaker_transitions)
    assert_counted(guard, seen)


# Many attempts that hang, and loops that come and go.


def test_thousands_of_hung_attempts_are_freed_in_no_time() -> None:
    """Processor time, so that neighbours do not matter: all of it is the most that a caller waits too long."""
    guard = Guard("auth", timeout=0.4, attempts=1, limit=None, breaker=None, budget=None)

    async def scenario() -> float:
        tasks = [asyncio.create_task(guard.arun(asyncio.Event().wait)) for _ in range(4000)]
        await asyncio.sleep(0)
        at = time.thread_time()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        took = time.thread_time() - at
        assert {type(result) for result in results} == {DeadlineExceededError}
        return took

    took = asyncio.run(scenario())

    assert took < 1.0, f"freeing 4000 took {took:.3f} s"
    assert guard.counters.calls_timeout == 4000
    assert (guard.in_flight, guard.counters.orphans) == (0, 0)


def test_thousands_of_hung_attempts_are_freed_in_one_sweep(jumping: Callable[..., None], make_guard: MakeGuard) -> None:
    guard = make_guard(timeout=1.0, attempts=1, limit=None, breaker=None)
    freed: list[int] = []
    turn = 0

    async def caller() -> None:
        with pytest.raises(DeadlineExceededError):
            await guard.arun(asyncio.Event().wait)
        freed.append(turn)

    async def scenario() -> None:
        nonlocal turn
        tasks = [asyncio.create_task(caller()) for _ in range(2000)]
        await asyncio.sleep(0.999)
        while len(freed) < len(tasks):
            await asyncio.sleep(0 if turn else 0.001)
            turn += 1
        await asyncio.gather(*tasks)

    jumping(scenario())

    assert max(freed) - min(freed) <= 2
    assert max(freed) <= 12


def test_one_guard_serves_loop_after_loop() -> None:
    guard = Guard("auth", timeout=0.02, attempts=1, breaker=None)

    async def calls() -> None:
        with pytest.raises(DeadlineExceededError):
            await guard.arun(asyncio.Event().wait)
        assert await guard.arun(asyncio.sleep, 0, "ok") == "ok"
        # This one is still waiting when its loop ends.
        asyncio.create_task(guard.arun(asyncio.Event().wait)).add_done_callback(lambda _: None)
        await asyncio.sleep(0)

    for _ in range(5):
        asyncio.run(calls())

    assert guard.in_flight == 0
    assert (guard.counters.calls_timeout, guard.counters.calls_success, guard.counters.calls_cancelled) == (5, 5, 5)


def test_loops_may_take_turns_in_one_thread() -> None:
    """The timers of one are not forgotten while another runs."""
    guard = Guard("auth", timeout=0.02, attempts=1, breaker=None)
    loops = [asyncio.new_event_loop() for _ in range(3)]
    tasks = [loop.create_task(guard.arun(asyncio.Event().wait)) for loop in loops]

    for loop in loops:
        loop.run_until_complete(asyncio.sleep(0))
    for loop, task in zip(loops, tasks, strict=True):
        with pytest.raises(DeadlineExceededError):
            loop.run_until_complete(task)
        loop.close()

    assert guard.in_flight == 0
    assert guard.counters.calls_timeout == 3


# Clocks and processes.


def test_a_wall_clock_that_jumps_is_of_no_consequence() -> None:
    """Two guards see the same calls at the same times; only the wall clock of one is mad."""

    class Mad(ManualClock):
        def wall(self) -> float:
            return random.Random(self.now()).uniform(0.0, 4e9)

    def sleep_on(clock: ManualClock, slept: list[float], seconds: float) -> None:
        slept.append(seconds)
        clock.advance(seconds)

    def story(clock: ManualClock) -> tuple[list[str], Counters, list[float]]:
        slept: list[float] = []
        guard = Guard(
            "auth",
            timeout=1.0,
            deadline=5.0,
            breaker=BreakerSettings(minimum_calls=10, open_for=1.0),
            on_transition=silent,
            clock=clock,
            rng=random.Random(7),
            sleep=functools.partial(sleep_on, clock, slept),
        )
        rng, endings = random.Random(11), []
        for _ in range(600):
            clock.advance(rng.expovariate(20.0))
            # Calm and stormy weather by turns.
            error = rng.choice(
                [BusyError, ConnectionResetError, TimeoutError, None, None][: 3 + 2 * (clock.now() % 20 < 12)]
            )
            clock.advance(0.05)
            try:
                guard.run(raise_it, error)
                endings.append("ok")
            except Exception as ending:
                endings.append(repr(ending))
        return endings, guard.counters, slept

    mad, steady = story(Mad(1000.0)), story(ManualClock(1000.0, wall=1.8e9))

    assert mad == steady
    assert steady[1].breaker_transitions["open"] > 3
    assert steady[1].calls_rejected > 0


@pytest.mark.parametrize("start", [1000.0, 1000.1])
def test_too_late_is_a_failure_whatever_the_time_is(start: float) -> None:
    """The time a call has is not less than the timeout only because a sum was rounded."""
    clock = ManualClock(start)
    guard = Guard("auth", timeout=0.3, attempts=1, clock=clock)
    for _ in range(20):
        # Slow answers all the same: a synchronous call is not cut.
        guard.run(clock.advance, 0.35)

    def time_out() -> None:
        clock.advance(0.3)
        raise TimeoutError

    for _ in range(5):
        with pytest.raises(TimeoutError):
            guard.run(time_out)

    assert guard.health().error_rate == 5 / 25


def raise_it(error: type[Exception] | None) -> None:
    if error is not None:
        raise error


def test_a_guard_that_was_used_before_a_fork_works_in_the_children() -> None:
    """As with prefork servers. Jitter that all children share would make them all come back at the same time."""
    script = textwrap.dedent(
        """
        import asyncio, json, os, sys
        from shoal.errors import BreakerOpenError, DeadlineExceededError
        from shoal.guard import BreakerSettings, Guard

        waits = []
        guard = Guard("auth", timeout=0.02, attempts=3, sleep=waits.append,
                      breaker=BreakerSettings(consecutive=10, consecutive_over=0.0), on_transition=lambda *_: None)

        def refuse():
            raise ConnectionRefusedError

        def use():
            waits.clear()
            try:
                guard.run(refuse)
            except ConnectionRefusedError:
                pass
            try:
                asyncio.run(guard.arun(asyncio.Event().wait))
            except DeadlineExceededError:
                pass
            guard.run(int)

        use()
        pipes = []
        for child in range(3):
            read, write = os.pipe()
            if os.fork() == 0:
                status = 1
                try:
                    use()
                    before = list(waits)
                    for _ in range(20):
                        try:
                            guard.run(refuse)
                        except (ConnectionRefusedError, BreakerOpenError) as error:
                            rejected = isinstance(error, BreakerOpenError) and error.retry_after
                    counters = guard.counters
                    seen = {"waits": before, "calls": counters.calls, "state": guard.breaker_state,
                            "in_flight": guard.in_flight, "retry_after": rejected}
                    os.write(write, json.dumps(seen).encode())
                    status = 0
                finally:
                    os._exit(status)
            os.close(write)
            pipes.append(read)
        for read in pipes:
            print(os.read(read, 65536).decode())
        print(json.dumps({"calls": guard.counters.calls, "state": guard.breaker_state}))
        """
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=30.0)

    assert done.stderr == ""
    *children, parent = [json.loads(line) for line in done.stdout.splitlines()]
    assert parent == {"calls": 3, "state": "closed"}, "what children do is their own"
    assert [(child["calls"], child["state"], child["in_flight"]) for child in children] == [(26, "open", 0)] * 3
    assert len({tuple(child["waits"]) for child in children}) == 3
    assert len({child["retry_after"] for child in children}) == 3
