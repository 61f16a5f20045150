"""How many calls to one dependency may be in flight, so that a slow one cannot take all of a service's resources."""

from __future__ import annotations

import sys


class Bulkhead:
    """Places for calls in flight, without a queue: a caller that finds none is turned away at once.

    An attempt that is abandoned at its deadline but goes on regardless (see `shoal.guard.deadline`) keeps its place
    until it really ends: it still holds whatever it holds. With `limit=None` calls are not limited, but at most
    *most_abandoned* such attempts are: while there are as many, nobody enters.

    Bound to no event loop; one limit for threads and tasks together. Raises ValueError for a limit below 1.

    >>> bulkhead = Bulkhead(limit=1)
    >>> bulkhead.enter(), bulkhead.enter()
    (True, False)
    """

    __slots__ = ("_ceiling", "_most_abandoned", "abandoned", "in_flight", "limit")

    def __init__(self, *, limit: int | None = 64, most_abandoned: int = 64) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1, or None for no limit, got {limit}")
        self.limit = limit
        self.in_flight = 0
        self.abandoned = 0
        self._ceiling = sys.maxsize if limit is None else limit
        self._most_abandoned = most_abandoned

    @property
    def full_at(self) -> int:
        """The number that turned a caller away: the limit, or the most abandoned attempts where there is none."""
        return self._most_abandoned if self.limit is None else self.limit

    def enter(self) -> bool:
        """Take a place, if there is one."""
        # No call between the test and the step: under the GIL no other thread gets in between.
        if self.in_flight >= self._ceiling:
            return False
        self.in_flight += 1
        return True

    def leave(self) -> None:
        """Give the place back. Exactly once for each time `enter` said yes."""
        self.in_flight -= 1

    def abandon(self) -> None:
        """The place is now held by an attempt nobody waits for."""
        self.abandoned += 1
        self._set_ceiling()

    def leave_abandoned(self) -> None:
        """An attempt that nobody waited for has ended; its place is free."""
        self.abandoned -= 1
        self.in_flight -= 1
        self._set_ceiling()

    def _set_ceiling(self) -> None:
        if self.limit is None:
            self._ceiling = 0 if self.abandoned >= self._most_abandoned else sys.maxsize
