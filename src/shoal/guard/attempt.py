"""An answer at the deadline, at the price of an `await`, even from a coroutine that takes ten seconds to be cancelled.

`asyncio.timeout` and `wait_for` cancel and then wait for the cancelled code to end. Some code takes its time: psycopg
sends the server a cancel request and waits for its effect, up to 10 s. To let such code go on without its caller it
must not know the caller's task: timeouts, task groups and cancel scopes hold on to the task they began in, and would
cancel the caller later. A task for each attempt solves that, for 10 us. Here the attempt is an identity, not a task:
the coroutine runs in its caller's task, step by step, and sees an `Attempt` as its current task. Only when it has to
be let go does it get a real task, and it goes on in there as what it was.

The identity is what "Extending asyncio" in Python's documentation calls a third-party task.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any, Protocol, TypeAlias

from .current_task import Loop, swap_task
from .pause import Pause
from .sweeper import Timer

# Turns of the event loop a cancelled attempt gets to end in before it is let go. Well-behaved code takes two or three,
# and a few more for each guard inside; in that time it gives back what its caller lent it, such as a connection.
_TURNS = 10

Steps: TypeAlias = Coroutine[Any, Any, Any]

# An event loop holds its tasks weakly; without this an orphan could be collected half-way.
_orphans: set[asyncio.Task[Any]] = set()


class Owner(Protocol):
    """Who keeps the books of attempts that were let go."""

    def orphaned(self) -> None:
        """One goes on without its caller."""
        ...

    def orphan_ended(self) -> None:
        """One of them has ended."""
        ...


class TimeIsUpError(Exception):
    """An attempt did not end in time. Never leaves the guard."""


class Attempt:
    """What code inside a guard sees as its current task. Made for each attempt, so it begins as nearly nothing.

    The driver makes the first step itself, between two calls of `swap_task`; most of what follows is for coroutines
    that then wait for something, and is in `go_on`.
    """

    # Defaults on the class: an attribute that is never written costs nothing. The names with an underscore are those of
    # asyncio.Task; anyio reads them.
    _fut_waiter: Any = None
    _must_cancel = False
    _requests = 0
    _message: object = None
    _callbacks: tuple[tuple[Callable[[Any], object], contextvars.Context | None], ...] = ()
    _loop: Loop | None = None
    _over = False
    _is_up = False
    _is_orphan = False
    # The deadline or the caller has asked it to end; what else asks is the coroutine's own business.
    _is_to_end = False
    _cancelled_by_caller = False
    _error: BaseException | None = None
    name = "guarded call"
    steps: Steps
    _pause: Pause | None = None

    # What a coroutine may ask of its current task.

    def cancel(self, msg: object = None) -> bool:
        """Interrupt what the coroutine waits for with CancelledError, as `asyncio.Task.cancel` does."""
        if self._over:
            return False
        self.was_touched = True
        self._requests += 1
        self._message = msg
        waiter = self._fut_waiter
        if waiter is None or not (waiter.cancel() if msg is None else waiter.cancel(msg=msg)):
            self._must_cancel = True
        return True

    def cancelling(self) -> int:
        """How often it has been asked to cancel."""
        return self._requests

    def uncancel(self) -> int:
        """Take one request back; returns how many are left."""
        if self._requests:
            self._requests -= 1
            if not self._requests:
                self._must_cancel = False
        return self._requests

    def done(self) -> bool:
        """Whether the coroutine has ended."""
        return self._over

    def cancelled(self) -> bool:
        """Whether it ended with CancelledError. For callbacks, as `exception` is."""
        return isinstance(self._error, asyncio.CancelledError)

    def exception(self) -> BaseException | None:
        """What it ended with."""
        if self.cancelled():
            raise asyncio.CancelledError
        return self._error

    def add_done_callback(self, fn: Callable[[Any], object], *, context: contextvars.Context | None = None) -> None:
        """Call `fn(attempt)` when the coroutine has ended."""
        self.was_touched = True
        self._callbacks = (*self._callbacks, (fn, context))

    def remove_done_callback(self, fn: Callable[[Any], object]) -> int:
        """Take callbacks back; returns how many."""
        before = len(self._callbacks)
        self._callbacks = tuple(pair for pair in self._callbacks if pair[0] != fn)
        return before - len(self._callbacks)

    def get_loop(self) -> Loop:
        """The event loop it runs on."""
        return self._loop or asyncio.get_running_loop()

    def get_coro(self) -> Steps:
        """The coroutine."""
        return self.steps

    def get_name(self) -> str:
        """For messages."""
        return self.name

    def set_name(self, value: object) -> None:
        """For messages."""
        self.name = str(value)

    def get_stack(self, *, limit: int | None = None) -> list[Any]:
        """The frame the coroutine waits in, as `asyncio.Task.get_stack` has it."""
        frame = getattr(self.steps, "cr_frame", None)
        return [] if frame is None or limit == 0 else [frame]

    def __repr__(self) -> str:
        state = "ended" if self._over else "waiting" if self._fut_waiter is not None else "running"
        return f"<Attempt {self.name!r} {state}, coro={self.steps!r}>"

    # What the drivers and the timers ask of it.

    was_touched = False
    """Whether the coroutine has asked anything of it that matters at its end."""

    def has_ended(self, loop: Loop, error: BaseException | None = None) -> None:
        """The coroutine returned, or raised *error*."""
        self._over = True
        if self._callbacks:
            # Only for them: it keeps this attempt's frames alive, and so the attempt.
            self._error = error
        for fn, context in self._callbacks:
            loop.call_soon(fn, self, context=context)

    def has_returned(self, loop: Loop) -> None:
        """The coroutine returned. Raises CancelledError if it was to be cancelled meanwhile, as a task would end."""
        error = self._cancellation() if self._must_cancel else None
        self.has_ended(loop, error)
        if error is not None:
            try:
                raise error
            finally:
                del error

    def _cancellation(self) -> asyncio.CancelledError:
        # With the words it was asked with: by them anyio knows its own cancellations.
        return asyncio.CancelledError() if self._message is None else asyncio.CancelledError(self._message)

    def time_is_up(self) -> None:
        """Called by the loop, not from a task: the caller is to be free, now or in a few turns."""
        if self._pause is not None and not self._is_orphan:
            self._is_up = True
            self._pause.interrupt(self._fut_waiter)

    @coroutine
    def go_on(self, waiter: Any, *, loop: Loop, timer: Timer | None, owner: Owner) -> Generator[Any, None, Any]:
        """Every step after the first: *waiter* is what the coroutine waits for. Returns what it returns.

        Raises TimeIsUpError after *timer* called `time_is_up`; *owner* is told if the coroutine then goes on by itself,
        because it did not end in a few turns of the loop. A cancellation from outside reaches the coroutine first, and
        always its caller.
        """
        self._loop = loop
        self._pause = pause = Pause(self)
        error: BaseException | None = None
        try:
            while True:
                try:
                    if waiter is not None and self._wait_for(waiter):
                        pause._asyncio_future_blocking = True
                        yield pause
                    else:
                        # A turn of the loop. About anything else the task says what is wrong with it.
                        yield waiter
                        waiter = None
                except GeneratorExit:
                    # The caller was closed. The coroutine is not: it may have to await something to clean up.
                    self._let_go(waiter, loop, owner)
                    raise
                except asyncio.CancelledError as cancelled:
                    error = cancelled
                    if self._fut_waiter is None:
                        # It came past the pause.
                        self.cancelled_by_caller(*cancelled.args[:1])
                except BaseException as thrown:  # noqa: BLE001 -- what a future ended with is the coroutine's to handle
                    error = thrown
                if self._is_up or (self._cancelled_by_caller and not self._is_orphan):
                    yield from self._wind_up(waiter, loop, owner)
                waiter = self._step(error, loop)
                error = None
        except StopIteration as stop:
            return stop.value
        finally:
            if timer is not None:
                timer.cancel(self)
            self._pause = None
            # Or this frame, what it waited for and the error's traceback would keep each other alive.
            del waiter, error, pause, self

    def cancelled_by_caller(self, msg: object = None) -> None:
        """The task that the coroutine runs in is being cancelled."""
        self._cancelled_by_caller = self._is_to_end = True
        self.cancel(msg)

    def _wait_for(self, waiter: Any) -> bool:
        """The coroutine yielded this. Whether it is a future."""
        if not getattr(waiter, "_asyncio_future_blocking", None):
            self._fut_waiter = None
            return False
        waiter._asyncio_future_blocking = False
        self._fut_waiter = waiter
        if self._must_cancel and waiter.cancel():
            self._must_cancel = False
        return True

    def _step(self, error: BaseException | None, loop: Loop) -> Any:
        """What the coroutine waits for next, or its end: StopIteration with its value, or what it raises."""
        self._fut_waiter = None
        if self._must_cancel:
            self._must_cancel = False
            if not isinstance(error, asyncio.CancelledError):
                error = self._cancellation()
        host = swap_task(loop, self)
        try:
            return self.steps.send(None) if error is None else self.steps.throw(error)
        except StopIteration:
            self.has_returned(loop)
            raise
        except BaseException as ended:
            self.has_ended(loop, ended)
            raise
        finally:
            swap_task(loop, host)
            del error, host

    def _wind_up(self, waiter: Any, loop: Loop, owner: Owner) -> Generator[Any, None, None]:
        """Cancel the coroutine and give it a few turns. Always raises; what it says now is too late."""
        self._end()
        # Turns, not a time: the loop that serves the caller must go on.
        for _ in range(_TURNS):
            try:
                yield
            except GeneratorExit:
                self._let_go(waiter, loop, owner)
                raise
            except asyncio.CancelledError as cancelled:
                self._cancelled_by_caller = True
                self._message = cancelled.args[0] if cancelled.args else None
            if self._fut_waiter is not None and not waiter.done():
                continue
            try:
                waiter = self._step(self._end_of(waiter), loop)
            except (Exception, asyncio.CancelledError):  # noqa: BLE001 -- StopIteration too: it has ended
                break
            self._wait_for(waiter)
        late = self._cancellation() if self._cancelled_by_caller else TimeIsUpError()
        if not self._over:
            self._let_go(waiter, loop, owner)
        try:
            raise late
        finally:
            del late, waiter, self

    def _let_go(self, waiter: Any, loop: Loop, owner: Owner) -> None:
        if not loop.is_running():
            self._over = True
            self.steps.close()
            return
        self._end()
        if self._fut_waiter is not None:
            self._fut_waiter._asyncio_future_blocking = True
        self._is_up = self._cancelled_by_caller = False
        self._is_orphan = True
        # A context of its own, which a task makes for itself: the caller's is the caller's.
        task = loop.create_task(self._outlive(waiter, loop, owner), name=f"{self.name}, let go")
        _orphans.add(task)
        owner.orphaned()

        def ended(task: asyncio.Task[Any]) -> None:
            _orphans.discard(task)
            owner.orphan_ended()
            # Nobody waits for this result; unless somebody looks, asyncio would log it as never retrieved.
            if not task.cancelled():
                task.exception()

        task.add_done_callback(ended)

    def _end(self) -> None:
        # Once: a second time would cut short its cleaning up.
        if not self._is_to_end:
            self._is_to_end = True
            self.cancel()

    def _end_of(self, waiter: Any) -> BaseException | None:
        """What the coroutine is to be resumed with, now that what it waited for is over."""
        if waiter is None:
            return None
        if self._fut_waiter is None:
            return RuntimeError(f"Task got bad yield: {waiter!r}")
        try:
            waiter.result()
        except BaseException as error:  # noqa: BLE001 -- it is the coroutine's
            return error
        return None

    async def _outlive(self, waiter: Any, loop: Loop, owner: Owner) -> Any:
        return await self.go_on(waiter, loop=loop, timer=None, owner=owner)
