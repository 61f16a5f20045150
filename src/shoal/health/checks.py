"""A check: a function of the service that tests one dependency, in the background."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

CheckFunction = Callable[[], object]
"""Takes nothing; raises, or returns False, when the dependency does not work. May be a coroutine function."""


def _always() -> bool:
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """How one dependency is tested, and how often.

    *function* should use a connection of its own: sharing the requests' pool, it would fail when the pool is busy. It
    runs every *every* seconds with some jitter, never twice at the same time, and has *timeout* seconds; a plain
    function runs in a thread. *needed* is asked before each run and may say that there is no need. The counts are those
    of `CheckReading`. Raises ValueError for durations that are not positive.

    >>> Check(name="database", function=lambda: None, every=5.0).stale_after
    16.0
    """

    name: str
    function: CheckFunction
    every: float = 10.0
    timeout: float = 1.0
    kind: Literal["local", "dependency"] = "dependency"
    failures_before_down: int = 3
    successes_before_up: int = 1
    needed: Callable[[], bool] = _always

    def __post_init__(self) -> None:
        if self.every <= 0 or self.timeout <= 0:
            raise ValueError(
                f"check {self.name}: every and timeout must be above 0 seconds, got {self.every} and {self.timeout}"
            )

    @property
    def stale_after(self) -> float:
        """Seconds for which a reading may be believed: three periods, and the last run's timeout."""
        return 3 * self.every + self.timeout
