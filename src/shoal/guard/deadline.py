"""An answer at the deadline, even from a coroutine that takes ten seconds to be cancelled.

`asyncio.timeout` and `wait_for` cancel and then wait for the cancelled code to end. Some code takes its time:
psycopg sends the server a cancel request and waits for its effect, up to 10 s. So each attempt runs in a task of its
own, and whoever waits for it waits for a future that the attempt or a timer resolves, whichever is first. Cancelling
in place would be cheaper, and cannot let go: a coroutine cannot be moved to another task, because what it holds
(timeouts, cancel scopes) is bound to the task it began in.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from threading import RLock
from typing import Any, TypeVar

from shoal.errors import DeadlineExceededError

from .bulkhead import Bulkhead
from .counters import Counters
from .locks import exclusive

T = TypeVar("T")

# Turns of the event loop a cancelled attempt gets to end in before it is let go. Well-behaved code takes two or three,
# and a few more for each guard inside; in that time it gives back what its caller lent it, such as a connection.
_TURNS = 10

# Turns of the event loop between the deadline and its being declared missed. After the loop itself was stalled, the
# answer and the timer are both overdue and the timer comes first; the dependency is not to blame for that.
_PATIENCE = 3


class Attempts:
    """Makes attempts that are over when their time is, and keeps track of those that went on regardless.

    Gives the bulkhead's place back exactly once for each attempt, when it has really ended. Holds nothing that is
    bound to an event loop, so one guard serves any number of them.
    """

    __slots__ = ("_bulkhead", "_counters", "_leave", "_lock", "_name", "_orphans")

    def __init__(self, name: str, *, bulkhead: Bulkhead, counters: Counters, lock: RLock) -> None:
        self._name = name
        self._bulkhead = bulkhead
        self._counters = counters
        self._lock = lock
        self._leave = exclusive(lock, bulkhead.leave)
        # The event loop holds its tasks weakly; without this an orphan could be collected half-way.
        self._orphans: set[asyncio.Task[Any]] = set()

    async def __call__(
        self, fn: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any], timeout: float
    ) -> T:
        """The result of `await fn(*args, **kwargs)`, or DeadlineExceededError after *timeout* seconds.

        A cancellation from outside cancels the attempt and is never swallowed, also not when it comes at the instant of
        the deadline. Context variables set by *fn* stay in the attempt, as in any task.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[bool] = loop.create_future()
        try:
            task = _start(loop, _attempt(ended, fn, args, kwargs))
        except BaseException:
            self._leave()
            raise
        timer: asyncio.TimerHandle | None = None
        try:
            if not task.done():
                timer = loop.call_later(timeout, _ring, loop, ended, _PATIENCE)
                try:
                    answered = await ended
                except asyncio.CancelledError:
                    await _cancel(task)
                    raise
                if not answered:
                    await _cancel(task)
                    raise DeadlineExceededError(self._name, timeout=timeout)
            return task.result()
        finally:
            if timer is not None:
                timer.cancel()
            if task.done():
                self._leave()
            else:
                self._let_go(task)
            # Or this frame, the task and its error's traceback would keep each other alive.
            del task

    def _let_go(self, task: asyncio.Task[Any]) -> None:
        # Nobody has cancelled it yet when the caller's coroutine was closed; twice would cut short its cleaning up.
        if not task.cancelling():
            task.cancel()
        with self._lock:
            self._orphans.add(task)
            self._counters.orphans += 1
            self._bulkhead.abandon()
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        with self._lock:
            self._orphans.discard(task)
            self._bulkhead.leave_abandoned()
        _retrieve(task)


async def _attempt(
    ended: asyncio.Future[bool], fn: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> T:
    try:
        return await fn(*args, **kwargs)
    finally:
        # Here and not in a done callback, which would cost the caller another turn of the loop. Nothing is awaited
        # any more, so whoever is woken finds the task done.
        if not ended.done():
            ended.set_result(True)


def _ring(loop: asyncio.AbstractEventLoop, ended: asyncio.Future[bool], patience: int) -> None:
    if ended.done():
        return
    if patience:
        loop.call_soon(_ring, loop, ended, patience - 1)
    else:
        ended.set_result(False)


async def _cancel(task: asyncio.Task[Any]) -> None:
    """Cancel the task and give it a few turns to end in. Not a time: the loop that serves the caller must go on."""
    if not task.done():
        task.cancel()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
            if task.done():
                break
    if task.done():
        _retrieve(task)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Nobody waits for this result; unless somebody looks, asyncio would log it as never retrieved."""
    if not task.cancelled():
        task.exception()


if sys.version_info >= (3, 12):

    def _start(loop: asyncio.AbstractEventLoop, attempt: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        # Begun at once: an attempt that never waits costs no turn of the loop, and no timer.
        return asyncio.Task(attempt, loop=loop, eager_start=True)

else:

    def _start(loop: asyncio.AbstractEventLoop, attempt: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return loop.create_task(attempt)
