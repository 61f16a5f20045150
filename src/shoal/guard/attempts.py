"""One attempt of an async call: begun in the caller's task, ended at its deadline, let go if it does not end."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any, TypeVar

from shoal.errors import DeadlineExceededError

from .attempt import Attempt, TimeIsUpError
from .current_task import swap_task
from .deadlines import UNTIL
from .pipeline import Pipeline
from .sweeper import start_timer

T = TypeVar("T")


async def make_attempt(
    pipeline: Pipeline,
    fn: Callable[..., Awaitable[Any]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    at: float,
    until: float,
) -> Any:
    """The result of `await fn(*args, **kwargs)`, or DeadlineExceededError.

    It begins at time *at* and may take the guard's timeout, or end at *until*, the deadline, if that is sooner. A
    cancellation from outside cancels the attempt and is never swallowed, also not when it comes at the instant of the
    deadline.
    """
    if pipeline.timeout == until == math.inf:
        return await fn(*args, **kwargs)
    steps: Any = fn(*args, **kwargs)
    if type(steps) is not CoroutineType:
        steps = _awaited(steps)
    attempt = Attempt()
    attempt.steps = steps
    loop = asyncio.get_running_loop()
    host = swap_task(loop, attempt)
    try:
        waiter = steps.send(None)
    except StopIteration as stop:
        attempt.has_returned(loop)
        return stop.value
    except BaseException as error:
        attempt.has_ended(loop, error)
        raise
    finally:
        swap_task(loop, host)
        # Or the task, its exception and this frame would keep each other alive.
        del host
    return await go_on(pipeline, attempt, waiter, loop, at=at, until=until)


async def go_on(
    pipeline: Pipeline, attempt: Attempt, waiter: Any, loop: asyncio.AbstractEventLoop, *, at: float, until: float
) -> Any:
    """The rest of an attempt whose first step was made and that waits for *waiter*; see `make_attempt`."""
    seconds, left = pipeline.timeout, until - at
    # A shadow lets even late calls through.
    if 0.0 < left < seconds:
        seconds = left
    attempt.name = pipeline.name
    timer = start_timer(attempt, loop, seconds, alone=seconds != pipeline.timeout)
    try:
        return await attempt.go_on(waiter, loop=loop, timer=timer, owner=pipeline)
    except TimeIsUpError:
        raise DeadlineExceededError(pipeline.name, timeout=seconds) from None
    finally:
        # What was let go in the middle of a `with deadline(...)` cannot set it back here any more.
        UNTIL.set(until)


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable
