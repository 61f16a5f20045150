"""How many calls to one dependency may be in flight, so that a slow one cannot take all of a service's resources."""

from __future__ import annotations

import sys

from .cells import Cells


class Bulkhead:
    """Places for calls in flight, without a queue: a caller that finds none is turned away at once.

    An attempt that is let go at its deadline but goes on regardless (see `shoal.guard.attempt`) takes a place until it
    really ends: it still holds whatever it holds. With `limit=None` calls are not limited, but at most
    *most_abandoned* such attempts are: while there are as many, nobody enters.

    Bound to no event loop; one limit for threads and tasks together. Raises ValueError for a limit below 1.

    >>> bulkhead = Bulkhead(Cells(), limit=1)
    >>> bulkhead.enter(), bulkhead.enter()
    (True, False)
    """

    __slots__ = ("_cells", "_most_abandoned", "abandoned", "limit")

    def __init__(self, cells: Cells, *, limit: int | None = 64, most_abandoned: int = 64) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1, or None for no limit, got {limit}")
        self._cells = cells
        self._most_abandoned = most_abandoned
        self.limit = limit
        self.abandoned = 0
        self._set_ceiling()

    @property
    def in_flight(self) -> int:
        """Attempts that have begun and not ended, those included that nobody waits for any more."""
        return self._cells.entered - self._cells.left + self.abandoned

    @property
    def full_at(self) -> int:
        """The number that turned a caller away: the limit, or the most abandoned attempts where there is none."""
        return self._most_abandoned if self.limit is None else self.limit

    def enter(self) -> bool:
        """Take a place, if there is one."""
        cells = self._cells
        # No call between the test and the step: under the GIL no other thread gets in between.
        if cells.entered - cells.left >= cells.ceiling:
            return False
        cells.entered += 1
        return True

    def leave(self) -> None:
        """Give the place back. Exactly once for each time `enter` said yes."""
        self._cells.left += 1

    def abandon(self) -> None:
        """The attempt that has this place leaves it, but goes on elsewhere: there is one place less until it ends."""
        self.abandoned += 1
        self._set_ceiling()

    def abandoned_ended(self) -> None:
        """An attempt that nobody waited for has ended; there is one place more."""
        self.abandoned -= 1
        self._set_ceiling()

    def _set_ceiling(self) -> None:
        if self.limit is not None:
            self._cells.ceiling = self.limit - self.abandoned
        else:
            self._cells.ceiling = 0 if self.abandoned >= self._most_abandoned else sys.maxsize
