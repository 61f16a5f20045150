"""b5: a cancellation and something else at the same instant."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from benchmarks.libraries import Library, Settings

from .scenario import (
    NOT_APPLICABLE,
    TIMEOUT,
    Scenario,
    Verdict,
    async_way,
    in_a_loop,
    turns,
    verdict,
)

SETTINGS = Settings()


async def b5(library: Library) -> Verdict:
    """At the deadline, and together with the answer; in the same turn of the event loop and in those after it."""
    if async_way(library, TIMEOUT, SETTINGS) is None:
        return NOT_APPLICABLE
    moments = {"deadline": _at_the_deadline, "answer": _with_the_answer}
    wrong = []
    for moment, cancel in moments.items():
        swallowed = max([sum([await cancel(library, later) for _ in range(20)]) for later in range(-1, 3)])
        if swallowed:
            wrong.append(f"{swallowed} of 20 swallowed at the {moment}")
    return verdict("; ".join(wrong) or "ok", ok=not wrong)


async def _at_the_deadline(library: Library, later: int) -> bool:
    """Whether the cancellation was swallowed. -1 turns later is just before, in the same turn."""
    settings = Settings(timeout=0.005)
    way = async_way(library, TIMEOUT, settings)
    assert way is not None
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(way(asyncio.Event().wait))
    await turns(4)
    accepted = asyncio.Event()

    def cancel() -> None:
        if task.cancel():
            accepted.set()

    loop.call_at(loop.time() + (settings.timeout if later >= 0 else 0.0), _after, later, cancel)
    # Makes the loop late, so that both timers ring in one turn.
    time.sleep(0.008)  # noqa: ASYNC251
    await asyncio.wait([task])
    return accepted.is_set() and _survived(task)


async def _with_the_answer(library: Library, later: int) -> bool:
    """Whether the cancellation was swallowed. -1 turns later is just before, in the same turn."""
    way = async_way(library, TIMEOUT, SETTINGS)
    assert way is not None
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        await answer

    task = asyncio.create_task(way(wait))
    await turns(4)
    if later < 0:
        accepted = task.cancel()
        if not answer.done():
            answer.set_result(None)
    else:
        answer.set_result(None)
        await turns(later)
        accepted = task.cancel()
    await asyncio.wait([task])
    return accepted and _survived(task)


def _after(later: int, cancel: Callable[[], Any]) -> None:
    if later > 0:
        asyncio.get_running_loop().call_soon(_after, later - 1, cancel)
    else:
        cancel()


def _survived(task: asyncio.Task[Any]) -> bool:
    if task.cancelled():
        return False
    # Looked at, or asyncio would say that nobody has.
    task.exception()
    return True


SCENARIOS = (
    Scenario(
        name="b5",
        situation="a cancellation at the instant of the deadline, or of the answer, 20 times",
        correct="the task ends as cancelled",
        run=in_a_loop(b5),
    ),
)
