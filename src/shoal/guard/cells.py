"""What a call that goes well reads and writes: the guard's hot state, in one small object."""

from __future__ import annotations

import math
import sys
from array import array

# A power of two, so that a bit mask finds the place. Enough for a 95th percentile that is not a single call.
LATENCIES = 64

# One object for all of them.
_NEVER = -math.inf


class Cells:
    """Plain numbers that only ever grow, and the limits a call is compared with.

    Whoever makes an attempt adds to `entered` when it begins and to `left` when it is over for its caller; the
    difference is compared with *ceiling*. A timely answer is one more in `answered`, its seconds go into `latencies`
    and its time is `answered_at`. Everything else is counted elsewhere, since it happens on the long way.

    *ticket* is what attempts are admitted with; 0 sends every call the long way, under the lock: while the breaker is
    not closed, while calls are shed or faults injected, and always where there is no GIL. At *turns_at* the windows
    have to move on before anything more is counted; an answer after *slow_after* seconds is slow.
    """

    __slots__ = (
        "answered",
        "answered_at",
        "ceiling",
        "entered",
        "latencies",
        "left",
        "slow_after",
        "ticket",
        "turns_at",
    )

    def __init__(self) -> None:
        self.ticket = 0
        self.entered = 0
        self.left = 0
        self.ceiling = sys.maxsize
        self.answered = 0
        self.answered_at = _NEVER
        self.latencies = array("f", bytes(4 * LATENCIES))
        self.turns_at = _NEVER
        self.slow_after = math.inf

    def answer(self, seconds: float) -> None:
        """Count a timely answer. The drivers have these two lines in their own code, which saves them a call."""
        self.answered = answered = self.answered + 1
        self.latencies[answered & (LATENCIES - 1)] = seconds

    def quantile(self, share: float) -> float | None:
        """Seconds within which that share of the last answers came, at most 64 of them; None if there was none.

        >>> cells = Cells()
        >>> for seconds in (0.25, 0.5, 1.0, 2.0):
        ...     cells.answer(seconds)
        >>> cells.quantile(0.5), cells.quantile(0.95)
        (0.5, 2.0)
        """
        known = min(self.answered, LATENCIES)
        if not known:
            return None
        # Until the ring is full its first place is empty: counting begins at 1.
        places = self.latencies if known == LATENCIES else self.latencies[1 : known + 1]
        return sorted(places)[max(0, math.ceil(share * known) - 1)]
