"""How long to wait before a retry."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """Waits that double from *initial* up to *maximum* seconds, with full jitter.

    After an answer that asks for patience (429, or 503 with Retry-After) they start at *throttled* instead. The figures
    are botocore's, whose standard mode starts at 50 ms and at 1 s; *maximum* is short enough for a request somebody
    waits for. Raises ValueError unless 0 < initial <= maximum and 0 < throttled.

    Full jitter is the variant that spreads colliding callers widest (AWS, "Exponential Backoff And Jitter").

    >>> Backoff(initial=0.1, maximum=1.0).longest(4)
    1.0
    """

    initial: float = 0.05
    maximum: float = 2.0
    throttled: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.initial <= self.maximum:
            raise ValueError(f"initial must be above 0 and at most maximum, got {self.initial} and {self.maximum}")
        if not self.throttled > 0:
            raise ValueError(f"throttled must be above 0 seconds, got {self.throttled}")

    def longest(self, retry: int, *, throttled: bool = False) -> float:
        """The longest wait before retry number *retry*, the first being 0, without any Retry-After."""
        # Beyond 2**60 only the maximum matters, and the power would not fit a float.
        return min(self.maximum, (self.throttled if throttled else self.initial) * 2.0 ** min(retry, 60))

    def wait(self, retry: int, *, rng: random.Random, throttled: bool = False, at_least: float = 0.0) -> float:
        """Seconds to wait before retry number *retry*, the first being 0.

        *at_least* is what the dependency asked for in Retry-After: jitter is only added to it, never taken off.
        """
        return at_least + rng.random() * self.longest(retry, throttled=throttled)
