"""How a request of a journey ended, and what a failure is put down to. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from shoal._events import Trail
from shoal.errors import DeadlineExceededError, TooLateError

Outcome = Literal["ok", "degraded", "failed", "shed", "client_error"]

# Causes that are not a dependency.
NONE = "none"
SELF = "self"
OVERLOAD = "overload"
DEADLINE = "deadline"
CAUSES = (NONE, SELF, OVERLOAD, DEADLINE)


def judge(
    *,
    status: int | None,
    error: BaseException | None,
    trail: Trail,
    needs: Collection[str],
    better_with: Collection[str],
) -> tuple[Outcome, str]:
    """The outcome of a request and its cause.

    *status* is what was sent, `None` when nothing was; *error* is what the application let escape. A failure is put
    down to the last failed dependency that the journey needs, or else to the last one it is better with: that it can do
    without was a claim. If none of them failed but the request's own time ran out, the cause is the deadline. A request
    cancelled because its client went away counts by the status that had been sent, and as failed when there was none:
    the client may have left because it waited too long.

    >>> trail = Trail()
    >>> trail.failed.append("auth")
    >>> judge(status=503, error=None, trail=trail, needs={"auth"}, better_with=())
    ('failed', 'auth')
    """
    cancelled = error is not None and not isinstance(error, Exception)
    if status is None or status >= 500 or (error is not None and not cancelled):
        if (culprit := _last(trail.failed, needs) or _last(trail.failed, better_with)) is not None:
            return "failed", culprit
        return "failed", DEADLINE if trail.late or isinstance(error, DeadlineExceededError | TooLateError) else SELF
    if status >= 400:
        return "client_error", NONE
    # Whatever went wrong on the way, declared or not, the answer is not the full one.
    missed = [*trail.degraded, *trail.failed]
    if missed:
        return "degraded", _last(missed, needs) or _last(missed, better_with) or missed[-1]
    return "ok", NONE


def _last(names: list[str], among: Collection[str]) -> str | None:
    return next((name for name in reversed(names) if name in among), None)
