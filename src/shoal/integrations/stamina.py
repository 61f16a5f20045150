"""stamina: its retries draw on the budget of a guard. For stamina 24.3 and newer."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import TypeAlias

from shoal import Guard, remaining
from shoal.guard import was_retried

__all__ = ["BackoffHook", "within_budget"]

BackoffHook: TypeAlias = Callable[[Exception], bool | float | dt.timedelta]
"""What stamina takes for *on*: whether to retry, or how long to wait before."""


def within_budget(guard: Guard, *, on: type[Exception] | tuple[type[Exception], ...] | BackoffHook) -> BackoffHook:
    """For stamina's *on*: every retry is paid for by the budget that all callers of the guard's dependency share.

    *on* is what stamina would take itself: exception types, or a function that returns whether to retry, or how long to
    wait before. Not retried, and not paid for, are cancellations, what an inner guard has retried already, and what
    fails after the deadline. Denied retries are in the guard's `retries_denied`, and the caller gets the dependency's
    own exception.

    stamina asks before it looks at its attempts and its timeout, so a call that fails for good pays once more than it
    retries. The budget is a share of the calls that the guard sees, so make each attempt inside of it:

    >>> import stamina
    >>> guard = Guard("fees", timeout=0.5)
    >>> @stamina.retry(on=within_budget(guard, on=ConnectionError), attempts=3)
    ... def fee(country: str) -> int:
    ...     with guard.call():
    ...         return 5
    >>> fee("ch")
    5
    """

    def wanted(error: Exception) -> bool | float | dt.timedelta:
        if isinstance(on, type | tuple):
            return isinstance(error, on)
        return on(error)

    def paid(error: BaseException) -> bool | float | dt.timedelta:
        # stamina hands over whatever was raised, cancellations too.
        if not isinstance(error, Exception) or was_retried(error) or remaining() <= 0.0:
            return False
        answer = wanted(error)
        # 0.0 is a wait. None is a mistake, of which stamina warns.
        if answer is False or answer is None:
            return answer
        return answer if guard.may_retry() else False

    return paid
