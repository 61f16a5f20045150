"""b1-b4: callers that go away."""

from __future__ import annotations

import asyncio

from benchmarks.libraries import Library, Settings

from .scenario import (
    BREAKER,
    BULKHEAD,
    NOT_APPLICABLE,
    AsyncWay,
    Scenario,
    Verdict,
    Way,
    async_way,
    end,
    in_a_loop,
    reaches,
    reaches_async,
    refuse,
    refuse_async,
    sync_way,
    trip_async,
    turns,
    verdict,
    whatever_it_raises,
)

SETTINGS = Settings()
PAUSE = SETTINGS.open_for + 0.05


async def _cancel_a_call(way: AsyncWay) -> None:
    task = asyncio.create_task(way(asyncio.Event().wait))
    await turns(4)
    await end(task)


def _interrupt(way: Way) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    try:
        way(interrupted)
    except BaseException:
        return


async def b1(library: Library) -> Verdict:
    way = async_way(library, BREAKER, SETTINGS)
    if way is not None:
        for _ in range(20):
            await _cancel_a_call(way)
        closed = await reaches_async(way)
        return verdict("ok" if closed else "opens", ok=closed)
    sync = sync_way(library, BREAKER, SETTINGS)
    if sync is None:
        return NOT_APPLICABLE
    for _ in range(20):
        _interrupt(sync)
    closed = reaches(sync)
    return verdict("ok" if closed else "opens for KeyboardInterrupt", ok=closed)


async def b2(library: Library) -> Verdict:
    way = async_way(library, BREAKER, SETTINGS)
    if way is not None:
        for failures in (SETTINGS.failures - 1, 1):
            for _ in range(failures):
                with whatever_it_raises():
                    await way(refuse_async)
            if failures > 1:
                await _cancel_a_call(way)
        closed = await reaches_async(way)
        return verdict("resets the count" if closed else "ok", ok=not closed)
    sync = sync_way(library, BREAKER, SETTINGS)
    if sync is None:
        return NOT_APPLICABLE
    for failures in (SETTINGS.failures - 1, 1):
        for _ in range(failures):
            with whatever_it_raises():
                sync(refuse)
        if failures > 1:
            _interrupt(sync)
    closed = reaches(sync)
    return verdict("resets the count" if closed else "ok", ok=not closed)


async def b3(library: Library) -> Verdict:
    way = async_way(library, BREAKER, SETTINGS)
    if way is None:
        return NOT_APPLICABLE
    await trip_async(way, SETTINGS)
    await asyncio.sleep(PAUSE)
    await _cancel_a_call(way)
    first = await _of_20_at_once(way)
    if first == 1:
        return verdict("ok", ok=True)
    if first:
        return verdict(f"{first} of 20 pass", ok=False)
    await asyncio.sleep(PAUSE)
    later = await _of_20_at_once(way)
    return verdict("re-opens" if later else "stuck", ok=False)


async def _of_20_at_once(way: AsyncWay) -> int:
    reached: list[int] = []

    async def hang() -> None:
        reached.append(1)
        await asyncio.Event().wait()

    tasks = [asyncio.create_task(way(hang)) for _ in range(20)]
    await turns()
    await end(*tasks)
    return len(reached)


async def b4(library: Library) -> Verdict:
    """Cancelled while running, while queued where there is a queue, and in the turn in which a place becomes free."""
    settings = Settings(limit=2, queue=2)
    way = async_way(library, BULKHEAD, settings)
    if way is None:
        return NOT_APPLICABLE
    for when in ("running", "queued", "at a release"):
        for _ in range(10):
            answer = asyncio.Event()
            inside = [asyncio.create_task(way(answer.wait)) for _ in range(2)]
            await turns(6)
            waiting = [asyncio.create_task(way(answer.wait)) for _ in range(0 if when == "running" else 2)]
            await turns(6)
            if when == "at a release":
                answer.set()
                await turns(1)
            for task in inside if when == "running" else waiting:
                task.cancel()
            answer.set()
            await asyncio.gather(*inside, *waiting, return_exceptions=True)
        left = await _places(way)
        if left < settings.limit:
            return verdict(f"{left} of 2 places left, cancelled {when}", ok=False)
    return verdict("ok", ok=True)


async def _places(way: AsyncWay) -> int:
    inside: list[int] = []

    async def hang() -> None:
        inside.append(1)
        await asyncio.Event().wait()

    tasks = [asyncio.create_task(way(hang)) for _ in range(2)]
    await turns()
    await end(*tasks)
    return len(inside)


SCENARIOS = (
    Scenario(
        name="b1", situation="20 callers go away while the breaker is closed", correct="no failure", run=in_a_loop(b1)
    ),
    Scenario(
        name="b2",
        situation="two failures, a caller that goes away, a third failure",
        correct="no success: the breaker opens",
        run=in_a_loop(b2),
    ),
    Scenario(
        name="b3",
        situation="the trial's caller goes away, then 20 call at once",
        correct="one of them makes the next trial",
        run=in_a_loop(b3),
    ),
    Scenario(
        name="b4",
        situation="callers go away while running, while queued, as a place becomes free; two places",
        correct="two places left",
        run=in_a_loop(b4),
    ),
)
