"""What a scenario is, what comes of it, and how it gets at a library's guards."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from benchmarks.libraries import Library, Settings


@dataclass(frozen=True, slots=True)
class Verdict:
    """*ok* is None where the library has nothing that the scenario could be tried on; *words* say what happened."""

    ok: bool | None
    words: str


NOT_APPLICABLE = Verdict(None, "-")


def verdict(words: str, *, ok: bool) -> Verdict:
    """A verdict; what was right needs no words, unless they hold a figure."""
    return Verdict(ok, words or "ok")


Run: TypeAlias = Callable[[Library], Verdict]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """*name* is the letter and number it is known by, *correct* what should happen, as the end of a sentence."""

    name: str
    situation: str
    correct: str
    run: Run


# A guard around a function of no arguments that is handed over anew for each call, so that one guard serves a whole
# scenario also where the library guards exactly one function.
Way: TypeAlias = Callable[[Callable[[], Any]], Any]
AsyncWay: TypeAlias = Callable[[Callable[[], Awaitable[Any]]], Coroutine[Any, Any, Any]]

BREAKER = ("breaker", "retry, breaker")
BULKHEAD = ("bulkhead",)
TIMEOUT = ("timeout",)
# With a budget where there is one.
RETRY = ("retry, budget", "retry")
RETRY_BREAKER = ("retry, budget, breaker", "retry, breaker")


def sync_way(library: Library, policies: tuple[str, ...], settings: Settings) -> Way | None:
    """A guard with the first of these policies that the library has for sync functions."""
    for name in policies:
        if name in library.sync:
            return _guarded(library.sync[name](_once(policies, settings)))
    return None


def async_way(library: Library, policies: tuple[str, ...], settings: Settings) -> AsyncWay | None:
    """A guard with the first of these policies that the library has for async functions."""
    for name in policies:
        if name in library.asynchronous:
            return _guarded_async(library.asynchronous[name](_once(policies, settings)))
    return None


def _once(policies: tuple[str, ...], settings: Settings) -> Settings:
    # Where a breaker comes with retries, they are not what is tried.
    return dataclasses.replace(settings, attempts=1) if policies is BREAKER else settings


def _guarded(decorate: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Way:
    def call(fn: Callable[[], Any]) -> Any:
        return fn()

    return decorate(call)


def _guarded_async(decorate: Callable[[Callable[..., Any]], Callable[..., Any]]) -> AsyncWay:
    async def call(fn: Callable[[], Awaitable[Any]]) -> Any:
        return await fn()

    return decorate(call)


def refuse() -> None:
    """A dependency that is down."""
    raise ConnectionRefusedError


async def refuse_async() -> None:
    """A dependency that is down."""
    raise ConnectionRefusedError


@contextlib.contextmanager
def whatever_it_raises() -> Iterator[None]:
    """Some libraries put their own error in the place of the dependency's; scenarios look at what was reached."""
    with contextlib.suppress(Exception):
        yield


def trip(way: Way, settings: Settings) -> None:
    """Fail as often as opens the breaker, and once more: some libraries do something only when they turn one away."""
    for _ in range(settings.failures + 1):
        with whatever_it_raises():
            way(refuse)


async def trip_async(way: AsyncWay, settings: Settings) -> None:
    """Fail as often as opens the breaker, and once more, as in `trip`."""
    for _ in range(settings.failures + 1):
        with whatever_it_raises():
            await way(refuse_async)


def reaches(way: Way) -> bool:
    """Whether a call gets through to the dependency, which is up."""
    reached: list[bool] = []
    with whatever_it_raises():
        way(lambda: reached.append(True))
    return bool(reached)


async def reaches_async(way: AsyncWay) -> bool:
    """Whether a call gets through to the dependency, which is up."""
    reached: list[bool] = []

    async def answer() -> None:
        reached.append(True)

    with whatever_it_raises():
        await way(answer)
    return bool(reached)


def in_a_loop(scenario: Callable[[Library], Coroutine[Any, Any, Verdict]]) -> Run:
    """A scenario that needs an event loop, with one of its own."""

    def run(library: Library) -> Verdict:
        return asyncio.run(scenario(library))

    return run


async def turns(count: int = 20) -> None:
    """Let everybody else go on for so many turns of the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel them, and hear what they have to say."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
