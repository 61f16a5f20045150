"""f and g: errors that are answers, and answers that come too late to be of use."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.libraries import Library, NotFoundError, Settings

from .scenario import (
    BREAKER,
    NOT_APPLICABLE,
    Scenario,
    Verdict,
    async_way,
    in_a_loop,
    reaches,
    reaches_async,
    refuse,
    sync_way,
    verdict,
    whatever_it_raises,
)


def not_found() -> None:
    raise NotFoundError


async def _still_closed(library: Library, *, every_second_fails: bool) -> bool | None:
    """Whether a breaker is closed after 40 answers of "not found", or 20 and as many failures."""
    settings = Settings(excluded=(NotFoundError,))
    way, waited = sync_way(library, BREAKER, settings), async_way(library, BREAKER, settings)

    for number in range(40):
        answer = refuse if every_second_fails and number % 2 else not_found

        async def answer_async(answer: Callable[[], None] = answer) -> None:
            answer()

        with whatever_it_raises():
            if way is not None:
                way(answer)
            elif waited is not None:
                await waited(answer_async)
            else:
                return None
    if way is not None:
        return reaches(way)
    assert waited is not None
    return await reaches_async(waited)


async def f1(library: Library) -> Verdict:
    closed = await _still_closed(library, every_second_fails=False)
    return NOT_APPLICABLE if closed is None else verdict("ok" if closed else "opens", ok=closed)


async def f2(library: Library) -> Verdict:
    closed = await _still_closed(library, every_second_fails=True)
    return NOT_APPLICABLE if closed is None else verdict("stays closed" if closed else "ok", ok=not closed)


def g(library: Library) -> Verdict:
    way = sync_way(library, BREAKER, Settings(slow_after=0.01, open_for=10.0))
    if way is None or not library.judges_slow_calls:
        return NOT_APPLICABLE
    for _ in range(40):
        with whatever_it_raises():
            way(lambda: time.sleep(0.015))
    closed = reaches(way)
    return verdict("stays closed" if closed else "ok", ok=not closed)


SCENARIOS = (
    Scenario(name="f1", situation='40 answers of "not found"', correct="the breaker stays closed", run=in_a_loop(f1)),
    Scenario(
        name="f2",
        situation='40 calls of which every second fails, the others answer "not found"',
        correct="the breaker opens",
        run=in_a_loop(f2),
    ),
    Scenario(
        name="g",
        situation="40 calls succeed, all of them slowly",
        correct="the breaker opens, where slow calls are to count",
        run=g,
    ),
)
