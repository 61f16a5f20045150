"""What is known of a dependency from its check: the verdict, and how old it is."""

from __future__ import annotations

from typing import Literal

Status = Literal["up", "degraded", "down", "unknown"]
Freshness = Literal["not yet sampled", "fresh", "stale"]


class CheckReading:
    """The results of one check so far, judged with hysteresis.

    The first result decides at once; after it, *failures_before_down* failures in a row mean `down` and
    *successes_before_up* successes in a row mean `up`. A reading older than *stale_after* seconds is `stale`, and stale
    is `unknown`, never up. Time comes in as seconds on a monotonic clock. Raises ValueError for counts below 1.

    >>> reading = CheckReading(stale_after=30.0)
    >>> reading.freshness(now=0.0), reading.status(now=0.0)
    ('not yet sampled', 'unknown')
    >>> reading.succeeded(now=0.0, took=0.002)
    >>> reading.freshness(now=31.0), reading.status(now=31.0)
    ('stale', 'unknown')
    """

    __slots__ = (
        "_failures_before_down",
        "_in_a_row",
        "_stale_after",
        "_successes_before_up",
        "_up",
        "at",
        "error",
        "failures",
        "last_success_at",
        "successes",
        "took",
    )

    def __init__(self, *, stale_after: float, failures_before_down: int = 3, successes_before_up: int = 1) -> None:
        if failures_before_down < 1 or successes_before_up < 1:
            raise ValueError(
                "failures_before_down and successes_before_up must be at least 1, "
                f"got {failures_before_down} and {successes_before_up}"
            )
        self._stale_after = stale_after
        self._failures_before_down = failures_before_down
        self._successes_before_up = successes_before_up
        self._up: bool | None = None
        self._in_a_row = 0
        self.at: float | None = None
        """When the last result came in, on the clock that was handed in."""
        self.took = 0.0
        """Seconds the last one took."""
        self.error: str | None = None
        """Why the last one failed; `None` when it succeeded."""
        self.successes = 0
        self.failures = 0
        self.last_success_at: float | None = None

    def succeeded(self, *, now: float, took: float) -> None:
        """The check returned after *took* seconds."""
        self.successes += 1
        self.last_success_at = now
        self._record(up=True, now=now, took=took, error=None, needed=self._successes_before_up)

    def failed(self, error: str, *, now: float, took: float) -> None:
        """The check raised or did not return; *error* says so in a few words."""
        self.failures += 1
        self._record(up=False, now=now, took=took, error=error, needed=self._failures_before_down)

    def freshness(self, *, now: float) -> Freshness:
        """Whether the reading may be believed."""
        if self.at is None:
            return "not yet sampled"
        return "fresh" if now - self.at <= self._stale_after else "stale"

    def status(self, *, now: float) -> Status:
        """`up`, `down`, or `unknown` when there is no fresh reading."""
        if self.freshness(now=now) != "fresh":
            return "unknown"
        return "up" if self._up else "down"

    def _record(self, *, up: bool, now: float, took: float, error: str | None, needed: int) -> None:
        same_as_last = self.at is not None and (self.error is None) == up
        self._in_a_row = self._in_a_row + 1 if same_as_last else 1
        if self._up is None or self._in_a_row >= needed:
            self._up = up
        # The moment last: another thread that finds it finds the verdict too.
        self.error, self.took, self.at = error, took, now
