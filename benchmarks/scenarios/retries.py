"""c and d: how many calls the retries of many callers, and of many layers, amount to."""

from __future__ import annotations

import asyncio
import time

from benchmarks.libraries import Library, Settings

from .scenario import (
    NOT_APPLICABLE,
    RETRY,
    RETRY_BREAKER,
    Scenario,
    Verdict,
    async_way,
    in_a_loop,
    sync_way,
    whatever_it_raises,
)

CALLERS = 1000
# A fifth of the calls, and a reserve for the ten seconds of the window.
AFFORDABLE = 1.3


async def _storm(library: Library, policies: tuple[str, ...], *, affordable: float) -> Verdict:
    """A thousand callers in a second, three attempts each, nothing works."""
    settings = Settings(open_for=30.0)
    contacted = 0

    def fail() -> None:
        nonlocal contacted
        contacted += 1
        raise ConnectionRefusedError

    async def fail_async() -> None:
        fail()

    way, waited = sync_way(library, policies, settings), async_way(library, policies, settings)
    if way is None and waited is None:
        return NOT_APPLICABLE
    begun = time.monotonic()
    for caller in range(CALLERS):
        with whatever_it_raises():
            if way is not None:
                way(fail)
            elif waited is not None:
                await waited(fail_async)
        await asyncio.sleep(max(0.0, begun + caller / CALLERS - time.monotonic()))
    per_caller = contacted / CALLERS
    return Verdict(per_caller <= affordable, f"{per_caller:.3f}" if per_caller < 1 else f"{per_caller:.2f}")


async def c1(library: Library) -> Verdict:
    return await _storm(library, RETRY, affordable=AFFORDABLE)


async def c2(library: Library) -> Verdict:
    return await _storm(library, RETRY_BREAKER, affordable=0.05)


async def d(library: Library) -> Verdict:
    settings = Settings()
    contacted = 0

    def fail() -> None:
        nonlocal contacted
        contacted += 1
        raise ConnectionRefusedError

    async def fail_async() -> None:
        fail()

    outer, middle, inner = [sync_way(library, RETRY, settings) for _ in range(3)]
    if outer and middle and inner:
        with whatever_it_raises():
            outer(lambda: middle(lambda: inner(fail)))
    else:
        waited = [async_way(library, RETRY, settings) for _ in range(3)]
        if not all(waited):
            return NOT_APPLICABLE
        first, second, third = [way for way in waited if way]
        with whatever_it_raises():
            await first(lambda: second(lambda: third(fail_async)))
    return Verdict(contacted <= settings.attempts, str(contacted))


SCENARIOS = (
    Scenario(
        name="c1",
        situation="1000 callers in a second, three attempts each, the dependency down, no breaker: calls a caller",
        correct="at most 1.3, of which 0.2 are a fifth for retries and the rest a reserve",
        run=in_a_loop(c1),
    ),
    Scenario(
        name="c2",
        situation="the same with a breaker that opens at three failures: calls a caller",
        correct="next to none",
        run=in_a_loop(c2),
    ),
    Scenario(
        name="d",
        situation="three layers of three attempts, one caller, the dependency down: calls",
        correct="3",
        run=in_a_loop(d),
    ),
)
