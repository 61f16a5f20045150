"""a3, a4: results of calls that began before the breaker opened."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from benchmarks.libraries import Library, Settings

from .scenario import (
    BREAKER,
    NOT_APPLICABLE,
    AsyncWay,
    Scenario,
    Verdict,
    async_way,
    end,
    in_a_loop,
    reaches,
    reaches_async,
    refuse_async,
    sync_way,
    trip,
    trip_async,
    turns,
    verdict,
    whatever_it_raises,
)

SETTINGS = Settings()
PAUSE = SETTINGS.open_for + 0.05


async def a3(library: Library) -> Verdict:
    """The late success comes while the breaker is open, then, on a new one, while a trial is out."""
    way = async_way(library, BREAKER, SETTINGS)
    if way is None:
        return await asyncio.to_thread(_a3_sync, library)
    late, succeed = await _begin(way)
    await trip_async(way, SETTINGS)
    succeed()
    await asyncio.gather(late, return_exceptions=True)
    let_in = sum([await reaches_async(way) for _ in range(20)])
    if let_in:
        return verdict(f"{let_in} of 20 let in while open", ok=False)
    closed = await _closed_during_the_trial(library)
    return verdict("closes during the trial" if closed else "ok", ok=not closed)


async def _begin(way: AsyncWay) -> tuple[asyncio.Task[None], Callable[[], None]]:
    answer = asyncio.Event()

    async def succeed_later() -> None:
        await answer.wait()

    late = asyncio.create_task(way(succeed_later))
    await turns()
    return late, answer.set


async def _closed_during_the_trial(library: Library) -> bool:
    """Whether the breaker is closed: then it stays so after one failure, which half-open it would not."""
    way = async_way(library, BREAKER, SETTINGS)
    assert way is not None
    late, succeed = await _begin(way)
    await trip_async(way, SETTINGS)
    await asyncio.sleep(PAUSE)
    trial = asyncio.create_task(_hang(way))
    await turns()
    succeed()
    await asyncio.gather(late, return_exceptions=True)
    failed: list[int] = []

    async def fail() -> None:
        failed.append(1)
        await refuse_async()

    # Where trials are not limited, or only by chance, the first to be let in is a trial, too.
    for _ in range(20):
        if not failed:
            with whatever_it_raises():
                await way(fail)
    closed = any([await reaches_async(way) for _ in range(20)])
    await end(trial)
    return closed


def _a3_sync(library: Library) -> Verdict:
    way = sync_way(library, BREAKER, SETTINGS)
    if way is None:
        return NOT_APPLICABLE
    began, tripped = threading.Event(), threading.Event()
    in_time: list[bool] = []

    def succeed_later() -> None:
        began.set()
        in_time.append(tripped.wait(1.0))

    late = threading.Thread(target=way, args=(succeed_later,), daemon=True)
    late.start()
    began.wait()
    trip(way, SETTINGS)
    tripped.set()
    late.join()
    if in_time == [False]:
        # Nobody can fail while a call is running.
        return NOT_APPLICABLE
    let_in = sum(reaches(way) for _ in range(20))
    return verdict(f"{let_in} of 20 let in while open" if let_in else "ok", ok=let_in == 0)


async def a4(library: Library) -> Verdict:
    way = async_way(library, BREAKER, SETTINGS)
    if way is None:
        return NOT_APPLICABLE
    answer = asyncio.Event()

    async def fail_later() -> None:
        await answer.wait()
        await refuse_async()

    late = asyncio.create_task(way(fail_later))
    await turns()
    await trip_async(way, SETTINGS)
    opened = time.monotonic()
    await asyncio.sleep(0.2)
    answer.set()
    await asyncio.gather(late, return_exceptions=True)
    # Only now: a call that is let in closes the breaker.
    await asyncio.sleep(max(0.0, opened + 0.28 - time.monotonic()))
    while not await reaches_async(way):
        if time.monotonic() > opened + 2.0:
            return verdict("still open after 2 s", ok=False)
        await asyncio.sleep(0.005)
    after = time.monotonic() - opened
    return verdict("ok" if after < 0.42 else f"open for {after:.2f} s", ok=after < 0.42)


async def _hang(way: AsyncWay) -> None:
    await way(asyncio.Event().wait)


SCENARIOS = (
    Scenario(
        name="a3",
        situation="a call from before the breaker opened succeeds while it is open, or while a trial is out",
        correct="nobody is let in for it",
        run=in_a_loop(a3),
    ),
    Scenario(
        name="a4",
        situation="a call from before the breaker opened fails while it is open",
        correct="a trial after 0.3 s all the same",
        run=in_a_loop(a4),
    ),
)
