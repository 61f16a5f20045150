"""What the caller's task waits for while an attempt waits: a future that can be left."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attempt import Attempt


class Pause:
    """What the caller's task waits for instead of what the coroutine waits for, so that it can be woken without it.

    A future by the protocol that `asyncio.isfuture` describes. The callback that the task adds goes to the real future,
    so that its end wakes the task directly.
    """

    __slots__ = ("_asyncio_future_blocking", "_attempt", "_context", "_wake")

    _asyncio_future_blocking: bool
    _wake: Callable[[Any], object]
    _context: contextvars.Context | None

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def get_loop(self) -> Any:
        """The loop of the real future, which the task compares with its own."""
        return self._attempt._fut_waiter.get_loop()

    def add_done_callback(self, fn: Callable[[Any], object], *, context: contextvars.Context | None = None) -> None:
        """The task asks to be woken."""
        self._wake = fn
        self._context = context
        self._attempt._fut_waiter.add_done_callback(fn, context=context)

    def remove_done_callback(self, fn: Callable[[Any], object]) -> int:
        """A guard around this one wakes the task itself."""
        removed: int = self._attempt._fut_waiter.remove_done_callback(fn)
        return removed

    def cancel(self, msg: object = None) -> bool:
        """The caller's task is being cancelled. It is woken even if what it waits for resists."""
        attempt = self._attempt
        waiter = attempt._fut_waiter
        attempt.cancelled_by_caller(msg)
        if not attempt._is_orphan:
            self.interrupt(waiter)
        return True

    def done(self) -> bool:
        """Whether what the coroutine waits for is over."""
        over: bool = self._attempt._fut_waiter.done()
        return over

    def result(self) -> object:
        """How that ended; None while it has not, which is what the task is woken with by `interrupt`."""
        waiter = self._attempt._fut_waiter
        return waiter.result() if waiter.done() else None

    def interrupt(self, waiter: Any) -> None:
        """Wake the task now, whatever becomes of what it waits for. If that has happened, it will be woken anyway."""
        if waiter is not None and waiter.remove_done_callback(self._wake):
            self._attempt.get_loop().call_soon(self._wake, self, context=self._context)
