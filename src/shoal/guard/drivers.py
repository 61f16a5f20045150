"""The two loops that make the attempts: they read the clock, call, and sleep. What to do is the pipeline's to say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import Any, TypeAlias

from shoal._clock import Clock

from .deadline import Attempts
from .locks import exclusive
from .pipeline import Pipeline
from .stale import Answer, Shelf

Sleep: TypeAlias = Callable[[float], None]
AsyncSleep: TypeAlias = Callable[[float], Awaitable[None]]

# The function, its arguments, and where its answers are kept. What comes back is what the function returns, or an
# Answer if there is a shelf; Guard's methods give that its type.
SyncCall: TypeAlias = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any], Shelf | None], Any]
AsyncCall: TypeAlias = Callable[
    [Callable[..., Awaitable[Any]], tuple[Any, ...], dict[str, Any], Shelf | None], Coroutine[Any, Any, Any]
]

# By exact type, which is a fifth of what it costs to look for an __await__ that is not there.
_AWAITABLES = frozenset({CoroutineType, asyncio.Future, asyncio.Task})


def sync_driver(pipeline: Pipeline, *, clock: Clock, sleep: Sleep) -> SyncCall:
    """Calls in the caller's thread. The time limit is the client's own: a thread cannot be made to let go."""
    now, wall, total = clock.now, clock.wall, pipeline.total
    begin = exclusive(pipeline.lock, pipeline.begin)
    reject = exclusive(pipeline.lock, pipeline.reject)
    resume = exclusive(pipeline.lock, pipeline.resume)
    leave = exclusive(pipeline.lock, pipeline.bulkhead.leave)
    succeeded = exclusive(pipeline.lock, pipeline.succeeded)

    def call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], shelf: Shelf | None) -> Any:
        at = now()
        ticket = begin(at)
        if ticket is None:
            return reject(at, shelf)
        until = at + total
        attempt = 1
        last: Exception | None = None
        try:
            while True:
                try:
                    value = fn(*args, **kwargs)
                    if type(value) in _AWAITABLES:
                        _refuse(value, fn)
                except Exception as error:
                    step = pipeline.failed(
                        ticket, error, attempt=attempt, began=at, now=now(), until=until, wall=wall(), shelf=shelf
                    )
                    if step is None:
                        raise
                    last = error
                else:
                    at = now()
                    succeeded(ticket, attempt, at)
                    return value if shelf is None else shelf.keep(value, at)
                finally:
                    leave()
                if isinstance(step, Answer):
                    return step
                sleep(step)
                at = now()
                resumed = resume(at, until)
                if resumed is None:
                    return pipeline.give_up(last, at, shelf)
                ticket = resumed
                attempt += 1
        except Exception:
            raise
        except BaseException:
            pipeline.cancelled(ticket)
            raise
        finally:
            # Or the frame and the error's traceback would keep each other alive.
            last = None

    return call


def async_driver(pipeline: Pipeline, *, timeout: float, clock: Clock, sleep: AsyncSleep) -> AsyncCall:
    """Calls in a task of their own, each attempt over at its deadline."""
    now, wall, total = clock.now, clock.wall, pipeline.total
    begin = exclusive(pipeline.lock, pipeline.begin)
    reject = exclusive(pipeline.lock, pipeline.reject)
    resume = exclusive(pipeline.lock, pipeline.resume)
    succeeded = exclusive(pipeline.lock, pipeline.succeeded)
    make = Attempts(pipeline.name, bulkhead=pipeline.bulkhead, counters=pipeline.counters, lock=pipeline.lock)
    first = min(timeout, total)

    async def call(
        fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any], shelf: Shelf | None
    ) -> Any:
        at = now()
        ticket = begin(at)
        if ticket is None:
            return reject(at, shelf)
        until = at + total
        within = first
        attempt = 1
        last: Exception | None = None
        try:
            while True:
                try:
                    # Gives the bulkhead's place back as well: only it knows when the attempt has really ended.
                    value = await make(fn, args, kwargs, within)
                except Exception as error:
                    step = pipeline.failed(
                        ticket, error, attempt=attempt, began=at, now=now(), until=until, wall=wall(), shelf=shelf
                    )
                    if step is None:
                        raise
                    last = error
                else:
                    at = now()
                    succeeded(ticket, attempt, at)
                    return value if shelf is None else shelf.keep(value, at)
                if isinstance(step, Answer):
                    return step
                await sleep(step)
                at = now()
                resumed = resume(at, until)
                if resumed is None:
                    return pipeline.give_up(last, at, shelf)
                ticket = resumed
                within = min(timeout, until - at)
                attempt += 1
        except Exception:
            raise
        except BaseException:
            pipeline.cancelled(ticket)
            raise
        finally:
            # Or the frame and the error's traceback would keep each other alive.
            last = None

    return call


def _refuse(awaitable: object, fn: Callable[..., Any]) -> None:
    # Taken for an answer, it would be a success each time, and the breaker would never open (danielfm/pybreaker#7).
    if isinstance(awaitable, CoroutineType):
        awaitable.close()
    name = getattr(fn, "__qualname__", repr(fn))
    raise TypeError(f"{name} returned something to await; use arun(), or decorate an `async def`")
