"""Leaving calls out by chance, so that a dependency that answers only some of them gets no more than it can answer."""

from __future__ import annotations

from dataclasses import dataclass

from .cells import Cells
from .window import Window


@dataclass(frozen=True, kw_only=True, slots=True)
class SheddingSettings:
    """A call is left out with probability max(0, (calls - *k* x answers) / (calls + 1)), of the last *window* seconds.

    At most with probability *cap*, so that some calls always find out; not at all below *floor* calls a second, where a
    handful of failures means little. Calls are counted before they are made, those left out included: a dependency that
    hangs is noticed by the calls that are in flight.

    The formula is "client-side throttling" of the SRE book, chapter 21, with its K of 2; the window is 30 s where the
    book has two minutes, since a pod has less traffic and forgets sooner; the cap is failsafe-go's. Where a breaker
    turns half of the errors into none or all, this takes as much load off as is refused: for dependencies of many
    shards. Raises ValueError for a value out of range.
    """

    k: float = 2.0
    window: float = 30.0
    cap: float = 0.9
    floor: float = 5.0

    def __post_init__(self) -> None:
        if not self.k >= 1:
            raise ValueError(f"k must be at least 1, or calls would be left out in good health, got {self.k}")
        if not self.window > 0:
            raise ValueError(f"window must be above 0 seconds, got {self.window}")
        if not 0 < self.cap < 1:
            raise ValueError(f"cap must be above 0 and below 1, got {self.cap}")
        if not self.floor >= 0:
            raise ValueError(f"floor must be 0 calls a second or more, got {self.floor}")


class Shedding:
    """How many of the calls to leave out now. Not thread-safe by itself: Guard owns it.

    >>> cells = Cells()
    >>> shedding = Shedding(SheddingSettings(floor=0.0), cells)
    >>> shedding.advance(0.0)
    >>> cells.entered, cells.answered = 100, 25
    >>> round(shedding.share(1.0), 3)
    0.495
    """

    __slots__ = ("_cells", "_settings", "left_out", "window")

    _BUCKETS = 10

    def __init__(self, settings: SheddingSettings, cells: Cells) -> None:
        self._settings = settings
        self._cells = cells
        self.left_out = 0
        """Calls left out so far."""
        self.window = Window(seconds=settings.window, buckets=self._BUCKETS, series=2)

    def advance(self, now: float) -> None:
        """Move the window on, before more is counted."""
        self.window.advance(now, self._cells.entered + self.left_out, self._cells.answered)

    def share(self, now: float) -> float:
        """The share of calls to leave out at time *now*, 0 to *cap*."""
        settings = self._settings
        calls, answers = self.window.since(now, self._cells.entered + self.left_out, self._cells.answered)
        if calls < settings.floor * settings.window:
            return 0.0
        return min(settings.cap, max(0.0, (calls - settings.k * answers) / (calls + 1)))
