"""How long the caller itself still has: a moment that guards inside obey and that travels to the next service."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from shoal._clock import SYSTEM_CLOCK, Clock

# On the monotonic clock; infinity where nobody waits for an answer.
UNTIL: ContextVar[float] = ContextVar("shoal_deadline", default=math.inf)


@contextmanager
def deadline(seconds: float, *, clock: Clock = SYSTEM_CLOCK) -> Iterator[None]:
    """What is done inside must be over in so many seconds; deadlines only ever get closer.

    Guards inside cut their attempts there, begin none after it, and do not wait past it; the integrations send what
    remains to the next service. Nothing else is interrupted: code that computes goes on. Tasks started inside inherit
    it, threads do not unless they are given a copy of the context. 0 is a deadline that has passed already. Raises
    ValueError for a negative number of seconds.

    >>> with deadline(0.8):
    ...     with deadline(5.0):
    ...         remaining() <= 0.8
    True
    """
    if not seconds >= 0:
        raise ValueError(f"a deadline is 0 seconds from now or more, got {seconds}")
    outer = UNTIL.get()
    UNTIL.set(min(outer, clock.now() + seconds))
    try:
        yield
    finally:
        # Not by token: code that was let go at its deadline goes on in a context of its own, where a token is void.
        UNTIL.set(outer)


def remaining(*, clock: Clock = SYSTEM_CLOCK) -> float:
    """Seconds until the deadline, never negative; infinity without one.

    >>> remaining()
    inf
    """
    return max(0.0, UNTIL.get() - clock.now())
