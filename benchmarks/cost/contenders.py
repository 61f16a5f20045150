"""Who takes part: each library with each set of policies it has, on the same function."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from benchmarks.libraries import Library, Make, Settings

from .loops import Loop, awaiting, calling, refuse, refuse_async, rejected, rejected_async


class Contender(NamedTuple):
    """A line of a table."""

    library: str
    policies: str


SETTINGS = Settings()

# Open at the first failure, and for longer than any measurement.
OPENED = Settings(failures=1, open_for=3600.0)


def sync_peers(libraries: Mapping[str, Library], fn: Callable[[], Any]) -> dict[Contender, Loop]:
    """Sync guards of all libraries but shoal, accepting."""
    return {
        Contender(library.name, policies): calling(make(SETTINGS)(fn))
        for library in _peers(libraries)
        for policies, make in library.sync.items()
    }


def async_peers(libraries: Mapping[str, Library], fn: Callable[[], Awaitable[Any]]) -> dict[Contender, Loop]:
    """Async guards of all libraries but shoal, accepting. To be called where an event loop is running."""
    return {
        Contender(library.name, policies): awaiting(make(SETTINGS)(fn))
        for library in _peers(libraries)
        for policies, make in library.asynchronous.items()
    }


def rejecting_sync_peers(libraries: Mapping[str, Library]) -> dict[Contender, Loop]:
    """Sync guards of all libraries but shoal, with an open breaker."""
    return {
        Contender(library.name, policies): rejected(_opened(make), library.rejections)
        for library in _peers(libraries)
        for policies, make in library.sync.items()
        if _rejects(policies)
    }


def rejecting_async_peers(libraries: Mapping[str, Library]) -> dict[Contender, Loop]:
    """Async guards of all libraries but shoal, with an open breaker."""
    return {
        Contender(library.name, policies): rejected_async(_opened_async(make), library.rejections)
        for library in _peers(libraries)
        for policies, make in library.asynchronous.items()
        if _rejects(policies)
    }


def _peers(libraries: Mapping[str, Library]) -> list[Library]:
    return [library for library in libraries.values() if library.name != "shoal"]


def _rejects(policies: str) -> bool:
    # A fallback would answer instead, and a pool of threads for timeouts is made anew with each guard.
    return "breaker" in policies and "fallback" not in policies and "timeout" not in policies


def _opened(make: Make) -> Callable[[], Callable[[], Any]]:
    def open_one() -> Callable[[], Any]:
        fn = make(OPENED)(refuse)
        with contextlib.suppress(Exception):
            fn()
        return fn

    return open_one


def _opened_async(make: Make) -> Callable[[], Awaitable[Callable[[], Awaitable[Any]]]]:
    async def open_one() -> Callable[[], Awaitable[Any]]:
        fn = make(OPENED)(refuse_async)
        with contextlib.suppress(Exception):
            await fn()
        return fn

    return open_one
