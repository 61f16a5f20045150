"""What the helpers for Kafka's clients have in common: whether an event that failed may have arrived all the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from shoal import DeadlineExceededError, Guard
from shoal.guard import do_not_retry

T = TypeVar("T")

_CERTAIN = "_shoal_certainly_not_delivered"


def possibly_delivered(error: BaseException) -> bool:
    """Whether an event may be in its topic, now or soon, although sending it raised *error*.

    False means that it is not and will not be: it never left this process, or a broker has refused it. True after an
    attempt that was on the wire when its time was over or its connection broke, and for errors from elsewhere. Count
    these apart: who sends such an event again may send it twice.
    """
    return not getattr(error, _CERTAIN, False)


def never_left(name: str, *, within: float) -> DeadlineExceededError:
    """The error for an event that was withdrawn after *within* seconds. A guard may repeat it, whatever it is."""
    error = DeadlineExceededError(name, timeout=within)
    # The proof that guards look for.
    error.__cause__ = ConnectionRefusedError("no broker could be given the event; it was withdrawn before it was sent")
    return error


class Doubt:
    """Whether the event of one call may have arrived; if it must not come twice, it is not sent again then."""

    __slots__ = ("_exists", "_guard", "_idempotent")

    def __init__(self, guard: Guard, *, idempotent: bool) -> None:
        self._guard = guard
        self._idempotent = idempotent
        self._exists = False

    def arises(self) -> None:
        """The event may arrive from now on, whatever the attempt comes to."""
        self._exists = True

    def run(self, attempt: Callable[[Doubt], T]) -> T:
        """The call: what *attempt* returns, under the guard."""
        try:
            return self._guard.run(self._attempt, attempt)
        except Exception as error:
            self._tell(error)
            raise

    async def arun(self, attempt: Callable[[Doubt], Awaitable[T]]) -> T:
        """The call: what *attempt* returns when awaited, under the guard."""
        try:
            return await self._guard.arun(self._aattempt, attempt)
        except Exception as error:
            self._tell(error)
            raise

    def _attempt(self, attempt: Callable[[Doubt], T]) -> T:
        try:
            return attempt(self)
        except Exception as error:
            self._forbid(error)
            raise

    async def _aattempt(self, attempt: Callable[[Doubt], Awaitable[T]]) -> T:
        if self._exists and not self._idempotent:
            # The guard has cut the attempt before, and of such a one there is no error that could be marked.
            error = DeadlineExceededError(self._guard.name, timeout=self._guard.timeout)
            self._forbid(error)
            raise error
        try:
            return await attempt(self)
        except Exception as error:
            self._forbid(error)
            raise

    def _forbid(self, error: Exception) -> None:
        if self._exists and not self._idempotent:
            do_not_retry(error)

    def _tell(self, error: Exception) -> None:
        if not self._exists:
            setattr(error, _CERTAIN, True)
