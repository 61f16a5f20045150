"""What happened to the calls made on behalf of the request being served: the way a cause travels.

A guard notes each call that failed for good or was answered with a stale value; the middleware that began the
trail reads it when the request ends. Context variables carry it, so tasks started by the handler share it.
"""

from __future__ import annotations

from contextvars import ContextVar, Token


class Trail:
    """The calls of one request that did not go well, by dependency, in the order they happened."""

    __slots__ = ("degraded", "failed")

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.degraded: list[str] = []


_trail: ContextVar[Trail | None] = ContextVar("shoal_trail", default=None)


def begin_trail() -> tuple[Trail, Token[Trail | None]]:
    """Start noting for the current context; hand the token to `end_trail`."""
    trail = Trail()
    return trail, _trail.set(trail)


def end_trail(token: Token[Trail | None]) -> None:
    """Stop noting."""
    _trail.reset(token)


def note_failed(dependency: str) -> None:
    """A call to *dependency* failed for good while serving the current request, if there is one."""
    if (trail := _trail.get()) is not None:
        trail.failed.append(dependency)


def note_degraded(dependency: str) -> None:
    """A call to *dependency* was answered with a fallback while serving the current request, if there is one."""
    if (trail := _trail.get()) is not None:
        trail.degraded.append(dependency)
