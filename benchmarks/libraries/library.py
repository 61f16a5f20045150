"""How a library is asked to guard a function: the same words for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Call: TypeAlias = Callable[..., Any]
Decorator: TypeAlias = Callable[[Call], Call]


class NotFoundError(Exception):
    """The dependency's timely no, as an HTTP client would raise it."""

    status_code = 404


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What a guard is asked to do. Durations in seconds.

    The breaker opens after *failures* in a row, for *open_for*, and then permits one trial where that can be set.
    `ConnectionError` is the failure; what is *excluded* must not count as one. With *slow_after*, calls that take
    longer are to be held against the dependency. Retries make *attempts* in all and do not wait between them. *limit*
    calls may be in flight, and *queue* more wait for a place where the library has a queue.
    """

    failures: int = 3
    open_for: float = 0.3
    excluded: tuple[type[Exception], ...] = ()
    slow_after: float | None = None
    attempts: int = 3
    timeout: float = 10.0
    limit: int = 64
    queue: int = 0


Make: TypeAlias = Callable[[Settings], Decorator]


@dataclass(frozen=True, kw_only=True, slots=True)
class Library:
    """What one library has to offer, by the policies applied, outermost first: `retry, breaker`.

    *rejections* is what it raises instead of calling. *counter* makes a guarded function that counts its calls, and
    what reads the count.
    """

    name: str
    distributions: tuple[str, ...]
    rejections: tuple[type[BaseException], ...] = ()
    sync: Mapping[str, Make] = field(default_factory=dict)
    asynchronous: Mapping[str, Make] = field(default_factory=dict)
    counter: Callable[[], tuple[Call, Callable[[], int]]] | None = None
    judges_slow_calls: bool = False


def nested(*decorators: Decorator) -> Decorator:
    """One decorator of several, the first outermost."""

    def decorate(fn: Call) -> Call:
        for decorator in reversed(decorators):
            fn = decorator(fn)
        return fn

    return decorate
