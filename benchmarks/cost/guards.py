"""shoal's own lines: the guard as it comes, with everything on, and without a deadline."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import shoal
from benchmarks.libraries import Decorator
from shoal.guard import BreakerSettings, StaleAnswers

from .contenders import Contender
from .loops import (
    Loop,
    awaiting,
    calling,
    nothing,
    refuse,
    refuse_async,
    rejected,
    rejected_async,
    under_asyncio_timeout,
)

DECORATOR = Contender("shoal", "all policies, as a decorator")
SELDOM = Contender("shoal", "all policies, called every two seconds")
RUN = Contender("shoal", "all policies, through run()")
EVERYTHING = Contender("shoal", "all, slow calls, fallback, in a deadline")
LAST_GOOD = Contender("shoal", "all, fallback to the last good answer")
NO_DEADLINE = Contender("shoal", "all policies but the timeout")
WITH_TIMEOUT = Contender("shoal", "all policies, 1 s timeout")
REJECTED = Contender("shoal", "all policies")
ASYNCIO = Contender("asyncio.timeout", "timeout")

# A refusal costs a hundred successes, so one failure has to be enough.
_OPENED = BreakerSettings(consecutive=1, consecutive_over=0.0, open_for=3600.0, longest_open=3600.0)


def sync_guards() -> dict[Contender, Loop]:
    """Accepted calls of a sync function."""
    return {
        DECORATOR: calling(shoal.Guard("bench", timeout=1.0)(nothing)),
        SELDOM: calling(shoal.Guard("bench", timeout=1.0, clock=_seldom())(nothing)),
        RUN: calling(shoal.Guard("bench", timeout=1.0).run, nothing),
        EVERYTHING: _in_a_deadline(calling(everything()(nothing))),
        LAST_GOOD: calling(last_good()(nothing)),
    }


def async_guards(fn: Callable[[], Awaitable[Any]]) -> dict[Contender, Loop]:
    """Accepted calls of an async function."""
    return {
        NO_DEADLINE: awaiting(_decorated(shoal.Guard("bench", timeout=math.inf), fn)),
        WITH_TIMEOUT: awaiting(_decorated(shoal.Guard("bench", timeout=1.0), fn)),
        EVERYTHING: _in_a_deadline(awaiting(_decorated(everything(), fn))),
        LAST_GOOD: awaiting(_decorated(last_good(), fn)),
        ASYNCIO: under_asyncio_timeout(fn),
    }


def rejecting_guards() -> dict[Contender, Loop]:
    """Calls that are not made, of a sync function."""

    def open_one() -> Callable[[], Any]:
        fn = shoal.Guard("bench", timeout=1.0, attempts=1, breaker=_OPENED)(refuse)
        with contextlib.suppress(ConnectionRefusedError):
            fn()
        return fn

    return {REJECTED: rejected(open_one, (shoal.BreakerOpenError,))}


def rejecting_async_guards() -> dict[Contender, Loop]:
    """Calls that are not made, of an async function."""

    async def open_one() -> Callable[[], Awaitable[Any]]:
        fn = shoal.Guard("bench", timeout=1.0, attempts=1, breaker=_OPENED)(refuse_async)
        with contextlib.suppress(ConnectionRefusedError):
            await fn()
        return fn

    return {REJECTED: rejected_async(open_one, (shoal.BreakerOpenError,))}


def _seldom() -> Any:
    """A clock on which each look takes a second, so that each call finds its guard's windows out of date."""
    return SimpleNamespace(now=itertools.count(0.0, 1.0).__next__, wall=time.time)


def everything() -> Decorator:
    """The decorator with each policy on: retry, budget, breaker that judges slow calls, limit, timeout, fallback."""
    guard = shoal.Guard("bench", timeout=1.0, limit=64, breaker=BreakerSettings(slow_after=0.5))
    return guard.fallback(value=0)


def last_good() -> Decorator:
    """The decorator that answers a failure with the last good answer."""
    return shoal.Guard("bench", timeout=1.0, stale=StaleAnswers()).fallback(key=lambda: "key")


def _decorated(decorator: Decorator, fn: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    guarded: Callable[[], Awaitable[Any]] = decorator(fn)
    return guarded


def _in_a_deadline(loop: Loop) -> Loop:
    """The loop of a handler whose caller said how long it will wait."""

    def loop_inside(calls: int) -> Awaitable[None] | None:
        with shoal.deadline(3600.0):
            running = loop(calls)
            return None if running is None else _later(running)

    async def _later(running: Awaitable[None]) -> None:
        with shoal.deadline(3600.0):
            await running

    return loop_inside
