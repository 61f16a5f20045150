"""What a guard weighs: bytes traced for ten thousand of them."""

from __future__ import annotations

import functools
import gc
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import shoal
from benchmarks.libraries import Library

from .contenders import SETTINGS, Contender
from .guards import REJECTED as SHOAL
from .loops import nothing

WEIGHED = (
    ("circuitbreaker", "breaker"),
    ("stamina_circuitbreaker", "retry, breaker"),
    ("pybreaker", "breaker"),
    ("pyresilience", "retry, breaker, bulkhead"),
    ("interlock", "breaker"),
    ("interlock", "retry, breaker, bulkhead"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Weight:
    """Bytes a guard: *fresh* as it was made, *used* with one function decorated and called once. Names not counted."""

    fresh: float
    used: float


def weigh_all(libraries: Mapping[str, Library], *, guards: int) -> dict[Contender, Weight]:
    """shoal's guard, and those of its peers that are an object of their own."""
    weights = {SHOAL: weigh(lambda: shoal.Guard("bench", timeout=1.0), guards=guards)}
    for module, policies in WEIGHED:
        if module in libraries:
            make = libraries[module].sync[policies]
            weights[Contender(libraries[module].name, policies)] = weigh(
                functools.partial(make, SETTINGS), guards=guards
            )
    return weights


def weigh(make: Callable[[], Callable[..., Any]], *, guards: int) -> Weight:
    """What so many guards hold, divided by their number. They decorate the function `nothing`."""
    # What is made once for all of them is not theirs.
    make()(nothing)()
    made: list[Any] = [None] * guards
    decorated: list[Any] = [None] * guards
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(guards):
            made[number] = make()
        gc.collect()
        fresh, _ = tracemalloc.get_traced_memory()
        for number, guard in enumerate(made):
            decorated[number] = guard(nothing)
            decorated[number]()
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return Weight(fresh=fresh / guards, used=used / guards)
