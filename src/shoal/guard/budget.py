"""Retries are paid for: how many a dependency's callers may add to the load it has anyway."""

from __future__ import annotations

from dataclasses import dataclass

from .cells import Cells
from .window import Window


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetSettings:
    """Retries may be *ratio* of the original calls of the last *window* seconds, plus *reserve* a second.

    The reserve lets a caller with little traffic retry at all. The ratio and window are those of Finagle, Linkerd and
    the Gateway API's GEP-3388 (20 %, 10 s); the reserve is 3 a second where Finagle has 10, since a hundred small pods
    at 10 a second are a thousand retries. Raises ValueError for a negative number or a window that is not above 0.
    """

    ratio: float = 0.2
    reserve: float = 3.0
    window: float = 10.0

    def __post_init__(self) -> None:
        if not self.ratio >= 0 or not self.reserve >= 0:
            raise ValueError(f"ratio and reserve must not be negative, got {self.ratio} and {self.reserve}")
        if not self.window > 0:
            raise ValueError(f"window must be above 0 seconds, got {self.window}")


class RetryBudget:
    """Grants retries to all callers of one dependency together. Not thread-safe by itself: Guard owns it.

    Only retries are charged. An empty budget refuses the next retry and touches no attempt that is running. Original
    calls are the attempts that the cells count and that are no retries.

    >>> cells = Cells()
    >>> budget = RetryBudget(BudgetSettings(ratio=0.5, reserve=0.0), cells)
    >>> cells.entered = 2
    >>> budget.withdraw(0.1), budget.withdraw(0.1)
    (True, False)
    """

    __slots__ = ("_retries_ended", "_settings", "cells", "granted", "window")

    # One-second steps at the default window.
    _BUCKETS = 10

    def __init__(self, settings: BudgetSettings, cells: Cells) -> None:
        self._settings = settings
        self.cells = cells
        self._retries_ended = 0
        self.granted = 0
        """Retries paid for so far."""
        self.window = Window(seconds=settings.window, buckets=self._BUCKETS, series=2)

    def assume(self, now: float, *, originals: int) -> None:
        """Begin with so many original calls of late, for a budget that was not there when they were made."""
        self.window.restart(now, self._originals_ended - originals, self.granted)

    def advance(self, now: float) -> None:
        """Move the window on, before more is counted."""
        self.window.advance(now, self._originals_ended, self.granted)

    def withdraw(self, now: float) -> bool:
        """Whether one retry may be made at time *now*; if so it is charged."""
        allowed, spent = self._balance(now)
        if spent + 1 > allowed:
            return False
        self.granted += 1
        return True

    def retry_ended(self) -> None:
        """One of the attempts that left was no original call. What is granted to a loop elsewhere is said at once."""
        self._retries_ended += 1

    def remaining(self, now: float) -> float:
        """The share of the allowance that is left, 0 to 1; 1 while nothing was allowed and nothing spent."""
        allowed, spent = self._balance(now)
        if spent == 0:
            return 1.0
        return max(0.0, 1.0 - spent / allowed) if allowed > 0 else 0.0

    @property
    def _originals_ended(self) -> int:
        return self.cells.left - self._retries_ended

    def _balance(self, now: float) -> tuple[float, int]:
        ended, spent = self.window.since(now, self._originals_ended, self.granted)
        # What is in flight is as recent as can be, however long ago it began.
        originals = max(0, ended + self.cells.entered - self.cells.left)
        return self._settings.ratio * originals + self._settings.reserve * self._settings.window, spent
