"""Counts of the last so many seconds."""

from __future__ import annotations

import math


class Window:
    """Counts two kinds of events over the last *seconds*, in *buckets* that are forgotten one by one.

    What is counted is between one bucket less than the window and the whole window old. A user on the hot path writes

        if now >= window.ends: window.advance(now)
        window.first[window.at] += 1

    itself, which costs a third of a method call. Buckets are numbered by the clock, so two threads that advance at
    once come to the same result.
    """

    __slots__ = ("_index", "_width", "at", "ends", "first", "second")

    def __init__(self, *, seconds: float, buckets: int) -> None:
        self._width = seconds / buckets
        self.first = [0] * buckets
        self.second = [0] * buckets
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        for counts in (self.first, self.second):
            counts[:] = [0] * len(counts)
        self._index = -math.inf
        self.at = 0
        self.ends = -math.inf

    def advance(self, now: float) -> None:
        """Forget what is older than the window at time *now*."""
        index = now // self._width
        if index <= self._index:
            return
        buckets = len(self.first)
        for back in range(int(min(index - self._index, buckets))):
            stale = int((index - back) % buckets)
            self.first[stale] = self.second[stale] = 0
        self._index = index
        self.at = int(index % buckets)
        self.ends = (index + 1) * self._width

    def totals(self, now: float) -> tuple[int, int]:
        """How many events of the first and of the second kind the window holds at time *now*."""
        self.advance(now)
        return sum(self.first), sum(self.second)
