"""Whatever asks for the current task works inside a guard, which shows it an identity of its own there."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import logging
import math
import sys
import threading
import types
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import aiohttp.web
import anyio
import anyio.to_thread
import pytest
import uvloop
from aiohttp.helpers import TimerContext
from aiohttp.test_utils import TestServer
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, assume, event, example, given, settings
from hypothesis import strategies as st

from shoal._clock import Clock
from shoal.errors import DeadlineExceededError
from shoal.guard import Backoff, Guard

MakeGuard = Callable[..., Guard]
Jumping = Callable[[Coroutine[Any, Any, None]], None]
Body = Callable[[], Awaitable[str]]


def current() -> Any:
    task = asyncio.current_task()
    assert task is not None
    return task


async def forever() -> str:
    await asyncio.Event().wait()
    return "never"


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# Everything here holds on to the current task, and most of it cancels that task after 3 seconds.


async def in_timeout(body: Body) -> str:
    async with asyncio.timeout(3.0):
        return await body()


async def in_timeout_at(body: Body) -> str:
    async with asyncio.timeout_at(asyncio.get_running_loop().time() + 3.0):
        return await body()


async def in_wait_for(body: Body) -> str:
    async def bound() -> str:
        return await body()

    return await asyncio.wait_for(bound(), 3.0)


async def in_task_group(body: Body) -> str:
    try:
        async with asyncio.TaskGroup() as group:
            child = group.create_task(asyncio.sleep(2.0))
            result = await body()
            child.cancel()
    except* ValueError as errors:
        raise errors.exceptions[0] from None
    return result


async def in_child_of_task_group(body: Body) -> str:
    async def bound() -> str:
        return await body()

    try:
        async with asyncio.timeout(3.0), asyncio.TaskGroup() as group:
            child = group.create_task(bound())
    except* ValueError as errors:
        raise errors.exceptions[0] from None
    return child.result()


async def in_gather(body: Body) -> str:
    async with asyncio.timeout(3.0):
        result, _ = await asyncio.gather(body(), asyncio.sleep(0))
        return result


async def in_shield(body: Body) -> str:
    async def bound() -> str:
        return await body()

    inner = asyncio.ensure_future(bound())
    try:
        return await asyncio.shield(inner)
    finally:
        inner.cancel()
        # What the shielded task ended with has been seen, or is a cancellation.
        await asyncio.wait([inner])
        if not inner.cancelled():
            inner.exception()


async def in_anyio_scope(body: Body) -> str:
    with anyio.CancelScope(deadline=anyio.current_time() + 3.0):
        return await body()
    return "cancelled by its own scope"


async def in_anyio_move_on_after(body: Body) -> str:
    with anyio.move_on_after(3.0):
        return await body()
    return "moved on"


async def in_anyio_fail_after(body: Body) -> str:
    with anyio.fail_after(3.0):
        return await body()


async def in_anyio_task_group(body: Body) -> str:
    results = []

    async def child() -> None:
        results.append(await body())

    try:
        with anyio.fail_after(3.0):
            async with anyio.create_task_group() as group:
                group.start_soon(child)
    except* ValueError as errors:
        raise errors.exceptions[0] from None
    return results[0]


async def in_aiohttp_timer(body: Body) -> str:
    loop = asyncio.get_running_loop()
    timer = TimerContext(loop)
    handle = loop.call_later(3.0, timer.timeout)
    try:
        with timer:
            return await body()
    finally:
        handle.cancel()


async def in_generator(body: Body) -> str:
    async def rows() -> AsyncIterator[str]:
        async with asyncio.timeout(3.0):
            yield await body()

    async for row in rows():
        return row
    return "no rows"


async def in_async_with(body: Body) -> str:
    @asynccontextmanager
    async def connection() -> AsyncIterator[None]:
        async with asyncio.timeout(3.0):
            try:
                yield
            finally:
                await asyncio.sleep(0)

    async with connection():
        return await body()


async def in_another_guard(body: Body) -> str:
    return await Guard("another", timeout=3.0, attempts=1).arun(body)


HOLDERS = [
    in_timeout,
    in_timeout_at,
    in_wait_for,
    in_task_group,
    in_child_of_task_group,
    in_gather,
    in_shield,
    in_anyio_scope,
    in_anyio_move_on_after,
    in_anyio_fail_after,
    in_anyio_task_group,
    in_aiohttp_timer,
    in_generator,
    in_async_with,
    in_another_guard,
]

holders = pytest.mark.parametrize("holder", HOLDERS, ids=[holder.__name__[3:] for holder in HOLDERS])
Holder = Callable[[Body], Awaitable[str]]


async def assert_untouched(caller: object) -> None:
    """The caller's task is the current one again, and nothing cancels it, now or long after."""
    assert current() is caller
    assert current().cancelling() == 0
    await asyncio.sleep(100.0)
    assert current() is caller
    assert current().cancelling() == 0
    assert asyncio.all_tasks() == {caller}


@holders
def test_a_call_that_ends_in_time(holder: Holder, jumping: Jumping, make_guard: MakeGuard) -> None:
    guard = make_guard(timeout=10.0)

    async def body() -> str:
        await asyncio.sleep(1.0)
        return "ok"

    async def scenario() -> None:
        caller = current()
        assert await guard.arun(holder, body) == "ok"
        await assert_untouched(caller)

    jumping(scenario())

    assert guard.counters.calls_success == 1


@holders
def test_a_call_that_fails(holder: Holder, jumping: Jumping, make_guard: MakeGuard) -> None:
    guard = make_guard(timeout=10.0, attempts=1)

    async def body() -> str:
        await asyncio.sleep(1.0)
        raise ValueError("no such account")

    async def scenario() -> None:
        caller = current()
        with pytest.raises(ValueError, match="no such account"):
            await guard.arun(holder, body)
        await assert_untouched(caller)

    jumping(scenario())


@holders
def test_a_call_that_its_own_timeout_ends(holder: Holder, jumping: Jumping, make_guard: MakeGuard) -> None:
    """The guard's own is far away: what the code inside set for itself is what happens."""
    guard = make_guard(timeout=10.0, attempts=1, breaker=None)

    async def scenario() -> None:
        loop, caller = asyncio.get_running_loop(), current()
        with suppress(TimeoutError):
            assert await guard.arun(holder, forever) in {"cancelled by its own scope", "moved on"}
        assert loop.time() == pytest.approx(10.0 if holder in {in_task_group, in_shield} else 3.0)
        await assert_untouched(caller)

    jumping(scenario())


@holders
def test_a_call_that_the_guard_ends(holder: Holder, jumping: Jumping, make_guard: MakeGuard) -> None:
    guard = make_guard(timeout=1.0, attempts=1)
    seen: list[str] = []

    async def body() -> str:
        try:
            return await forever()
        finally:
            seen.append("cleaned up")

    async def scenario() -> None:
        loop, caller = asyncio.get_running_loop(), current()
        with pytest.raises(DeadlineExceededError, match=r"auth: no answer within 1 s"):
            await guard.arun(holder, body)
        assert seen == ["cleaned up"]
        assert loop.time() == pytest.approx(1.0)
        await assert_untouched(caller)

    jumping(scenario())

    assert guard.counters.orphans == 0
    assert guard.in_flight == 0


@holders
def test_a_call_that_its_caller_cancels(holder: Holder, jumping: Jumping, make_guard: MakeGuard) -> None:
    guard = make_guard(timeout=10.0)
    seen: list[str] = []

    async def body() -> str:
        try:
            return await forever()
        finally:
            seen.append("cleaned up")

    async def scenario() -> None:
        caller = asyncio.create_task(guard.arun(holder, body))
        await asyncio.sleep(1.0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert seen == ["cleaned up"]
        await assert_untouched(current())

    jumping(scenario())

    assert guard.counters.calls_cancelled == 1
    assert guard.in_flight == 0


# Their timeouts wait for what they have cancelled, in a guard as elsewhere; `wait_for` did so before Python 3.12.
PATIENT = {in_task_group, in_child_of_task_group, in_shield, in_another_guard}
if sys.version_info < (3, 12):
    PATIENT.add(in_wait_for)


@pytest.mark.parametrize("holder", [holder for holder in HOLDERS if holder is not in_anyio_task_group])
def test_a_call_that_is_let_go_reaches_its_caller_no_more(
    holder: Holder, jumping: Jumping, make_guard: MakeGuard
) -> None:
    """What it set at 3 s cancels it at 3 s: the call itself, which is in a task of its own by then.

    A task group of anyio is not among these: it cancels again in each turn, which nobody resists.
    """
    guard = make_guard(timeout=1.0, attempts=1)
    cleaning: list[float] = []

    async def stubborn() -> str:
        loop = asyncio.get_running_loop()
        try:
            return await forever()
        except asyncio.CancelledError:
            cleaning.append(loop.time())
            try:
                await asyncio.sleep(20.0)
            finally:
                cleaning.append(loop.time())
            raise

    async def scenario() -> None:
        caller = current()
        with pytest.raises(DeadlineExceededError):
            await guard.arun(holder, stubborn)
        assert asyncio.get_running_loop().time() == pytest.approx(1.0)
        assert guard.in_flight == guard.counters.orphans == 1
        await assert_untouched(caller)

    jumping(scenario())

    assert cleaning == pytest.approx([1.0, 21.0 if holder in PATIENT else 3.0])
    assert guard.in_flight == 0


def test_what_is_let_go_may_set_timeouts_then(jumping: Jumping, make_guard: MakeGuard) -> None:
    guard = make_guard(timeout=1.0, attempts=1)
    seen: list[object] = []

    async def stubborn() -> None:
        inside = current()
        try:
            await forever()
        finally:
            await asyncio.sleep(1.0)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await forever()
            with anyio.move_on_after(1.0) as scope:
                await forever()
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(1.0))
            seen.extend([scope.cancelled_caught, current() is inside, asyncio.get_running_loop().time()])

    async def scenario() -> None:
        caller = current()
        with pytest.raises(DeadlineExceededError):
            await guard.arun(stubborn)
        await assert_untouched(caller)

    jumping(scenario())

    assert seen == [True, True, pytest.approx(5.0)]


@pytest.mark.parametrize("first", ["outer", "middle", "inner"])
@pytest.mark.parametrize("resists", [False, True], ids=["obedient", "stubborn"])
def test_of_three_guards_the_one_whose_time_is_up_speaks(
    first: str, resists: bool, jumping: Jumping, make_guard: MakeGuard
) -> None:
    timeouts = {"outer": 30.0, "middle": 20.0, "inner": 10.0} | {first: 1.0}
    guards = {name: make_guard(name, timeout=timeout, attempts=1) for name, timeout in timeouts.items()}
    outer, middle, inner = guards.values()

    async def call() -> None:
        try:
            await forever()
        finally:
            if resists:
                await asyncio.sleep(40.0)

    async def scenario() -> None:
        caller = current()
        with pytest.raises(DeadlineExceededError, match=first):
            await outer.arun(lambda: middle.arun(lambda: inner.arun(call)))
        assert asyncio.get_running_loop().time() == pytest.approx(1.0)
        await assert_untouched(caller)

    jumping(scenario())

    names = list(guards)
    for name, guard in guards.items():
        late, orphaned = guard.counters.attempts_timeout, guard.counters.orphans
        if names.index(name) <= names.index(first):
            assert (late, guard.counters.calls_cancelled) == (1, 0), (
                "its attempt failed, by its own doing or by one inside"
            )
        else:
            assert (late, guard.counters.calls_cancelled) == (0, 1), "it was cancelled from outside"
        # Those around the innermost may have to let that one go while it does the same with the call.
        assert orphaned == (1 if resists and name == "inner" else orphaned if resists else 0)
        assert guard.in_flight == 0


def test_a_guard_in_a_task_group_in_a_guard(jumping: Jumping, make_guard: MakeGuard) -> None:
    outer, inner = make_guard("outer", attempts=1, timeout=2.0), make_guard("inner", attempts=1, timeout=10.0)
    ended: list[str] = []

    async def call(name: str, seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
        finally:
            ended.append(name)
        if name == "bad":
            raise ConnectionResetError
        return name

    async def both(bad: float) -> list[str]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(inner.arun(call, *what)) for what in (("bad", bad), ("good", 1.0))]
        return [task.result() for task in tasks]

    async def scenario() -> None:
        caller = current()
        with pytest.raises(ExceptionGroup) as failed:
            await outer.arun(both, 0.5)
        assert failed.group_contains(ConnectionResetError)
        with pytest.raises(DeadlineExceededError, match="outer"):
            await outer.arun(both, 5.0)
        await assert_untouched(caller)

    jumping(scenario())

    assert ended == ["bad", "good", "good", "bad"]
    # Of the second pair one was good in time.
    assert (inner.counters.calls_cancelled, inner.counters.calls_success, inner.counters.calls) == (2, 1, 4)
    assert inner.in_flight == outer.in_flight == 0


def test_a_task_group_inside_is_told_of_its_parents_cancellation(jumping: Jumping, make_guard: MakeGuard) -> None:
    guard = make_guard(timeout=10.0)
    cancelled: list[str] = []

    async def child() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            cancelled.append("child")
            raise

    async def call() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            group.create_task(child())

    async def scenario() -> None:
        task = asyncio.create_task(guard.arun(call))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await assert_untouched(current())

    jumping(scenario())

    assert cancelled == ["child", "child"]


def test_what_waits_on_conditions_events_queues_and_locks_gives_them_back(
    jumping: Jumping, make_guard: MakeGuard
) -> None:
    guard = make_guard(timeout=1.0, attempts=1, breaker=None)

    async def scenario() -> None:
        lock, condition, queue = asyncio.Lock(), asyncio.Condition(), asyncio.Queue[str]()
        semaphore, event = asyncio.Semaphore(1), asyncio.Event()

        async def hold(what: Any) -> None:
            async with what:
                await event.wait()

        async def wait_for_news() -> None:
            async with condition:
                await condition.wait()

        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: hold(lock),
            lambda: hold(semaphore),
            wait_for_news,
            event.wait,
            queue.get,
        ]
        for call in calls:
            with pytest.raises(DeadlineExceededError):
                await guard.arun(call)
        assert not lock.locked()
        assert not semaphore.locked()
        assert not condition.locked()
        await queue.put("not lost")
        assert await guard.arun(queue.get) == "not lost"
        event.set()
        for call in calls[:2]:
            await guard.arun(call)
        assert guard.counters.orphans == 0

    jumping(scenario())


def test_an_item_that_comes_with_the_deadline_is_not_lost(jumping: Jumping, make_guard: MakeGuard) -> None:
    guard = make_guard(timeout=1.0, attempts=1, breaker=None)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        for late in range(8):
            queue = asyncio.Queue[str]()

            def put(after: int, queue: asyncio.Queue[str]) -> None:
                if after:
                    loop.call_soon(put, after - 1, queue)
                else:
                    queue.put_nowait("item")

            loop.call_at(loop.time() + 1.0, put, late, queue)
            got: str | None = None
            with suppress(DeadlineExceededError):
                got = await guard.arun(queue.get)
            await turns(10)
            assert (got is None) is (queue.qsize() == 1)

    jumping(scenario())


async def test_a_task_that_cancels_itself_can_take_it_back(make_guard: MakeGuard) -> None:
    guard = make_guard()

    async def call() -> list[int]:
        task = current()
        seen = [task.cancelling()]
        assert task.cancel("enough") is True
        seen.append(task.cancelling())
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(60.0)
        seen.append(task.uncancel())
        await asyncio.sleep(0)
        seen.append(task.cancelling())
        return seen

    assert await guard.arun(call) == [0, 1, 0, 0]
    assert current().cancelling() == 0


async def test_a_task_that_cancels_itself_and_returns_is_cancelled(make_guard: MakeGuard) -> None:
    guard = make_guard()

    async def call(pause: int) -> str:
        await turns(pause)
        current().cancel()
        return "too late"

    for pause in (0, 1):
        with pytest.raises(asyncio.CancelledError):
            await guard.arun(call, pause)

    assert guard.counters.calls_cancelled == 2


async def test_the_identity_tells_what_a_task_tells(make_guard: MakeGuard) -> None:
    guard = make_guard("auth")
    kept: list[Any] = []

    async def call() -> None:
        task = current()
        kept.append(task)
        assert task.get_loop() is asyncio.get_running_loop()
        assert not task.done()
        await asyncio.sleep(0)
        assert current() is task
        assert task.get_name() == "auth"
        assert [frame.f_code.co_name for frame in task.get_stack()] == ["call"]
        assert task.get_coro().cr_code.co_name == "call"
        assert "'auth' running" in repr(task)
        task.set_name(7)
        assert task.get_name() == "7"

    await guard.arun(call)

    assert kept[0].done()
    assert kept[0].cancel() is False
    assert "ended" in repr(kept[0])


async def test_each_attempt_is_a_task_of_its_own(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=2, backoff=Backoff(initial=1e-6, maximum=1e-6))
    seen: list[object] = [current()]

    async def call() -> None:
        seen.append(current())
        await asyncio.sleep(0)
        if len(seen) < 3:
            raise ConnectionResetError

    await guard.arun(call)

    assert len({id(task) for task in seen}) == 3


@pytest.mark.parametrize("ending", ["returns at once", "returns", "fails at once", "fails", "is let go"])
def test_done_callbacks_are_called_once_when_the_code_has_really_ended(
    ending: str, jumping: Jumping, make_guard: MakeGuard
) -> None:
    guard = make_guard(timeout=1.0, attempts=1)
    called: list[tuple[bool, float, str]] = []
    variable = contextvars.ContextVar("variable", default="unset")
    context = contextvars.copy_context()
    context.run(variable.set, "its own context")

    def ended(task: Any) -> None:
        called.append((task.done(), asyncio.get_running_loop().time(), variable.get()))

    def unwanted(task: Any) -> None:
        raise AssertionError("it was taken back")

    async def call() -> None:
        task = current()
        task.add_done_callback(ended, context=context)
        task.add_done_callback(unwanted)
        assert task.remove_done_callback(unwanted) == 1
        assert task.remove_done_callback(unwanted) == 0
        if ending in {"returns", "fails"}:
            await asyncio.sleep(0.5)
        if ending.startswith("fails"):
            raise ConnectionResetError
        if ending == "is let go":
            try:
                await forever()
            finally:
                await asyncio.sleep(5.0)

    async def scenario() -> None:
        with suppress(ConnectionResetError, DeadlineExceededError):
            await guard.arun(call)
        await asyncio.sleep(10.0)

    jumping(scenario())

    at = {"returns": 0.5, "fails": 0.5, "is let go": 6.0}.get(ending, 0.0)
    assert [(done, variable) for done, _, variable in called] == [(True, "its own context")]
    assert called[0][1] == pytest.approx(at)


async def test_a_done_callback_may_ask_how_it_ended(make_guard: MakeGuard, caplog: pytest.LogCaptureFixture) -> None:
    """As callbacks do that keep asyncio from complaining of an error nobody has looked at."""
    guard = make_guard(attempts=1)

    async def call() -> None:
        current().add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.sleep(0)

    await guard.arun(call)
    await turns(3)

    assert [record.getMessage() for record in caplog.records] == []


def test_a_generator_that_is_left_early_is_closed(jumping: Jumping, make_guard: MakeGuard) -> None:
    guard = make_guard(timeout=1.0, attempts=1)
    closed: list[str] = []

    async def rows(name: str) -> AsyncIterator[int]:
        try:
            for row in range(100):
                await asyncio.sleep(0.1)
                yield row
        finally:
            await asyncio.sleep(0)
            closed.append(name)

    async def call(name: str, enough: int) -> int:
        async for row in rows(name):
            if row == enough:
                return row
        return -1

    async def scenario() -> None:
        assert await guard.arun(call, "left", 3) == 3
        with pytest.raises(DeadlineExceededError):
            await guard.arun(call, "cut", 50)
        gc.collect()
        await asyncio.sleep(1.0)
        await assert_untouched(current())

    jumping(scenario())

    assert sorted(closed) == ["cut", "left"]


def test_what_is_let_go_sets_its_variables_for_itself(jumping: Jumping, make_guard: MakeGuard) -> None:
    guard = make_guard(timeout=1.0, attempts=1)
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    async def call() -> None:
        variable.set("before the deadline")
        try:
            await forever()
        finally:
            await asyncio.sleep(1.0)
            variable.set("after it")
            await asyncio.sleep(1.0)
            seen.append(variable.get())

    async def scenario() -> None:
        with pytest.raises(DeadlineExceededError):
            await guard.arun(call)
        variable.set("the caller's")
        await asyncio.sleep(10.0)
        seen.append(variable.get())

    jumping(scenario())

    assert seen == ["after it", "the caller's"]


async def test_libraries_that_ask_which_loop_this_is_are_told_asyncio(make_guard: MakeGuard) -> None:
    """Sniffio and its like look whether there is a current task."""
    guard = make_guard()

    async def call() -> tuple[bool, int, str, bool]:
        await checkpoint()
        info = anyio.get_current_task()
        cancelled = anyio.get_cancelled_exc_class() is asyncio.CancelledError
        return asyncio.current_task() is not None, info.id, str(info.name), cancelled

    asked, identity, name, cancelled = await guard.arun(call)

    assert (asked, name, cancelled) == (True, "auth", True)
    assert identity != id(current())


async def test_anyios_locks_streams_and_task_groups_work_inside(make_guard: MakeGuard) -> None:
    guard = make_guard(timeout=10.0)
    received: list[str] = []

    async def call() -> None:
        send, receive = anyio.create_memory_object_stream[str](1)
        lock, event = anyio.Lock(), anyio.Event()

        async def child(*, task_status: anyio.abc.TaskStatus[str]) -> None:
            task_status.started("started")
            async with lock:
                await send.send("sent")
            event.set()

        async with send, receive, anyio.create_task_group() as group:
            async with lock:
                received.append(await group.start(child))
                await checkpoint()
                assert lock.statistics().tasks_waiting == 1
            await event.wait()
            received.append(await receive.receive())

    await guard.arun(call)

    assert received == ["started", "sent"]


@pytest.mark.parametrize("how", ["cancel", "deadline", "task group", "waits for something that is over"])
async def test_a_scope_of_anyio_ends_what_is_inside_and_nothing_more(how: str, make_guard: MakeGuard) -> None:
    """It knows its own cancellation by the message."""
    guard = make_guard(timeout=10.0)

    async def call() -> bool:
        with anyio.CancelScope() as scope:
            if how == "cancel":
                scope.cancel()
                await asyncio.sleep(0)
            elif how == "deadline":
                scope.deadline = anyio.current_time()
                await asyncio.sleep(0)
            elif how == "task group":
                async with anyio.create_task_group() as group:
                    group.start_soon(forever)
                    scope.cancel()
                    await checkpoint()
            else:
                answer = asyncio.get_running_loop().create_future()
                asyncio.get_running_loop().call_soon(answer.set_result, "ok")
                asyncio.get_running_loop().call_soon(scope.cancel)
                await answer
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        return scope.cancelled_caught

    assert await guard.arun(call) is True
    assert current().cancelling() == 0


@pytest.mark.parametrize("resists", [False, True], ids=["obedient", "stubborn"])
@pytest.mark.parametrize("nested", [False, True], ids=["around a guard", "around a guard in a guard"])
def test_a_scope_of_anyio_ends_a_guard_inside_it(
    nested: bool, resists: bool, jumping: Jumping, make_guard: MakeGuard
) -> None:
    outer, inner = make_guard("outer", timeout=60.0), make_guard("inner", timeout=60.0)

    async def call() -> None:
        try:
            await forever()
        finally:
            if resists:
                # From the other cancellations that anyio sends, too.
                await asyncio.shield(asyncio.ensure_future(asyncio.sleep(10.0)))

    async def scoped() -> list[str]:
        seen = []
        with anyio.move_on_after(1.0) as scope:
            await inner.arun(call)
        seen.append("moved on" if scope.cancelled_caught else "")
        try:
            with anyio.fail_after(1.0):
                await inner.arun(call)
        except TimeoutError:
            seen.append("failed")
        async with anyio.create_task_group() as group:
            asyncio.get_running_loop().call_later(1.0, group.cancel_scope.cancel)
            await inner.arun(call)
        seen.append("cancelled")
        return seen

    async def scenario() -> None:
        caller = current()
        seen = await (outer.arun(scoped) if nested else scoped())
        assert seen == ["moved on", "failed", "cancelled"]
        assert asyncio.get_running_loop().time() == pytest.approx(3.0)
        await assert_untouched(caller)

    jumping(scenario())

    assert inner.counters.calls_cancelled == 3
    assert inner.in_flight == outer.in_flight == 0


@pytest.mark.parametrize("waiting", [False, True], ids=["ready", "waiting"])
async def test_what_a_cancellation_says_gets_through(waiting: bool, make_guard: MakeGuard) -> None:
    guard = make_guard(timeout=10.0)
    heard: list[tuple[object, ...]] = []

    async def call() -> None:
        try:
            await (forever() if waiting else turns(50))
        except asyncio.CancelledError as cancelled:
            heard.append(cancelled.args)
            raise

    task = asyncio.create_task(guard.arun(call))
    await turns(5)
    task.cancel("the user left")
    with pytest.raises(asyncio.CancelledError) as raised:
        await task

    assert heard == [("the user left",)]
    assert raised.value.args == ("the user left",)


# Requests to cancel that stay: code that is cancelled and goes on without `uncancel`, and before Python 3.13 a task
# group whose child fails after its body.


async def swallow() -> None:
    current().cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


async def group_fails_late() -> None:
    async def fail() -> None:
        await turns(3)
        raise ConnectionResetError

    with suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())


@pytest.mark.parametrize("before", [swallow, group_fails_late])
def test_an_old_request_to_cancel_does_not_save_a_call_from_its_deadline(
    before: Callable[[], Awaitable[None]], jumping: Jumping, make_guard: MakeGuard
) -> None:
    guard = make_guard(timeout=1.0, attempts=1)
    ended: list[float] = []

    async def call() -> None:
        await before()
        try:
            await forever()
        finally:
            ended.append(asyncio.get_running_loop().time())

    async def scenario() -> None:
        with pytest.raises(DeadlineExceededError):
            await guard.arun(call)
        await asyncio.sleep(100.0)

    jumping(scenario())

    assert ended == [pytest.approx(1.0)]
    assert (guard.in_flight, guard.counters.orphans) == (0, 0)


def test_a_deadline_that_comes_while_an_inner_timeout_cleans_up_is_not_forgotten(
    jumping: Jumping, make_guard: MakeGuard
) -> None:
    """Otherwise this code would go on for ever: nobody waits for it, and nobody has told it to stop."""
    guard = make_guard(timeout=1.0, attempts=1)
    rounds: list[float] = []

    async def ask_again_and_again() -> None:
        while True:
            rounds.append(asyncio.get_running_loop().time())
            with suppress(TimeoutError):
                async with asyncio.timeout(0.7):
                    try:
                        await forever()
                    finally:
                        await asyncio.sleep(0.7)

    async def scenario() -> None:
        with pytest.raises(DeadlineExceededError):
            await guard.arun(ask_again_and_again)
        await asyncio.sleep(100.0)

    jumping(scenario())

    assert rounds == [0.0]
    assert guard.in_flight == 0


def test_what_is_let_go_is_not_collected_half_way(jumping: Jumping, make_guard: MakeGuard) -> None:
    """A loop holds its tasks weakly, and what this one waits for is known to nobody else."""
    guard = make_guard(timeout=1.0, attempts=1)
    events: list[weakref.ref[asyncio.Event]] = []
    ended: list[str] = []

    async def resist() -> None:
        event = asyncio.Event()
        events.append(weakref.ref(event))
        try:
            await forever()
        finally:
            await event.wait()
            ended.append("cleaned up")

    async def scenario() -> None:
        with pytest.raises(DeadlineExceededError):
            await guard.arun(resist)
        await asyncio.sleep(1.0)
        gc.collect()
        event = events[0]()
        assert event is not None
        event.set()
        await turns(5)

    jumping(scenario())

    assert ended == ["cleaned up"]


def test_who_cancels_an_orphan_makes_no_second_one(jumping: Jumping, make_guard: MakeGuard) -> None:
    guard = make_guard(timeout=1.0, attempts=1)
    cancelled: list[float] = []

    async def resist() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(10.0)
            except asyncio.CancelledError:
                cancelled.append(asyncio.get_running_loop().time())

    async def scenario() -> None:
        with pytest.raises(DeadlineExceededError):
            await guard.arun(resist)
        (orphan,) = asyncio.all_tasks() - {current()}
        await asyncio.sleep(1.0)
        orphan.cancel()
        await asyncio.sleep(1.0)
        assert asyncio.all_tasks() - {current()} == {orphan}
        assert guard.in_flight == guard.counters.orphans == 1
        await asyncio.wait([orphan])
        await asyncio.sleep(0)
        assert asyncio.get_running_loop().time() == pytest.approx(12.0)

    jumping(scenario())

    assert cancelled == pytest.approx([1.0, 2.0])
    assert (guard.in_flight, guard.counters.orphans) == (0, 1)


# What needs real time: threads, and loops other than the jumping one.


def default_loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def debugging_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop


def uvloop_loop() -> asyncio.AbstractEventLoop:
    return uvloop.new_event_loop()


def eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


LOOPS = [default_loop, debugging_loop, uvloop_loop]
if sys.version_info >= (3, 12):
    # Not a skip below that: CI takes a skip for something missing, and 3.11 has no eager tasks to miss.
    LOOPS.append(eager_loop)

Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


@pytest.fixture(params=LOOPS, ids=[loop.__name__[:-5] for loop in LOOPS])
def run(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Run]:
    """Runs a scenario on each kind of event loop; the loop must have had nothing to complain of."""

    def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=request.param, debug=request.param is debugging_loop or None) as runner:
            runner.run(main())
        gc.collect()

    with caplog.at_level(logging.WARNING, logger="asyncio"):
        yield run
    # Debug mode reports slow steps, which on a busy machine any step may be.
    complaints = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert [words for words in complaints if not words.startswith("Executing")] == []


def test_every_ending_on_every_loop(run: Run) -> None:
    patient = Guard("auth", timeout=60.0, attempts=1, breaker=None)
    hasty = Guard("auth", timeout=0.05, attempts=1, breaker=None)
    cleaned: list[str] = []
    go_on = asyncio.Event()

    async def call(how: str) -> str:
        async with asyncio.timeout(30.0), asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
            await asyncio.sleep(0)
            if how == "fails":
                # The group cancels what is left, and nothing is.
                raise ConnectionResetError
            if how in {"hangs", "resists"}:
                try:
                    await forever()
                finally:
                    if how == "resists":
                        await go_on.wait()
                    cleaned.append(how)
            return how

    async def scenario() -> None:
        caller = current()
        assert await patient.arun(call, "ends") == "ends"
        with pytest.raises(ExceptionGroup) as failed:
            await patient.arun(call, "fails")
        assert failed.group_contains(ConnectionResetError)
        with pytest.raises(DeadlineExceededError):
            await hasty.arun(call, "hangs")
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.01):
                await patient.arun(call, "hangs")
        assert not isinstance(caught.value, DeadlineExceededError)
        with pytest.raises(DeadlineExceededError):
            await hasty.arun(call, "resists")
        assert hasty.in_flight == 1
        go_on.set()
        await turns(10)
        assert current() is caller
        assert caller.cancelling() == 0
        assert asyncio.all_tasks() == {caller}

    run(scenario)

    assert cleaned == ["hangs", "hangs", "resists"]
    assert (patient.counters.orphans, patient.in_flight, patient.counters.calls) == (0, 0, 3)
    assert (hasty.counters.orphans, hasty.in_flight, hasty.counters.calls) == (1, 0, 2)


def test_many_calls_of_all_endings_on_every_loop(run: Run) -> None:
    outer = Guard("outer", timeout=60.0, attempts=1, breaker=None, limit=None)
    patient = Guard("inner", timeout=60.0, attempts=1, breaker=None, limit=None)
    hasty = Guard("inner", timeout=0.1, attempts=2, breaker=None, limit=None, budget=None)

    async def call(number: int) -> int:
        kind = number % 5
        if kind == 0:
            return number
        if kind == 1:
            await asyncio.to_thread(int)
            return number
        if kind == 2:
            async with asyncio.timeout(0.01):
                await forever()
        if kind == 3:
            raise ConnectionResetError
        await forever()
        return number

    async def scenario() -> None:
        inner = [patient, patient, patient, patient, hasty] * 20
        calls = [outer.arun(guard.arun, call, number) for number, guard in enumerate(inner)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        expected = [int, int, TimeoutError, ConnectionResetError, DeadlineExceededError]
        assert [type(result) for result in results] == expected * 20
        assert asyncio.all_tasks() == {current()}

    run(scenario)

    assert patient.in_flight == hasty.in_flight == outer.in_flight == 0
    assert (patient.counters.calls, hasty.counters.calls, outer.counters.calls) == (80, 20, 100)
    assert hasty.counters.attempts_timeout == 40


@pytest.mark.parametrize("to_thread", [asyncio.to_thread, anyio.to_thread.run_sync], ids=["asyncio", "anyio"])
def test_threads_can_be_waited_for_and_not_waited_for(run: Run, to_thread: Callable[..., Awaitable[Any]]) -> None:
    patient, hasty = Guard("auth", timeout=60.0, attempts=1), Guard("auth", timeout=0.05, attempts=1)
    go_on = threading.Event()
    variable = contextvars.ContextVar("variable", default="unset")

    async def scenario() -> None:
        variable.set("the caller's")
        assert await patient.arun(to_thread, variable.get) == "the caller's"
        with pytest.raises(ZeroDivisionError):
            await patient.arun(to_thread, lambda: 1 / 0)
        with pytest.raises(DeadlineExceededError):
            await hasty.arun(to_thread, go_on.wait)
        go_on.set()
        # Whatever the thread reports now finds nobody.
        assert await asyncio.to_thread(int) == 0
        assert asyncio.all_tasks() == {current()}

    run(scenario)

    assert patient.in_flight == hasty.in_flight == 0


def test_a_loop_that_ends_cancels_what_was_let_go_and_waits_for_it(run: Run) -> None:
    guard = Guard("auth", timeout=0.02, attempts=1)
    ended: list[str] = []

    async def resist() -> None:
        try:
            await forever()
        finally:
            try:
                await forever()
            finally:
                await asyncio.sleep(0)
                ended.append("cleaned up")

    async def scenario() -> None:
        with pytest.raises(DeadlineExceededError):
            await guard.arun(resist)

    run(scenario)

    assert ended == ["cleaned up"]
    assert (guard.counters.orphans, guard.in_flight) == (1, 0)


def itself(awaitable: Awaitable[str]) -> Awaitable[str]:
    return awaitable


def test_a_loop_that_ends_waits_for_what_was_let_go_however_long_it_resists(run: Run) -> None:
    """As for any other task."""
    guard = Guard("auth", timeout=0.02, attempts=1)
    ended: list[str] = []

    async def resist() -> None:
        for _ in range(2):
            with suppress(asyncio.CancelledError):
                await forever()
        await asyncio.sleep(0.02)
        ended.append("cleaned up")

    async def scenario() -> None:
        with pytest.raises(DeadlineExceededError):
            await guard.arun(resist)

    run(scenario)

    assert ended == ["cleaned up"]
    assert (guard.counters.orphans, guard.in_flight) == (1, 0)


class Awaited:
    """Awaitable, and neither a coroutine nor a future."""

    def __await__(self) -> Generator[Any, None, str]:
        yield from asyncio.sleep(0).__await__()
        return "ok"


@types.coroutine
def old_style() -> Generator[Any, None, str]:
    yield
    yield from asyncio.sleep(0).__await__()
    return "ok"


def test_whatever_can_be_awaited_can_be_called(run: Run) -> None:
    guard = Guard("auth", timeout=5.0, attempts=1)

    async def soon() -> str:
        return "ok"

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        pending, done = loop.create_future(), loop.create_future()
        loop.call_soon(pending.set_result, "ok")
        done.set_result("ok")
        for awaitable in (pending, done, loop.create_task(soon()), Awaited(), old_style(), soon()):
            assert await guard.arun(functools.partial(itself, awaitable)) == "ok"
        assert await guard.arun(lambda: asyncio.gather(*[soon(), soon()])) == ["ok", "ok"]

    run(scenario)

    assert guard.counters.calls_success == 7


def test_a_future_of_another_loop_is_an_error_and_no_hang(run: Run) -> None:
    guard = Guard("auth", timeout=5.0, attempts=1)
    other = asyncio.new_event_loop()
    seen: list[str] = []

    async def call() -> None:
        try:
            await other.create_future()
        except RuntimeError as error:
            seen.append(str(error))
            # And the code may go on.
            await asyncio.sleep(0)
            raise

    async def scenario() -> None:
        with pytest.raises(RuntimeError, match="attached to a different loop"):
            await guard.arun(call)
        assert current().cancelling() == 0

    run(scenario)
    other.close()

    assert len(seen) == 1
    assert guard.in_flight == 0


@types.coroutine
def bare(thing: object) -> Generator[object, None, None]:
    yield thing


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        pytest.param(object, "Task got bad yield", id="object"),
        pytest.param(lambda: asyncio.sleep(0), "Task got bad yield", id="coroutine"),
        pytest.param(lambda: asyncio.get_running_loop().create_future(), "yield was used instead of", id="future"),
    ],
)
async def test_a_bare_yield_is_an_error_and_no_hang(
    thing: Callable[[], Any], words: str, make_guard: MakeGuard
) -> None:
    guard = make_guard(attempts=1)
    things: list[Any] = []

    async def call() -> None:
        things.append(thing())
        await bare(things[0])

    with pytest.raises(RuntimeError, match=words):
        await guard.arun(call)
    if asyncio.iscoroutine(things[0]):
        things[0].close()

    assert guard.in_flight == 0


async def test_a_bare_yield_while_it_cleans_up_is_no_error_of_the_guards() -> None:
    guard = Guard("auth", timeout=0.02, attempts=1)
    heard: list[str] = []

    async def call() -> None:
        try:
            await forever()
        finally:
            try:
                await bare(object())
            except RuntimeError as error:
                heard.append(str(error)[:18])

    with pytest.raises(DeadlineExceededError):
        await guard.arun(call)
    await turns(10)

    assert heard == ["Task got bad yield"]
    assert guard.in_flight == 0


async def test_a_bare_yield_of_nothing_is_a_turn_of_the_loop(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1)
    order: list[str] = []

    async def call() -> None:
        asyncio.get_running_loop().call_soon(order.append, "the loop")
        await bare(None)
        order.append("the call")

    await guard.arun(call)

    assert order == ["the loop", "the call"]


@pytest.mark.parametrize("steps", range(6))
async def test_a_caller_that_is_closed_after_any_step_leaves_nothing_behind(steps: int) -> None:
    """What it was in the middle of is cancelled, and may await something to clean up."""
    guard = Guard("auth", timeout=60.0, attempts=2)
    cleaned: list[str] = []

    async def call() -> str:
        try:
            await turns(4)
            return await forever()
        finally:
            await turns(2)
            cleaned.append("call")

    caller = guard.arun(call)
    for _ in range(steps):
        caller.send(None)
        await asyncio.sleep(0)
    caller.close()
    await turns(10)

    assert cleaned == (["call"] if steps else [])
    assert guard.in_flight == 0
    assert guard.counters.calls == guard.counters.calls_cancelled == (1 if steps else 0)
    assert asyncio.all_tasks() == {current()}


@pytest.mark.parametrize("steps", range(1, 12))
async def test_a_caller_that_is_closed_after_its_deadline_leaves_nothing_behind(steps: int) -> None:
    """While the call is being cancelled, too; and a call that is being closed is not begun again."""
    guard = Guard("auth", timeout=0.02, attempts=2, backoff=Backoff(initial=60.0, maximum=60.0), budget=None)
    begun: list[str] = []
    go_on = asyncio.Event()

    async def stubborn() -> None:
        begun.append("call")
        try:
            await forever()
        finally:
            await go_on.wait()

    class Closed:
        def __await__(self) -> Generator[Any, None, None]:
            caller = guard.arun(stubborn)
            for _ in range(steps):
                yield caller.send(None)
            caller.close()

    await Closed()
    go_on.set()
    await turns(10)

    assert begun == ["call"]
    assert guard.in_flight == 0
    assert guard.counters.calls == 1


def test_a_caller_that_is_closed_after_its_loop_takes_the_call_with_it() -> None:
    guard = Guard("auth", timeout=60.0, attempts=1)
    ended: list[str] = []

    async def call() -> None:
        try:
            await forever()
        finally:
            ended.append("closed")

    async def begin() -> Coroutine[Any, Any, None]:
        caller = guard.arun(call)
        caller.send(None)
        return caller

    asyncio.run(begin()).close()

    assert ended == ["closed"]
    assert (guard.in_flight, guard.counters.calls_cancelled) == (0, 1)


@pytest.mark.parametrize("guarded", [False, True], ids=["plain", "guarded"])
@pytest.mark.parametrize(
    "how", ["after the answer", "by the answer", "by the call that returns", "by the call that fails"]
)
async def test_a_cancellation_in_the_step_in_which_the_call_ends_is_not_lost(
    how: str, guarded: bool, make_guard: MakeGuard
) -> None:
    guard = make_guard(attempts=1)
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    tasks: list[asyncio.Task[str]] = []

    async def call() -> str:
        value = await answer
        if how.startswith("by the call"):
            tasks[0].cancel()
        if how.endswith("fails"):
            raise ConnectionResetError
        return value

    async def caller() -> str:
        with suppress(ConnectionResetError):
            await (guard.arun(call) if guarded else call())
        await asyncio.sleep(0)
        return "went on"

    if how == "by the answer":
        answer.add_done_callback(lambda _: tasks[0].cancel())
    tasks.append(asyncio.create_task(caller()))
    await turns(3)
    answer.set_result("ok")
    if how == "after the answer":
        tasks[0].cancel()

    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert guard.in_flight == 0


# A real client that keeps its timeouts in the current task.


class Server:
    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.arrived = asyncio.Event()

    async def answer(self, request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        self.arrived.set()
        response = aiohttp.web.StreamResponse()
        if request.path != "/mute":
            await response.prepare(request)
            await response.write(b"first, ")
        if request.path != "/":
            await self.go_on.wait()
        await response.prepare(request)
        await response.write(b"last")
        return response


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, aiohttp.ClientSession, str]]:
    script = Server()
    app = aiohttp.web.Application()
    app.router.add_get("/{path:.*}", script.answer)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        yield script, session, str(server.make_url("/"))
        script.go_on.set()


Served = tuple[Server, aiohttp.ClientSession, str]


async def fetch(session: aiohttp.ClientSession, url: str, timeout: aiohttp.ClientTimeout) -> str:
    async with session.get(url, timeout=timeout) as response:
        return await response.text()


UNHURRIED = aiohttp.ClientTimeout(total=60.0)


@pytest.mark.parametrize("path", ["mute", "slow"])
@pytest.mark.parametrize("kind", ["total", "sock_read"])
async def test_aiohttps_own_timeout_is_a_timeout_inside(path: str, kind: str, server: Served) -> None:
    _, session, url = server
    guard = Guard("auth", timeout=30.0, attempts=1)
    caller = current()

    with pytest.raises(TimeoutError) as caught:
        await guard.arun(fetch, session, url + path, aiohttp.ClientTimeout(**{kind: 0.03}))

    assert not isinstance(caught.value, DeadlineExceededError)
    assert await guard.arun(fetch, session, url, UNHURRIED) == "first, last"
    assert (guard.counters.attempts_timeout, guard.counters.attempts_ok, guard.in_flight) == (1, 1, 0)
    assert current() is caller
    assert caller.cancelling() == 0


@pytest.mark.parametrize("path", ["mute", "slow"])
@pytest.mark.parametrize("who", ["the guard", "the caller"])
async def test_an_aiohttp_request_can_be_ended_from_outside(path: str, who: str, server: Served) -> None:
    script, session, url = server
    guard = Guard("auth", timeout=0.05 if who == "the guard" else 30.0, attempts=1)
    call = asyncio.create_task(guard.arun(fetch, session, url + path, UNHURRIED))

    if who == "the caller":
        await script.arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    else:
        with pytest.raises(DeadlineExceededError):
            await call

    assert await fetch(session, url, UNHURRIED) == "first, last"
    assert (guard.counters.orphans, guard.in_flight) == (0, 0)


async def test_an_aiohttp_request_of_a_call_that_was_let_go_times_out_there(server: Served) -> None:
    _, session, url = server
    guard = Guard("auth", timeout=0.03, attempts=1)
    caller = current()
    ended = asyncio.Event()
    heard: list[type[BaseException]] = []

    async def call() -> None:
        try:
            await fetch(session, url + "slow", UNHURRIED)
        finally:
            try:
                await fetch(session, url + "mute", aiohttp.ClientTimeout(total=0.05))
            except BaseException as error:
                heard.append(type(error))
            ended.set()

    with pytest.raises(DeadlineExceededError):
        await guard.arun(call)
    assert guard.in_flight == 1
    await ended.wait()
    await turns(10)

    assert len(heard) == 1
    assert issubclass(heard[0], TimeoutError)
    assert current() is caller
    assert caller.cancelling() == 0
    assert guard.in_flight == 0


# A random program, once plainly under `asyncio.timeout` and once under a guard.

Program = tuple[Any, ...]
Part = Callable[[], Awaitable[None]]

wholes = st.integers(0, 4)

# Seconds, so that the shortest wait is still longer than what timers are early by.
UNIT = 2.0**16
leaves: st.SearchStrategy[Program] = st.one_of(
    st.tuples(st.sampled_from(["sleep", "sleep and fail"]), wholes),
    st.tuples(st.just("sleep"), wholes),
    st.just(("turn",)),
    st.just(("fail",)),
    st.just(("cancel itself",)),
    st.just(("cancel itself and take it back",)),
    st.just(("say cancelled",)),
)


def of(parts: st.SearchStrategy[Program], *of_anyio: str) -> st.SearchStrategy[Program]:
    return st.one_of(
        st.tuples(st.just("two"), parts, parts),
        st.tuples(st.sampled_from(["timeout", "wait_for", "guard", "cancel a task", *of_anyio[:1]]), wholes, parts),
        st.tuples(st.sampled_from(["task group", "gather", *of_anyio[1:]]), parts, parts),
        st.tuples(st.sampled_from(["shield", "catch"]), parts),
        st.tuples(st.just("finally"), st.integers(0, 2), parts),
    )


programs = st.recursive(leaves, of, max_leaves=8)
programs_with_anyio = st.recursive(leaves, lambda parts: of(parts, "anyio", "anyio group"), max_leaves=8)


class Machine:
    """Makes a coroutine function of a program, and notes what happens when.

    Every wait has a length of its own, a power of two after the point, and no two sums of them are the same. With
    guards inside, every part begins with a wait: then what happens at one instant is one thing and its consequences.
    Otherwise a part might end in the very turn in which it is cancelled from outside its guard, who has the last word.
    """

    def __init__(self, program: Program, *, guarded: bool, clock: Clock) -> None:
        self.program = program
        self.guarded = guarded
        self._is_apart = "'guard'" in repr(program)
        self.guards: list[Guard] = []
        self.notes: list[tuple[float, int, str]] = []
        self.over = False
        self.ended = math.inf
        self._clock = clock
        # Those before are of the deadline and the cancellation around it all.
        self._next = 3

    def note(self, at: int, what: str) -> None:
        if not self.over:
            self.notes.append((asyncio.get_running_loop().time(), at, what))

    def notes_to_compare(self) -> list[tuple[float, int, str]]:
        """In an order of their own, since what a guard winds up may take a turn more or less.

        What a gathering or a shield leaves running may do another step or none in the last instant.
        """
        leaves = any(f"'{kind}'" in repr(self.program) for kind in ("gather", "shield"))
        return sorted(note for note in self.notes if not leaves or note[0] < self.ended)

    def guard(self, timeout: float) -> Guard:
        guard = Guard("auth", timeout=timeout, attempts=1, breaker=None, clock=self._clock)
        self.guards.append(guard)
        return guard

    def make(self, program: Program) -> Part:  # noqa: C901 -- what it consists of is a case for each kind of part
        at, self._next = self._next, self._next + 2
        assume(at < 34)
        kind, *rest = program
        whole = next((part for part in rest if isinstance(part, int)), 0)
        length, moment = (whole + 2.0**-at) * UNIT, 2.0 ** -(at + 1) * UNIT
        parts = [self.make(part) for part in rest if isinstance(part, tuple)]

        async def first() -> None:
            await parts[0]()

        async def second() -> None:
            await parts[1]()

        async def run() -> None:  # noqa: C901 -- a case for each kind, and none matters to another
            match kind:
                case "sleep":
                    await asyncio.sleep(length)
                case "sleep and fail":
                    await asyncio.sleep(length)
                    raise ValueError(at)
                case "turn":
                    await asyncio.sleep(0)
                case "fail":
                    raise ValueError(at)
                case "cancel itself":
                    current().cancel()
                    # Or it would depend on what comes next: a guard that ends does not let it pass.
                    await asyncio.sleep(0)
                case "cancel itself and take it back":
                    current().cancel()
                    try:
                        await asyncio.sleep(0)
                    except asyncio.CancelledError:
                        current().uncancel()
                case "say cancelled":
                    raise asyncio.CancelledError
                case "two":
                    await first()
                    await second()
                case "timeout":
                    async with asyncio.timeout(length):
                        await first()
                case "wait_for":
                    await asyncio.wait_for(first(), length)
                case "anyio":
                    with anyio.move_on_after(length) as scope:
                        await first()
                    self.note(at, f"cancelled: {scope.cancelled_caught}")
                case "guard" if self.guarded:
                    await self.guard(length).arun(first)
                case "guard":
                    await under_asyncio_timeout(first, length)
                case "cancel a task":
                    task = asyncio.create_task(first())
                    await asyncio.sleep(length)
                    task.cancel()
                    await asyncio.wait([task])
                    self.note(at, "cancelled" if task.cancelled() else repr(task.exception()))
                case "task group":
                    async with none_left_over(), asyncio.TaskGroup() as group:
                        group.create_task(first())
                        await second()
                case "anyio group":
                    async with none_left_over(), anyio.create_task_group() as children:
                        children.start_soon(first)
                        await second()
                case "gather":
                    await asyncio.gather(first(), second())
                case "shield":
                    await asyncio.shield(asyncio.create_task(first()))
                case "catch":
                    try:
                        await first()
                    except (ValueError, ExceptionGroup) as error:
                        self.note(at, type(error).__name__)
                case "finally":
                    try:
                        await first()
                    finally:
                        self.note(at, "cleans up")
                        await turns(whole)
                        # Anyio cancels again in every turn, but a guard lets what is inside clean up.
                        if not (self._is_apart and "'anyio" in repr(self.program)):
                            self.note(at, "cleaned up")

        async def noted() -> None:
            if self._is_apart:
                await asyncio.sleep(moment)
            self.note(at, f"begins {kind}")
            try:
                await run()
            except TimeoutError:
                self.note(at, "times out")
            self.note(at, "ends")

        return noted


@asynccontextmanager
async def none_left_over() -> AsyncIterator[None]:
    """Take back requests to cancel that a group met with errors instead, or every timeout around it would go astray.

    A group of anyio drops them, and before Python 3.13 one of asyncio leaves its own when a child fails after its body.
    """
    requests = current().cancelling()
    try:
        yield
    except ExceptionGroup:
        while current().cancelling() > requests:
            current().uncancel()
        raise


async def under_asyncio_timeout(part: Part, seconds: float) -> None:
    """What a guard promises, in the words of asyncio: whoever is late is late, whatever they say when told so."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            await part()
    except asyncio.CancelledError:
        raise
    except Exception:
        if not limit.expired():
            raise
    if limit.expired():
        raise TimeoutError


async def outcome_of(machine: Machine, part: Part, *, limit: float, cancel_at: float | None) -> str:
    loop = asyncio.get_running_loop()
    call = machine.guard(limit).arun(part) if machine.guarded else under_asyncio_timeout(part, limit)
    task = loop.create_task(call)
    if cancel_at is not None:
        loop.call_at(cancel_at, task.cancel)
    await asyncio.wait([task])
    machine.over, machine.ended = True, loop.time()
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return "deadline" if isinstance(error, TimeoutError) else type(error).__name__


def assert_does_the_same(
    program: Program, whole: int, cancel: int | None, *, jumping: Jumping, loop_clock: Clock
) -> None:
    plain = Machine(program, guarded=False, clock=loop_clock)
    guarded = Machine(program, guarded=True, clock=loop_clock)
    outcomes: list[str] = []

    async def scenario(machine: Machine) -> None:
        caller, part = current(), machine.make(machine.program)
        cancel_at = None if cancel is None else (cancel + 0.5) * UNIT
        outcomes.append(await outcome_of(machine, part, limit=(whole + 0.25) * UNIT, cancel_at=cancel_at))
        outcomes.append(f"at {asyncio.get_running_loop().time()}")
        await asyncio.sleep(100.0 * UNIT)
        assert asyncio.all_tasks() == {caller}

    jumping(scenario(plain))
    jumping(scenario(guarded))

    let_go = any(guard.counters.orphans for guard in guarded.guards)
    event("let go" if let_go else outcomes[0])
    if not let_go:
        assert outcomes[2:] == outcomes[:2]
        assert guarded.notes_to_compare() == plain.notes_to_compare()
    assert [guard.in_flight for guard in guarded.guards] == [0] * len(guarded.guards)
    assert [guard.counters.calls for guard in guarded.guards] == [1] * len(guarded.guards)


many_programs = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@many_programs
@given(program=programs, whole=wholes, cancel=st.none() | wholes)
def test_a_program_does_the_same_under_a_guard_as_under_a_timeout_of_asyncio(
    program: Program, whole: int, cancel: int | None, jumping: Jumping, loop_clock: Clock
) -> None:
    assert_does_the_same(program, whole, cancel, jumping=jumping, loop_clock=loop_clock)


@many_programs
@given(program=programs_with_anyio, whole=wholes, cancel=st.none() | wholes)
@example(program=("anyio group", ("cancel itself",), ("gather", ("turn",), ("turn",))), whole=0, cancel=None)
@example(program=("anyio", 0, ("guard", 1, ("sleep", 1))), whole=1, cancel=None)
def test_so_does_a_program_with_scopes_and_groups_of_anyio(
    program: Program, whole: int, cancel: int | None, jumping: Jumping, loop_clock: Clock
) -> None:
    assert_does_the_same(program, whole, cancel, jumping=jumping, loop_clock=loop_clock)
