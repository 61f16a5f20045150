"""What tests of services, and of shoal itself, need: a clock that moves only when told."""

from __future__ import annotations


class ManualClock:
    """A `Clock` for tests.

    >>> clock = ManualClock()
    >>> clock.advance(2.5)
    >>> clock.now()
    2.5
    """

    def __init__(self, now: float = 0.0, *, wall: float = 0.0) -> None:
        self._now = now
        self._wall = wall

    def now(self) -> float:
        """Seconds since the clock was made, plus its start."""
        return self._now

    def wall(self) -> float:
        """Wall time, moved together with `now`."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Move both clocks forward. Raises ValueError for a negative step: this clock is monotonic."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock does not go back, got {seconds} seconds")
        self._now += seconds
        self._wall += seconds
