"""h1-h3: one guard in many threads."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

from benchmarks.libraries import Library, Settings

from .scenario import (
    BREAKER,
    BULKHEAD,
    NOT_APPLICABLE,
    AsyncWay,
    Scenario,
    Verdict,
    async_way,
    sync_way,
    turns,
    verdict,
)


def h1(library: Library) -> Verdict:
    way = sync_way(library, BREAKER, Settings())
    if way is None:
        return NOT_APPLICABLE
    start = threading.Barrier(17)

    def caller() -> None:
        start.wait()
        way(lambda: time.sleep(0.05))

    threads = [threading.Thread(target=caller, daemon=True) for _ in range(16)]
    for thread in threads:
        thread.start()
    start.wait()
    begun = time.monotonic()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begun
    return verdict("ok" if took < 0.4 else f"{took * 1000:.0f} ms, one after the other", ok=took < 0.4)


LIMIT = 5
LOOPS = 4


def h2(library: Library) -> Verdict:
    settings = Settings(limit=LIMIT, queue=20)
    problems = []
    tried = False
    for policies in (BREAKER, BULKHEAD):
        try:
            way = async_way(library, policies, settings)
        except RuntimeError:
            # Guards only where a loop is running, so it belongs to that one.
            way = None
        if way is not None:
            tried = True
            limited = policies is BULKHEAD
            found = _in_four_loops(way, library.rejections, limited=limited)
            problems += [f"{problem} in the {'bulkhead' if limited else 'breaker'}" for problem in found]
    if not tried:
        return NOT_APPLICABLE
    return verdict("; ".join(dict.fromkeys(problems)) or "ok", ok=not problems)


def _in_four_loops(way: AsyncWay, rejections: tuple[type[BaseException], ...], *, limited: bool) -> list[str]:
    lock = threading.Lock()
    inside = most = 0
    results: list[Any] = []
    together = threading.Barrier(LOOPS)

    async def call() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        await turns(5)
        with lock:
            inside -= 1

    async def callers() -> None:
        together.wait()
        for _ in range(50):
            results.extend(await asyncio.gather(*(way(call) for _ in range(4)), return_exceptions=True))

    # So that threads take turns in the middle of things.
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=asyncio.run, args=(callers(),), daemon=True) for _ in range(LOOPS)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 5.0
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    sys.setswitchinterval(before)
    errors = [result for result in results if isinstance(result, BaseException) and not isinstance(result, rejections)]
    problems = []
    if any(thread.is_alive() for thread in threads):
        problems.append("hangs")
    if errors:
        problems.append(type(errors[0]).__name__)
    if limited and most > LIMIT:
        problems.append(f"{most} at once, not {LIMIT},")
    return problems


CALLS = 10_000


def h3(library: Library) -> Verdict:
    if library.counter is None:
        return NOT_APPLICABLE
    call, count = library.counter()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def caller() -> None:
        for _ in range(CALLS):
            call()

    threads = [threading.Thread(target=caller, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(before)
    lost = 8 * CALLS - count()
    return verdict(f"{lost} of {8 * CALLS} lost" if lost else "ok", ok=lost == 0)


SCENARIOS = (
    Scenario(name="h1", situation="16 threads call at once, 50 ms each", correct="about 50 ms, not 800", run=h1),
    Scenario(
        name="h2",
        situation="one guard in four threads with an event loop each",
        correct="no error, no hang, limits hold",
        run=h2,
    ),
    Scenario(name="h3", situation="80 000 calls counted in 8 threads", correct="none lost", run=h3),
)
