"""The comparison as a page: what happened, and what would have been correct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.libraries import Library
from benchmarks.report.table import table

from .catalogue import SCENARIOS
from .run import Results
from .scenario import Verdict

_READING = (
    "Threshold of three failures, open for 0.3 s, one trial permitted where that can be set. In bold: what happened "
    "instead of what is correct. `-`: the library has nothing to try it on."
)


def body(libraries: Mapping[str, Library], results: Results, names: Sequence[str] = tuple(SCENARIOS)) -> str:
    """Both tables, and how to read them."""
    head = ["", *(library.name for library in libraries.values())]
    rows = [[name, *(_cell(results[module, name]) for module in libraries)] for name in names]
    failed = [
        str(sum(results[module, name].ok is False for name in names))
        + f" of {sum(results[module, name].ok is not None for name in names)}"
        for module in libraries
    ]
    explained = [[name, SCENARIOS[name].situation, SCENARIOS[name].correct] for name in names]
    return "\n\n".join(
        [
            _READING,
            table(head, [*rows, ["wrong", *failed]]),
            table(["", "situation", "correct"], explained),
        ]
    )


def _cell(verdict: Verdict) -> str:
    return f"**{verdict.words}**" if verdict.ok is False else verdict.words
