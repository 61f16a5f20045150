"""What is timed: five kinds of calls, and a crowd of guards."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import shoal
from benchmarks.libraries import Library, Make

from . import guards
from .contenders import (
    SETTINGS,
    Contender,
    async_peers,
    rejecting_async_peers,
    rejecting_sync_peers,
    sync_peers,
)
from .loops import Loop, awaiting, calling, calling_many, nothing, nothing_async, one_wait
from .timing import Cost, Effort, time_in_turns

Costs: TypeAlias = dict[Contender, Cost]


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """*prepare* makes the loops; *reference* is shoal's line that a peer with these policies is compared with."""

    title: str
    bare: Loop
    prepare: Callable[[Mapping[str, Library]], dict[Contender, Loop]]
    reference: Callable[[str], Contender]


def _with_or_without_deadline(policies: str) -> Contender:
    return guards.WITH_TIMEOUT if "timeout" in policies else guards.NO_DEADLINE


SYNC = Operation(
    title="Sync, accepted",
    bare=calling(nothing),
    prepare=lambda libraries: guards.sync_guards() | sync_peers(libraries, nothing),
    reference=lambda _: guards.DECORATOR,
)
ASYNC = Operation(
    title="Async, accepted, returns at once",
    bare=awaiting(nothing_async),
    prepare=lambda libraries: guards.async_guards(nothing_async) | async_peers(libraries, nothing_async),
    reference=_with_or_without_deadline,
)
ASYNC_WAITS = Operation(
    title="Async, accepted, waits once",
    bare=awaiting(one_wait),
    prepare=lambda libraries: guards.async_guards(one_wait) | async_peers(libraries, one_wait),
    reference=_with_or_without_deadline,
)
REJECTED = Operation(
    title="Sync, rejected by an open breaker",
    bare=calling(nothing),
    prepare=lambda libraries: guards.rejecting_guards() | rejecting_sync_peers(libraries),
    reference=lambda _: guards.REJECTED,
)
ASYNC_REJECTED = Operation(
    title="Async, rejected by an open breaker",
    bare=awaiting(nothing_async),
    prepare=lambda libraries: guards.rejecting_async_guards() | rejecting_async_peers(libraries),
    reference=lambda _: guards.REJECTED,
)
OPERATIONS = (SYNC, ASYNC, ASYNC_WAITS, REJECTED, ASYNC_REJECTED)


async def measure(operation: Operation, libraries: Mapping[str, Library], effort: Effort) -> Costs:
    """What each contender costs at one operation."""
    return await time_in_turns(operation.bare, operation.prepare(libraries), effort)


# Of which there is one guard, and then ten thousand.
CROWDS = (("circuitbreaker", "breaker"), ("interlock", "breaker"), ("interlock", "retry, breaker, bulkhead"))


def _guarded(make: Make) -> Callable[[], Any]:
    return make(SETTINGS)(nothing)


async def measure_crowds(libraries: Mapping[str, Library], effort: Effort) -> Costs:
    """What a call costs with one guard, and with many called in random order, whose memory is in no cache.

    Nothing else: a guard that has not been called for a second moves its windows on, which is a line of its own.
    """
    crowds: dict[tuple[str, str], Callable[[], Any]] = {
        ("shoal", "all policies"): lambda: shoal.Guard("bench", timeout=1.0)(nothing)
    }
    for module, policies in CROWDS:
        if module in libraries:
            make = libraries[module].sync[policies]
            crowds[libraries[module].name, policies] = functools.partial(_guarded, make)
    loops: dict[Contender, Loop] = {}
    for (name, policies), guarded in crowds.items():
        many = [guarded() for _ in range(effort.guards)]
        random.Random(1).shuffle(many)
        loops[Contender(name, f"{policies}, one guard")] = calling_many(many[:1])
        loops[Contender(name, f"{policies}, {effort.guards} guards")] = calling_many(many)
    return await time_in_turns(calling_many([nothing]), loops, effort, calls=effort.guards, twice=True)
