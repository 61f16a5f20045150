"""Costs, weights and targets as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.report.table import table

from .contenders import Contender
from .memory import Weight
from .operations import OPERATIONS, Costs, Operation
from .targets import Target
from .timing import Effort

_READING = (
    "CPU time, best and median of {rounds} rounds, each loop in turns with the bare one. *Added* is what a call costs "
    "above the bare call, in nanoseconds; *ratio* is the whole of it in bare calls. *Of shoal's* says how many times "
    "shoal's addition, with all its policies, the peer's is: sync as a decorator, async with or without a deadline, as "
    "the peer has one or not. Targets are judged by the best."
)

_VERDICTS = {True: "met", False: "**missed**", None: "-"}


def body(
    costs: Mapping[str, Costs],
    crowds: Costs,
    weights: Mapping[Contender, Weight],
    wanted: Sequence[Target],
    effort: Effort,
) -> str:
    """All tables, the targets first."""
    parts = [_READING.format(rounds=effort.rounds), "## Targets", target_table(wanted)]
    for operation in OPERATIONS:
        parts += [f"## {operation.title}", cost_table(operation, costs[operation.title])]
    parts += [
        f"## {_thousands(effort.guards)} guards, called in random order",
        "One guard stays in the processor's caches; of many, each call has to fetch its own from memory.",
        crowd_table(crowds),
        "## Memory",
        f"Bytes a guard, traced for {_thousands(effort.guards)} guards; the name not counted.",
        weight_table(weights),
    ]
    return "\n\n".join(parts)


def target_table(wanted: Sequence[Target]) -> str:
    """Figures beside what they should be."""
    rows = [[target.what, target.wanted, target.measured, _VERDICTS[target.met]] for target in wanted]
    return table(["", "target", "measured", ""], rows)


def cost_table(operation: Operation, costs: Costs) -> str:
    """One operation: each contender, and how much cheaper shoal is."""
    bare = min(cost.bare for cost in costs.values())
    head = ["", "added", "median", "ratio", "median", "of shoal's"]
    rows = []
    for contender, cost in costs.items():
        own = costs[operation.reference(contender.policies)]
        times = "" if contender.library == "shoal" else f"{cost.added / own.added:.1f}"
        added, ratio = _figures(cost.added, cost.added_median), _ratios(cost.ratio, cost.ratio_median)
        rows.append([_name(contender), *added, *ratio, times])
    return f"Bare: {bare * 1e9:.0f} ns, ratio 1.\n\n{table(head, rows, numbers=True)}"


def crowd_table(costs: Costs) -> str:
    """One guard and many."""
    rows = [[_name(contender), *_figures(cost.added, cost.added_median)] for contender, cost in costs.items()]
    return table(["", "added", "median"], rows, numbers=True)


def weight_table(weights: Mapping[Contender, Weight]) -> str:
    """Memory of each."""
    rows = [[_name(contender), f"{weight.fresh:.0f}", f"{weight.used:.0f}"] for contender, weight in weights.items()]
    return table(["", "fresh", "decorated and called"], rows, numbers=True)


def _thousands(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _name(contender: Contender) -> str:
    return f"{contender.library}: {contender.policies}"


def _figures(*seconds: float) -> list[str]:
    return [f"{second * 1e9:.0f}" for second in seconds]


def _ratios(*ratios: float) -> list[str]:
    return [f"{ratio:.1f}" for ratio in ratios]
