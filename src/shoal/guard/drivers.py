"""The two loops that make the attempts: they read the clock, call, and sleep. What to do is the pipeline's to say.

The first attempt of a call and its timely answer are what nearly all calls consist of. Here they cost a few additions
to the cells; everything else is asked of the pipeline.
"""

from __future__ import annotations

import asyncio
import math
from asyncio import get_running_loop
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any, TypeAlias

from .attempt import Attempt
from .attempts import go_on, make_attempt
from .cells import LATENCIES
from .current_task import CURRENT_TASKS
from .deadlines import UNTIL, deadline
from .pipeline import Pipeline

Function: TypeAlias = Callable[..., Any]
Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]
SyncDriver: TypeAlias = Callable[[Pipeline, Function, Args, Kwargs], Any]
AsyncDriver: TypeAlias = Callable[[Pipeline, Function, Args, Kwargs], Coroutine[Any, Any, Any]]

_NOT_YET: Any = object()
_NEVER = math.inf
_LAST = LATENCIES - 1
_deadline = UNTIL.get

# By exact type, which is a fifth of what it costs to look for an __await__ that is not there.
_AWAITABLES = frozenset({CoroutineType, asyncio.Future, asyncio.Task})


def call(pipeline: Pipeline, fn: Function, args: Args, kwargs: Kwargs) -> Any:
    """Call in the caller's thread. The time limit is the client's own: a thread cannot be made to let go."""
    cells = pipeline.cells
    at = pipeline.now()
    ticket = cells.ticket
    # The deadline first: between the comparison and the step that follows no thread may come in, as it may at a call.
    if at < _deadline() and ticket and cells.entered - cells.left < cells.ceiling:
        cells.entered += 1
        attempted = fn
    else:
        ticket = pipeline.begin(at)
        attempted = _disturbed(pipeline, fn)
    try:
        value = attempted(*args, **kwargs)
        if type(value) in _AWAITABLES:
            _refuse(value, fn)
    except Exception as error:
        until = min(at + pipeline.longest, _deadline())
        wait = pipeline.failed(ticket, error, attempt=1, began=at, until=until, now=pipeline.now())
        if wait is None:
            raise
        last = error
    except BaseException:
        pipeline.cancelled(ticket, attempt=1)
        raise
    else:
        now = pipeline.now()
        took = now - at
        if ticket == cells.ticket and now < cells.turns_at and took < cells.slow_after:
            cells.left += 1
            cells.answered = answered = cells.answered + 1
            cells.latencies[answered & _LAST] = took
            cells.answered_at = now
        else:
            pipeline.succeeded(ticket, attempt=1, took=took, now=now)
        return value
    try:
        return _again(pipeline, fn, args, kwargs, last=last, wait=wait, until=until)
    finally:
        # Or the frame and the error's traceback would keep each other alive.
        del last


def _again(
    pipeline: Pipeline, fn: Function, args: Args, kwargs: Kwargs, *, last: Exception, wait: float, until: float
) -> Any:
    outer = _deadline()
    attempt = 1
    try:
        while True:
            try:
                pipeline.sleep(wait)
            except BaseException:
                pipeline.interrupted()
                raise
            at = pipeline.now()
            ticket = pipeline.resume(at, until)
            if ticket is None:
                pipeline.give_up(last, at)
                raise last
            attempt += 1
            # What an attempt asks for in `remaining()`. Of a first one the guard's timeout is known without.
            UNTIL.set(until)
            try:
                value = _disturbed(pipeline, fn)(*args, **kwargs)
                if type(value) in _AWAITABLES:
                    _refuse(value, fn)
            except Exception as error:
                again = pipeline.failed(ticket, error, attempt=attempt, began=at, until=until, now=pipeline.now())
                if again is None:
                    raise
                last, wait = error, again
            except BaseException:
                pipeline.cancelled(ticket, attempt=attempt)
                raise
            else:
                now = pipeline.now()
                pipeline.succeeded(ticket, attempt=attempt, took=now - at, now=now)
                return value
            finally:
                UNTIL.set(outer)
    finally:
        del last


async def acall(  # noqa: C901 -- all a call that goes well comes to, without a call of its own for any of it
    pipeline: Pipeline, fn: Function, args: Args, kwargs: Kwargs
) -> Any:
    """Await in the caller's task, each attempt over at its deadline."""
    cells = pipeline.cells
    at = pipeline.now()
    ticket = cells.ticket
    last_moment = _deadline()
    if ticket and cells.entered - cells.left < cells.ceiling and at < last_moment:
        cells.entered += 1
        attempted = fn
    else:
        ticket = pipeline.begin(at)
        attempted = _disturbed_async(pipeline, fn)
    try:
        if pipeline.timeout == last_moment == _NEVER:
            value = await attempted(*args, **kwargs)
        elif type(steps := attempted(*args, **kwargs)) is CoroutineType:
            # What `make_attempt` does, once more: here it saves a fourth of what a call costs.
            attempt = Attempt()
            attempt.steps = steps
            loop = get_running_loop()
            host = CURRENT_TASKS.get(loop)
            CURRENT_TASKS[loop] = attempt
            try:
                waiter = steps.send(None)
                value = _NOT_YET
            except StopIteration as stop:
                # Nothing to wait for: no timer, and no turn of the loop.
                value = stop.value
                if attempt.was_touched:
                    attempt.has_returned(loop)
            except BaseException as error:
                attempt.has_ended(loop, error)
                raise
            finally:
                if host is None:
                    del CURRENT_TASKS[loop]
                else:
                    CURRENT_TASKS[loop] = host
                # Or the task, its exception and this frame would keep each other alive.
                del host
            if value is _NOT_YET:
                value = await go_on(pipeline, attempt, waiter, loop, at=at, until=last_moment)
        else:
            value = await make_attempt(pipeline, lambda: steps, (), {}, at=at, until=last_moment)
    except Exception as error:
        until = min(at + pipeline.longest, last_moment)
        wait = pipeline.failed(ticket, error, attempt=1, began=at, until=until, now=pipeline.now())
        if wait is None:
            raise
        last = error
    except BaseException:
        pipeline.cancelled(ticket, attempt=1)
        raise
    else:
        now = pipeline.now()
        took = now - at
        if ticket == cells.ticket and now < cells.turns_at and took < cells.slow_after:
            cells.left += 1
            cells.answered = answered = cells.answered + 1
            cells.latencies[answered & _LAST] = took
            cells.answered_at = now
        else:
            pipeline.succeeded(ticket, attempt=1, took=took, now=now)
        return value
    try:
        return await _again_async(pipeline, fn, args, kwargs, last=last, wait=wait, until=until)
    finally:
        del last


async def _again_async(
    pipeline: Pipeline,
    fn: Function,
    args: Args,
    kwargs: Kwargs,
    *,
    last: Exception,
    wait: float,
    until: float,
) -> Any:
    outer = _deadline()
    attempt = 1
    try:
        while True:
            try:
                await pipeline.async_sleep(wait)
            except BaseException:
                pipeline.interrupted()
                raise
            at = pipeline.now()
            ticket = pipeline.resume(at, until)
            if ticket is None:
                pipeline.give_up(last, at)
                raise last
            attempt += 1
            UNTIL.set(until)
            try:
                attempted = _disturbed_async(pipeline, fn)
                value = await make_attempt(pipeline, attempted, args, kwargs, at=at, until=until)
            except Exception as error:
                again = pipeline.failed(ticket, error, attempt=attempt, began=at, until=until, now=pipeline.now())
                if again is None:
                    raise
                last, wait = error, again
            except BaseException:
                pipeline.cancelled(ticket, attempt=attempt)
                raise
            else:
                now = pipeline.now()
                pipeline.succeeded(ticket, attempt=attempt, took=now - at, now=now)
                return value
            finally:
                UNTIL.set(outer)
    finally:
        del last


def call_in_time(pipeline: Pipeline, fn: Function, args: Args, kwargs: Kwargs) -> Any:
    """`call`, for a guard with a deadline of its own, which guards inside inherit."""
    with deadline(pipeline.limit, clock=pipeline.clock):
        return call(pipeline, fn, args, kwargs)


async def acall_in_time(pipeline: Pipeline, fn: Function, args: Args, kwargs: Kwargs) -> Any:
    """`acall`, for a guard with a deadline of its own, which guards inside inherit."""
    with deadline(pipeline.limit, clock=pipeline.clock):
        return await acall(pipeline, fn, args, kwargs)


def _refuse(awaitable: object, fn: Function) -> None:
    # Taken for an answer, it would be a success each time, and the breaker would never open (danielfm/pybreaker#7).
    if isinstance(awaitable, CoroutineType):
        awaitable.close()
    name = getattr(fn, "__qualname__", repr(fn))
    raise TypeError(f"{name} returned something to await; use arun(), or decorate an `async def`")


def _disturbed(pipeline: Pipeline, fn: Function) -> Function:
    fault = pipeline.fault
    if fault is None or not fault.strikes(pipeline.rng):
        return fn

    def struck(*args: Any, **kwargs: Any) -> Any:
        if fault.latency:
            pipeline.sleep(fault.latency)
        if fault.error is not None:
            raise fault.error()
        return fn(*args, **kwargs)

    return struck


def _disturbed_async(pipeline: Pipeline, fn: Function) -> Function:
    fault = pipeline.fault
    if fault is None or not fault.strikes(pipeline.rng):
        return fn

    async def struck(*args: Any, **kwargs: Any) -> Any:
        if fault.latency:
            await pipeline.async_sleep(fault.latency)
        if fault.error is not None:
            raise fault.error()
        return await fn(*args, **kwargs)

    return struck
