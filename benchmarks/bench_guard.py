"""What a guarded call costs: CPU time above and as a ratio to the bare call, best of N rounds.

    python benchmarks/bench_guard.py

Each round times the guarded and the bare loop one after the other, so that a slow moment hits both; the best of each is
what the code costs, the rest is what the neighbours cost. CPU time, not wall time: nothing here waits.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from shoal.errors import CallRejectedError
from shoal.guard import BreakerSettings, Guard, StaleAnswers

ROUNDS = 15
SYNC_CALLS = 20_000
ASYNC_CALLS = 4_000

Loop: TypeAlias = Callable[[int], None]
AsyncLoop: TypeAlias = Callable[[int], Awaitable[None]]


def nothing() -> int:
    return 1


async def nothing_async() -> int:
    return 1


async def one_wait() -> int:
    """What a real call does: it suspends, and a callback of the event loop wakes it."""
    loop = asyncio.get_running_loop()
    answered = loop.create_future()
    loop.call_soon(answered.set_result, 1)
    return int(await answered)


def opened() -> Guard:
    """A guard whose breaker is open for a minute at least."""
    guard = Guard(
        "bench",
        timeout=1.0,
        attempts=1,
        breaker=BreakerSettings(consecutive=1, consecutive_over=0.0, open_for=120.0, longest_open=120.0),
    )

    def fail() -> None:
        raise ConnectionRefusedError

    try:
        guard.run(fail)
    except ConnectionRefusedError:
        return guard
    raise AssertionError("unreachable")


def sync_loop(fn: Callable[[], object]) -> Loop:
    def loop(calls: int) -> None:
        for _ in range(calls):
            fn()

    return loop


def sync_rejected(fn: Callable[[], object]) -> Loop:
    def loop(calls: int) -> None:
        for _ in range(calls):
            try:
                fn()
            except CallRejectedError:
                continue

    return loop


def async_loop(fn: Callable[[], Awaitable[object]]) -> AsyncLoop:
    async def loop(calls: int) -> None:
        for _ in range(calls):
            await fn()

    return loop


def async_rejected(fn: Callable[[], Awaitable[object]]) -> AsyncLoop:
    async def loop(calls: int) -> None:
        for _ in range(calls):
            try:
                await fn()
            except CallRejectedError:
                continue

    return loop


def with_timeout(fn: Callable[[], Awaitable[object]]) -> AsyncLoop:
    """For comparison: what the standard library asks for a deadline that a stubborn coroutine can outstay."""

    async def loop(calls: int) -> None:
        for _ in range(calls):
            async with asyncio.timeout(1.0):
                await fn()

    return loop


def measure(bare: Loop, guarded: Loop) -> tuple[float, float]:
    """Best CPU seconds a call of both, measured in turns."""
    best_bare = best_guarded = float("inf")
    for _ in range(ROUNDS):
        for loop in (bare, guarded):
            begun = time.process_time()
            loop(SYNC_CALLS)
            spent = (time.process_time() - begun) / SYNC_CALLS
            if loop is bare:
                best_bare = min(best_bare, spent)
            else:
                best_guarded = min(best_guarded, spent)
    return best_bare, best_guarded


async def measure_async(bare: AsyncLoop, guarded: AsyncLoop) -> tuple[float, float]:
    """Best CPU seconds a call of both, measured in turns."""
    best_bare = best_guarded = float("inf")
    for _ in range(ROUNDS):
        for loop in (bare, guarded):
            begun = time.process_time()
            await loop(ASYNC_CALLS)
            spent = (time.process_time() - begun) / ASYNC_CALLS
            if loop is bare:
                best_bare = min(best_bare, spent)
            else:
                best_guarded = min(best_guarded, spent)
    return best_bare, best_guarded


def show(what: str, figures: tuple[float, float]) -> None:
    bare, guarded = (figure * 1e6 for figure in figures)
    print(f"{what:<46} {bare:>8.2f} {guarded:>8.2f} {guarded - bare:>8.2f} {guarded / bare:>7.1f}")


async def async_rows() -> None:
    guard, closed = Guard("bench", timeout=1.0), opened()
    stale = Guard("bench", timeout=1.0, stale=StaleAnswers())
    for what, fn in (("returns at once", nothing_async), ("waits once", one_wait)):
        bare = async_loop(fn)
        show(f"async, {what}", await measure_async(bare, async_loop(guard(fn))))
        show(f"async, {what}, keyed", await measure_async(bare, async_loop(stale.keyed(lambda: "key")(fn))))
        show(f"async, {what}, asyncio.timeout only", await measure_async(bare, with_timeout(fn)))
    show("async, rejected", await measure_async(async_loop(nothing_async), async_rejected(closed(nothing_async))))


def main() -> None:
    print(f"CPython {platform.python_version()}, best of {ROUNDS} rounds, microseconds of CPU time a call\n")
    print(f"{'':<46} {'bare':>8} {'guarded':>8} {'added':>8} {'ratio':>7}")
    guard, closed = Guard("bench", timeout=1.0), opened()
    stale = Guard("bench", timeout=1.0, stale=StaleAnswers())
    show("sync, accepted", measure(sync_loop(nothing), sync_loop(guard(nothing))))
    show("sync, accepted, through run()", measure(sync_loop(nothing), sync_loop(lambda: guard.run(nothing))))
    show("sync, accepted, keyed", measure(sync_loop(nothing), sync_loop(stale.keyed(lambda: "key")(nothing))))
    show("sync, rejected", measure(sync_loop(nothing), sync_rejected(closed(nothing))))
    asyncio.run(async_rows())


if __name__ == "__main__":
    main()
