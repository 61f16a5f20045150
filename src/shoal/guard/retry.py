"""Whether a failed attempt may be repeated, and the mark that keeps layers of guards from multiplying retries."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from .backoff import Backoff
from .outcome import Outcome, never_sent

# The time an inner guard gave it up, or infinity where the other side has asked not to be asked again.
_MARK = "_shoal_not_to_be_retried_since"

# A chain longer than this is somebody's loop.
_DEEPEST_CONTEXT = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How often one guard tries, how long it waits, and what it may repeat.

    *attempts* counts the first one. With *idempotent* False only an attempt that provably did nothing is repeated: the
    connection was refused, the name did not resolve, or the dependency asked to come back later.
    """

    attempts: int
    idempotent: bool
    backoff: Backoff

    def allows(self, error: Exception, outcome: Outcome, *, since: float) -> bool:
        """Whether this failure of an attempt begun at time *since* may be repeated here, were there attempts left."""
        if is_marked(error, since=since):
            return False
        return self.idempotent or outcome is Outcome.THROTTLE or never_sent(error)

    def wait(self, attempt: int, outcome: Outcome, *, rng: random.Random, at_least: float) -> float:
        """Seconds to wait after attempt number *attempt*, the first being 1."""
        return self.backoff.wait(attempt - 1, rng=rng, throttled=outcome is Outcome.THROTTLE, at_least=at_least)

    def mark(self, error: Exception, now: float) -> None:
        """Tell outer guards not to repeat this, if this guard, or the other side, has had its say about repeating."""
        if self.attempts > 1 or not self.idempotent or was_retried(error):
            mark(error, now)

    @property
    def longest(self) -> float:
        """The longest that all waits together can be, without any Retry-After."""
        return sum(
            max(self.backoff.longest(retry), self.backoff.longest(retry, throttled=True))
            for retry in range(self.attempts - 1)
        )


def mark(error: BaseException, now: float) -> None:
    """An inner guard has retried this, or must not: three layers of three attempts are three calls, not 27."""
    # Past the class's own __setattr__, which a frozen dataclass forbids to use; every exception has a __dict__.
    BaseException.__setattr__(error, _MARK, now)


def is_marked(error: BaseException, *, since: float) -> bool:
    """Whether the error, or one it was raised from or while handling, left an inner guard at or after time *since*.

    The context counts as well as the cause: wrapping an error must not bring the multiplication back. The time tells
    an inner guard's error from one that was marked earlier and is no business of this attempt: the error that the
    caller is handling while it asks a second dependency, or an exception object that somebody raises again and again.
    """
    link: BaseException | None = error
    for _ in range(_DEEPEST_CONTEXT):
        if link is None:
            return False
        marked = getattr(link, _MARK, None)
        if marked is not None:
            # Whatever it was raised from is older still.
            return bool(marked >= since)
        link = link.__cause__ or link.__context__
    return False


def do_not_retry(error: BaseException) -> None:
    """Tell all guards around not to repeat this: the other side has retried already, or has said that it must not be.

    >>> error = ConnectionResetError()
    >>> do_not_retry(error)
    >>> is_marked(error, since=0.0)
    True
    """
    mark(error, math.inf)


def was_retried(error: BaseException) -> bool:
    """Whether a guard has had its say about repeating this, so that nobody else should.

    For servers, which tell their callers so, and for retry loops around guards.
    """
    return is_marked(error, since=-math.inf)
