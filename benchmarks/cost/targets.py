"""What shoal sets out to cost. Printed beside the figures, never a reason to fail: machines and neighbours differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import guards
from .contenders import Contender
from .memory import Weight
from .operations import ASYNC, REJECTED, SYNC, Costs

INTERLOCK = "interlock-cb"
PAIR = "stamina + circuitbreaker"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """*met* is None where what it compares with was not there."""

    what: str
    wanted: str
    measured: str
    met: bool | None


def targets(costs: Mapping[str, Costs], weights: Mapping[Contender, Weight]) -> list[Target]:
    """All targets, from costs by the operation's title and from weights."""
    sync, at_once, rejected = costs[SYNC.title], costs[ASYNC.title], costs[REJECTED.title]
    weight = weights[guards.REJECTED]
    return [
        _at_most("sync call", sync[guards.DECORATOR].ratio, 20, "bare calls"),
        _at_most("async call without a deadline", at_once[guards.NO_DEADLINE].ratio, 10, "bare awaits"),
        _at_most("async call with a deadline", at_once[guards.WITH_TIMEOUT].ratio, 20, "bare awaits"),
        _at_most("rejection", rejected[guards.REJECTED].ratio, 50, "bare calls"),
        _at_most("guard, freshly made", weight.fresh, 1600, "bytes"),
        _at_most("guard, with a function decorated and called", weight.used, 1600, "bytes"),
        _cheaper("sync", sync, guards.DECORATOR, Contender(INTERLOCK, "retry, breaker, bulkhead"), 10),
        _cheaper("async", at_once, guards.WITH_TIMEOUT, Contender(INTERLOCK, "retry, breaker, bulkhead, timeout"), 10),
        _cheaper("sync", sync, guards.DECORATOR, Contender(PAIR, "retry, breaker"), 20),
        _cheaper("async", at_once, guards.NO_DEADLINE, Contender(PAIR, "retry, breaker"), 20),
    ]


def _at_most(what: str, measured: float, wanted: float, unit: str) -> Target:
    figure = f"{measured:.0f}" if measured >= 100 else f"{measured:.1f}"
    return Target(what=what, wanted=f"at most {wanted:g} {unit}", measured=figure, met=measured <= wanted)


def _cheaper(kind: str, costs: Costs, own: Contender, peer: Contender, wanted: int) -> Target:
    what = f"{kind}, against {peer.library}: {peer.policies}"
    if peer not in costs:
        return Target(what=what, wanted=f"{wanted} times cheaper", measured="not installed", met=None)
    times = costs[peer].added / costs[own].added
    return Target(what=what, wanted=f"{wanted} times cheaper", measured=f"{times:.1f}", met=times >= wanted)
