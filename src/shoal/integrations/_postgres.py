"""What the helpers for PostgreSQL's clients have in common: how long an attempt still has, and telling the server."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import TypeAlias

from shoal.guard import Guard, deadline, remaining

TimeLeft: TypeAlias = Callable[[], float]

# The server is to end a statement before the guard ends the attempt: that leaves the connection in a known state, and
# of a write no doubt whether it happened. The rest is for its answer to arrive in.
_SHARE = 0.95

# A guard's timeout may be infinite, which clients and servers do not understand.
_LONGEST = 86_400.0


def time_left(guard: Guard) -> TimeLeft:
    """What tells how many seconds are left of an attempt that begins now; a day at most."""
    # In a context of its own: the one that attempts run in is their caller's, who may have other plans.
    with deadline(min(guard.remaining(), _LONGEST)):
        return partial(copy_context().run, remaining)


def statement_timeout(seconds: float) -> str:
    """The statement that limits every further one of its transaction to a little less than *seconds*, at least 1 ms.

    Rounded down to two digits, or each call would add a statement of its own to pg_stat_statements and to clients'
    caches. `SET LOCAL` and not `set_config()`: that is a query, after which `SET TRANSACTION` is too late.

    >>> statement_timeout(0.5)
    'SET LOCAL statement_timeout = 470'
    """
    milliseconds = int(seconds * 1000 * _SHARE)
    step = 10 ** max(0, len(str(milliseconds)) - 2)
    # 0 would be no limit at all.
    return f"SET LOCAL statement_timeout = {max(1, milliseconds // step * step)}"
