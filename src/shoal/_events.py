"""What happened to the calls made on behalf of the request being served: the way a cause travels.

A guard notes each call that failed for good or was answered with a stale value; the middleware that began the
trail reads it when the request ends. Context variables carry it, so tasks started by the handler share it.
"""

from __future__ import annotations

from contextvars import ContextVar, Token


class Trail:
    """The calls of one request that did not go well, by dependency, in the order they happened.

    *late* says that a call was not made, or cut short, because the request's own deadline had come; *retried* are the
    dependencies whose failures were repeated already, so that whoever asked must not repeat them once more.
    """

    __slots__ = ("degraded", "failed", "late", "retried")

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.degraded: list[str] = []
        self.late = False
        self.retried: set[str] = set()


_trail: ContextVar[Trail | None] = ContextVar("shoal_trail", default=None)


def begin_trail() -> tuple[Trail, Token[Trail | None]]:
    """Start noting for the current context; hand the token to `end_trail`."""
    trail = Trail()
    return trail, _trail.set(trail)


def end_trail(token: Token[Trail | None]) -> None:
    """Stop noting."""
    _trail.reset(token)


def note_failed(dependency: str, *, retried: bool = False) -> None:
    """A call to *dependency* failed for good while serving the current request, if there is one."""
    if (trail := _trail.get()) is not None:
        trail.failed.append(dependency)
        if retried:
            trail.retried.add(dependency)


def note_late() -> None:
    """The current request, if there is one, has no time left for a call."""
    if (trail := _trail.get()) is not None:
        trail.late = True


def note_degraded(dependency: str) -> None:
    """A call to *dependency* was answered otherwise while serving the current request, if there is one."""
    if (trail := _trail.get()) is not None:
        trail.degraded.append(dependency)


def note_excused(dependency: str) -> None:
    """So was the one that failed last: it is no failure of the request any more."""
    if (trail := _trail.get()) is not None:
        for back in range(len(trail.failed) - 1, -1, -1):
            if trail.failed[back] == dependency:
                del trail.failed[back]
                break
        trail.degraded.append(dependency)
