"""Faults put into a guard's calls on purpose, for tests, drills and the lab."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What befalls the attempts of a guard while it is injected: see `Guard.inject`.

    *latency* seconds are added before the dependency is called, or, with *error*, in place of calling it; *error* makes
    a new exception for each attempt, so a class or a function. *share* of the attempts are struck, drawn by chance.
    Deadline, classification, retries and breaker take a fault for the dependency's own. Raises ValueError for a value
    out of range, TypeError for an error that cannot be called.

    >>> guard_fault = Fault(error=ConnectionRefusedError, share=0.5)
    >>> guard_fault.strikes(random.Random(1)), guard_fault.strikes(random.Random(2))
    (True, False)
    """

    latency: float = 0.0
    error: Callable[[], Exception] | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        if not self.latency >= 0:
            raise ValueError(f"latency must be 0 seconds or more, got {self.latency}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {self.share}")
        if self.error is not None and not callable(self.error):
            raise TypeError(f"error makes an exception, so it is a class or a function, got {self.error!r}")

    def strikes(self, rng: random.Random) -> bool:
        """Whether this attempt is struck."""
        return self.share == 1 or rng.random() < self.share
