"""a1, a2, a5: the half-open breaker and its trials."""

from __future__ import annotations

import asyncio
import threading
import time

from benchmarks.libraries import Library, Settings

from .scenario import (
    BREAKER,
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
    sync_way,
    trip,
    trip_async,
    turns,
    verdict,
    whatever_it_raises,
)

SETTINGS = Settings()
PAUSE = SETTINGS.open_for + 0.05


async def a1(library: Library) -> Verdict:
    way = async_way(library, BREAKER, SETTINGS)
    if way is None:
        return NOT_APPLICABLE
    await trip_async(way, SETTINGS)
    await asyncio.sleep(PAUSE)
    answer = asyncio.Event()
    reached: list[int] = []

    async def fail_later() -> None:
        reached.append(1)
        await answer.wait()
        raise ConnectionRefusedError

    tasks = [asyncio.create_task(way(fail_later)) for _ in range(100)]
    await turns()
    answer.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    passed = len(reached)
    return verdict("ok" if passed == 1 else f"{passed} of 100 pass", ok=passed == 1)


def a2(library: Library) -> Verdict:
    way = sync_way(library, BREAKER, SETTINGS)
    if way is None:
        return NOT_APPLICABLE
    trip(way, SETTINGS)
    time.sleep(PAUSE)
    callers = 32
    start = threading.Barrier(callers)
    turned_away = threading.Semaphore(0)
    everybody_else_was = threading.Event()
    reached: list[bool] = []

    def fail_later() -> None:
        # Set as soon as the others have been turned away; if they wait for this call, or are here as well, never.
        reached.append(everybody_else_was.wait(0.5))
        raise ConnectionRefusedError

    def caller() -> None:
        start.wait()
        before = len(reached)
        with whatever_it_raises():
            way(fail_later)
        if len(reached) == before:
            turned_away.release()

    def count() -> None:
        for _ in range(callers - 1):
            turned_away.acquire()
        everybody_else_was.set()

    threads = [threading.Thread(target=caller, daemon=True) for _ in range(callers)]
    threading.Thread(target=count, daemon=True).start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(reached) > 1:
        return verdict(f"{len(reached)} of 32 pass", ok=False)
    return verdict("ok" if reached == [True] else "the others wait for the trial", ok=reached == [True])


def a5(library: Library) -> Verdict:
    settings = Settings(timeout=0.5)
    way = sync_way(library, BREAKER, settings)
    return asyncio.run(_a5_async(library)) if way is None else _a5_sync(way, settings)


LONG = 2.0


def _a5_sync(way: Way, settings: Settings) -> Verdict:
    trip(way, settings)
    time.sleep(PAUSE)
    hung, forever = threading.Event(), threading.Event()

    def hang() -> None:
        hung.set()
        forever.wait()

    answers: list[tuple[bool, float]] = []

    def keep_asking() -> None:
        while not (answers and answers[-1][0]) and time.monotonic() < begun + LONG:
            answers.append((reaches(way), time.monotonic() - begun))
            time.sleep(0.02)

    threading.Thread(target=way, args=(hang,), daemon=True).start()
    hung.wait()
    begun = time.monotonic()
    asking = threading.Thread(target=keep_asking, daemon=True)
    asking.start()
    asking.join(LONG + 0.5)
    forever.set()
    return _recovered(answers)


async def _a5_async(library: Library) -> Verdict:
    # Its own timeout is not what is tried, so it is a long one.
    way = async_way(library, BREAKER, SETTINGS)
    if way is None:
        return NOT_APPLICABLE
    await trip_async(way, SETTINGS)
    await asyncio.sleep(PAUSE)
    trial = asyncio.create_task(_await(way))
    await turns()
    begun = time.monotonic()
    answers: list[tuple[bool, float]] = []
    while not (answers and answers[-1][0]) and time.monotonic() < begun + LONG:
        answers.append((await reaches_async(way), time.monotonic() - begun))
        await asyncio.sleep(0.02)
    await end(trial)
    return _recovered(answers)


async def _await(way: AsyncWay) -> None:
    await way(asyncio.Event().wait)


def _recovered(answers: list[tuple[bool, float]]) -> Verdict:
    if not answers:
        return verdict("all callers hang", ok=False)
    reached, after = answers[-1]
    if not reached:
        return verdict("stuck half-open", ok=False)
    return verdict("ok" if after > 0.1 else "ok (trials are not limited)", ok=True)


SCENARIOS = (
    Scenario(
        name="a1",
        situation="half-open, 100 tasks at once, the dependency still down",
        correct="one trial passes",
        run=in_a_loop(a1),
    ),
    Scenario(
        name="a2",
        situation="half-open, 32 threads at once, the dependency still down",
        correct="one trial passes, and nobody waits for it",
        run=a2,
    ),
    Scenario(name="a5", situation="the trial hangs", correct="another is let in some time", run=a5),
)
