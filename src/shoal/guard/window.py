"""How much of what only ever grows was added in the last so many seconds."""

from __future__ import annotations

import math
from array import array

_MASK = 0xFFFFFFFF
_NEVER = -math.inf


class Window:
    """Remembers what *series* running counts were at the beginning of each of the last *buckets* pieces of time.

    So counting costs nothing here: whoever counts only adds to its own numbers, and before it does so at `turns_at` or
    later, calls `advance` with what they are. What a window tells is between one bucket less than *seconds* and the
    whole of them old. Buckets are numbered by the clock. Counts are kept modulo 2**32, and may go back a little.

    >>> window = Window(seconds=30.0, buckets=10, series=1)
    >>> window.advance(0.0, 5)
    >>> window.since(2.0, 8)
    (3,)
    >>> window.since(40.0, 8)
    (0,)
    """

    __slots__ = ("_buckets", "_index", "_marks", "_width")

    def __init__(self, *, seconds: float, buckets: int, series: int) -> None:
        self._width = seconds / buckets
        self._buckets = buckets
        # One flat array, since guards are many: bucket after bucket, one number for each series.
        self._marks = array("I", bytes(4 * buckets * series))
        self._index = _NEVER

    @property
    def turns_at(self) -> float:
        """From when on `advance` has to be called before anything more is counted."""
        return (self._index + 1) * self._width

    def advance(self, now: float, *counts: int) -> None:
        """Time *now* has come, and so much has been counted before it."""
        index = now // self._width
        if index <= self._index:
            return
        marks, series = self._marks, len(counts)
        for back in range(int(min(index - self._index, self._buckets))):
            at = int((index - back) % self._buckets) * series
            for place, count in enumerate(counts, at):
                marks[place] = count & _MASK
        self._index = index

    def since(self, now: float, *counts: int, seconds: float = math.inf) -> tuple[int, ...]:
        """How much of these counts was added in the window that ends at time *now*, or in its last *seconds*."""
        self.advance(now, *counts)
        back = min(self._buckets, max(1, math.ceil(seconds / self._width))) if seconds < math.inf else self._buckets
        oldest = int((self._index - back + 1) % self._buckets) * len(counts)
        return tuple(_signed(count - self._marks[place]) for place, count in enumerate(counts, oldest))

    def restart(self, now: float, *counts: int) -> None:
        """Forget everything up to *counts*: what was added to them before time *now* is as if it had never been."""
        self._index = -math.inf
        self.advance(now, *counts)


def _signed(difference: int) -> int:
    difference &= _MASK
    return difference if difference <= _MASK >> 1 else difference - _MASK - 1
