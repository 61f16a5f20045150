"""CPU time of a call, measured in turns with the bare call, so that a slow moment of the machine hits both."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from .loops import Loop

K = TypeVar("K")


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How much is done for a figure: *rounds* of loops of so many CPU *seconds* each; *guards* to weigh."""

    rounds: int = 25
    seconds: float = 0.005
    guards: int = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """CPU seconds a call. The best is what the code costs, the rest is what the neighbours cost.

    The medians are those of the differences and of the ratios to the bare loop that ran just before.
    """

    bare: float
    best: float
    added_median: float
    ratio_median: float

    @property
    def added(self) -> float:
        """Above the bare call, best to best."""
        return self.best - self.bare

    @property
    def ratio(self) -> float:
        """In bare calls, best to best."""
        return self.best / self.bare


async def time_in_turns(
    bare: Loop, loops: Mapping[K, Loop], effort: Effort, *, calls: int | None = None, twice: bool = False
) -> dict[K, Cost]:
    """What each loop costs a call. Loops make as many *calls* as take their time, unless a number is given.

    CPU time of the process, threads included, not wall time: nothing here waits. With *twice*, each loop is run twice
    and timed the second time: what is only to be done once in a while has been done then.
    """
    many = {key: calls or await _calibrated(loop, effort) for key, loop in loops.items()}
    many_bare = calls or await _calibrated(bare, effort)
    pairs: dict[K, list[tuple[float, float]]] = {key: [] for key in loops}
    gc.collect()
    # Whoever makes garbage pays for collecting it, but not for looking through all that is imported here.
    gc.freeze()
    try:
        for _ in range(effort.rounds):
            for key, loop in loops.items():
                gc.collect()
                if twice:
                    await _spent(loop, many[key])
                pairs[key].append((await _spent(bare, many_bare), await _spent(loop, many[key])))
    finally:
        gc.unfreeze()
    floor = min(plain for samples in pairs.values() for plain, _ in samples)
    return {
        key: Cost(
            bare=floor,
            best=min(guarded for _, guarded in samples),
            added_median=statistics.median(guarded - plain for plain, guarded in samples),
            ratio_median=statistics.median(guarded / plain for plain, guarded in samples),
        )
        for key, samples in pairs.items()
    }


async def _calibrated(loop: Loop, effort: Effort) -> int:
    # Once to warm up: the first calls are made by bytecode that has not been specialised yet.
    await _spent(loop, 20)
    return max(10, min(50_000, int(effort.seconds / await _spent(loop, 100))))


async def _spent(loop: Loop, calls: int) -> float:
    begun = time.process_time()
    running = loop(calls)
    if running is not None:
        await running
        # What it left to the event loop to do is part of its price.
        await asyncio.sleep(0)
    # Never nothing: a clock that is too coarse for a short loop must not divide anybody by zero.
    return max(time.process_time() - begun, 1e-9) / calls
