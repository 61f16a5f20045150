"""Work that must not happen twice, under a guard that repeats: for as long as it has not begun, and no longer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from shoal.errors import DeadlineExceededError
from shoal.guard import Guard, deadline, do_not_retry

T = TypeVar("T")

Begin: TypeAlias = Callable[[], None]
"""What an attempt calls at the moment from which on it may have had an effect."""
Spared: TypeAlias = Callable[[Exception], bool]
"""Whether an error proves that an attempt had no effect although it had begun."""


def _nothing(_error: Exception) -> bool:
    return False


def run(guard: Guard, attempt: Callable[[Begin], T], *, idempotent: bool, spared: Spared = _nothing) -> T:
    """`guard.run(attempt)`; with *idempotent* False no failure after the attempt's `begin()` is repeated."""
    if idempotent:
        return guard.run(attempt, _no_matter)
    return guard.run(_Once(guard, spared).attempt, attempt)


async def arun(
    guard: Guard, attempt: Callable[[Begin], Awaitable[T]], *, idempotent: bool, spared: Spared = _nothing
) -> T:
    """`await guard.arun(attempt)`; with *idempotent* False no failure after the attempt's `begin()` is repeated.

    All attempts together then have the guard's timeout: one that the guard cut leaves no error of its own that could be
    marked, but past a deadline no guard begins another one.
    """
    if idempotent:
        return await guard.arun(attempt, _no_matter)
    once = _Once(guard, spared)
    with deadline(guard.remaining()):
        try:
            return await guard.arun(once.aattempt, attempt)
        except Exception as error:
            once.mark(error)
            raise


class _Once:
    """Whether one piece of work has begun. Marks the errors that end it from then on, so that no guard repeats it."""

    __slots__ = ("_begun", "_guard", "_spared")

    def __init__(self, guard: Guard, spared: Spared) -> None:
        self._guard = guard
        self._spared = spared
        self._begun = False

    def attempt(self, attempt: Callable[[Begin], T]) -> T:
        try:
            return attempt(self._begin)
        except Exception as error:
            self.mark(error)
            raise

    async def aattempt(self, attempt: Callable[[Begin], Awaitable[T]]) -> T:
        if self._begun:
            # The deadline has not kept the guard from it, by a hair. A payment must not depend on that.
            raise DeadlineExceededError(self._guard.name, timeout=self._guard.timeout)
        try:
            return await attempt(self._begin)
        except Exception as error:
            self.mark(error)
            raise

    def mark(self, error: Exception) -> None:
        if self._begun and self._spared(error):
            self._begun = False
        elif self._begun:
            do_not_retry(error)

    def _begin(self) -> None:
        self._begun = True


def _no_matter() -> None:
    return None
