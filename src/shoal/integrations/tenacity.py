"""tenacity: its retry loops draw on the budget of a guard. For tenacity 9 and newer."""

from __future__ import annotations

from tenacity import RetryCallState, retry_if_exception
from tenacity.retry import retry_base
from tenacity.stop import stop_any, stop_base

from shoal import Guard, remaining
from shoal.guard import was_retried

__all__ = ["retry_if_repeatable", "stop_when_budget_is_spent"]


def stop_when_budget_is_spent(guard: Guard) -> stop_base:
    """A stop condition: every retry is paid for by the budget that all callers of the guard's dependency share.

    Put it last, behind `|`: it pays when it is asked, and should be asked only if a retry would follow. It stops
    without paying when an inner guard has retried already, and when the deadline would end before the wait. A
    cancellation ends the loop whatever `retry=` says. Denied retries are in the guard's `retries_denied`.

    With `reraise=True` the caller gets the dependency's own exception, as from a guard; without it, tenacity's
    RetryError. The budget is a share of the calls that the guard sees, so make each attempt inside of it:

    >>> from tenacity import retry, stop_after_attempt, wait_random_exponential
    >>> guard = Guard("fees", timeout=0.5)
    >>> @retry(
    ...     retry=retry_if_repeatable(ConnectionError),
    ...     stop=stop_after_attempt(3) | stop_when_budget_is_spent(guard),
    ...     wait=wait_random_exponential(multiplier=0.05, max=2.0),
    ...     reraise=True,
    ... )
    ... def fee(country: str) -> int:
    ...     with guard.call():
    ...         return 5
    >>> fee("ch")
    5
    """
    return _BudgetStop(guard)


def retry_if_repeatable(on: type[Exception] | tuple[type[Exception], ...]) -> retry_base:
    """A retry condition: an exception of type *on* that no guard has had its say about repeating.

    Unlike `retry_if_not_exception_type` it leaves cancellations alone, and unlike a stop condition it lets what must
    not be repeated pass as it is, without RetryError.
    """

    def is_repeatable(error: BaseException) -> bool:
        return isinstance(error, on) and not was_retried(error)

    return retry_if_exception(is_repeatable)


class _BudgetStop(stop_any):
    """Any of *stops*, and if there is none, the budget."""

    def __init__(self, guard: Guard, *stops: stop_base) -> None:
        super().__init__(*stops)
        self._guard = guard

    def __call__(self, retry_state: RetryCallState) -> bool:
        outcome = retry_state.outcome
        error = outcome.exception() if outcome is not None else None
        if error is not None and not isinstance(error, Exception):
            # Stopping would turn a cancellation into a RetryError.
            raise error
        if super().__call__(retry_state) or (error is not None and was_retried(error)):
            return True
        return remaining() <= retry_state.upcoming_sleep or not self._guard.may_retry()

    def __or__(self, other: stop_base) -> stop_any:
        # To be asked before the budget: what stops anyway is not to be paid for.
        return _BudgetStop(self._guard, *self.stops, other)
