"""Timers for many attempts at once: nearly all of them end in time, and a timer of the loop for each costs 2 us."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Protocol

# Turns of the event loop between the deadline and its being declared missed. After the loop itself was stalled, the
# answer and the timer are both overdue and the timer comes first; the dependency is not to blame for that.
_PATIENCE = 3

# Sweeps are at least this far apart, in seconds: a thousand attempts that hang are not to sweep a thousand times.
_APART = 0.001


class Timed(Protocol):
    """Something that may run out of time."""

    def time_is_up(self) -> None:
        """It has."""
        ...


class Timer(Protocol):
    """What `start_timer` returns."""

    def cancel(self, timed: Timed) -> None:
        """It ended in time."""
        ...


class Sweeper:
    """The timer of all attempts on one loop that have the same number of seconds: the oldest is the next one due.

    One timer of the loop is set for it, and set again when it rings. Adding and cancelling are a dictionary's.
    """

    __slots__ = ("_due_at", "_loop", "_rings", "_seconds")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._due_at: dict[Timed, float] = {}
        self._rings = False

    def add(self, timed: Timed) -> None:
        """Its time begins now."""
        self._due_at[timed] = at = self._loop.time() + self._seconds
        if not self._rings:
            self._rings = True
            self._loop.call_at(at, self._sweep)

    def cancel(self, timed: Timed) -> None:
        """It ended in time."""
        self._due_at.pop(timed, None)

    def _sweep(self) -> None:
        now = self._loop.time()
        due = []
        for timed, at in self._due_at.items():
            # The loop rings up to its clock's resolution early.
            if at > now + 1e-6:
                break
            due.append(timed)
        if due:
            _give_turns(self._loop, due, _PATIENCE)
        for timed in due:
            # Those that end within the turns that are left must be able to cancel nothing.
            del self._due_at[timed]
        oldest = next(iter(self._due_at.values()), None)
        if oldest is None:
            self._rings = False
        else:
            self._loop.call_at(max(oldest, now + _APART), self._sweep)


class _Alone:
    """A timer for an attempt with a time of its own: what a deadline left it."""

    __slots__ = ("_handle",)

    def __init__(self, timed: Timed, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._handle = loop.call_later(seconds, _give_turns, loop, [timed], _PATIENCE)

    def cancel(self, timed: Timed) -> None:  # noqa: ARG002 -- the one it is for
        self._handle.cancel()


class _Here(threading.local):
    """The sweepers of the loop that runs in this thread. By thread, so that none outlives its loop by much."""

    loop: asyncio.AbstractEventLoop | None = None
    sweepers: dict[float, Sweeper]


_here = _Here()


def start_timer(timed: Timed, loop: asyncio.AbstractEventLoop, seconds: float, *, alone: bool = False) -> Timer | None:
    """Call `timed.time_is_up()` after *seconds*, a few turns of the loop later; None where that is never.

    *alone* is for a number of seconds that will hardly come again.
    """
    if seconds == math.inf:
        return None
    if alone:
        return _Alone(timed, loop, seconds)
    if _here.loop is not loop:
        _here.loop, _here.sweepers = loop, {}
    sweeper = _here.sweepers.get(seconds)
    if sweeper is None:
        sweeper = _here.sweepers[seconds] = Sweeper(loop, seconds)
    sweeper.add(timed)
    return sweeper


def _give_turns(loop: asyncio.AbstractEventLoop, due: list[Timed], turns: int) -> None:
    if turns:
        loop.call_soon(_give_turns, loop, due, turns - 1)
    else:
        for timed in due:
            timed.time_is_up()
