"""All costs in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.libraries import Library

from .memory import weigh_all
from .operations import OPERATIONS, measure, measure_crowds
from .report import body
from .targets import targets
from .timing import Effort


async def run(
    libraries: Mapping[str, Library], effort: Effort, *, progress: Callable[[str], None] = lambda _: None
) -> str:
    """Measure everything, and return it as the body of a page."""
    costs = {}
    for operation in OPERATIONS:
        progress(operation.title)
        costs[operation.title] = await measure(operation, libraries, effort)
    progress("many guards")
    crowds = await measure_crowds(libraries, effort)
    progress("memory")
    weights = weigh_all(libraries, guards=effort.guards)
    return body(costs, crowds, weights, targets(costs, weights), effort)
