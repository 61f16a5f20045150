"""Which metrics there are, and where their numbers are read at scrape time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from .cells import Cells
from .family import Family
from .histogram import LATENCY_BUCKETS, Histogram

log = logging.getLogger(__name__)

Source = Callable[[], Iterable[tuple[tuple[str, ...], float]]]
"""Yields label values, in the order of the family's label names, with the number they have now."""


class Sample(NamedTuple):
    """One line of a scrape."""

    suffix: str
    labels: tuple[tuple[str, str], ...]
    value: float


class Registry:
    """The metrics of one service.

    Numbers are not handed in: each family has a source that is asked when somebody scrapes, so that counting costs
    what adding to an integer costs.

    >>> registry = Registry()
    >>> registry.source(Family("queue_length", "gauge", "Jobs waiting.", ("queue",)), lambda: [(("mail",), 3)])
    >>> [(family.name, samples) for family, samples in registry.collect()]
    [('queue_length', [Sample(suffix='', labels=(('queue', 'mail'),), value=3)])]
    """

    __slots__ = ("_families",)

    def __init__(self) -> None:
        self._families: dict[str, tuple[Family, Callable[[], Iterable[Sample]]]] = {}

    def source(self, family: Family, fn: Source) -> None:
        """Read *family* from *fn* at each scrape.

        *fn* is called on the thread that scrapes: let it read memory and nothing else. A source that raises leaves its
        family out of that scrape. Raises ValueError when the name is taken or the family is a histogram.
        """
        if family.kind == "histogram":
            raise ValueError(f"{family.name}: a histogram is made by Registry.histogram")

        def read() -> Iterator[Sample]:
            for values, number in fn():
                yield Sample("", _pairs(family, values), number)

        self._add(family, read)

    def cells(self, family: Family, combinations: Iterable[tuple[str, ...]] = ()) -> Cells:
        """Counts of this family, with *combinations* of label values at 0. Raises ValueError when the name is taken."""
        cells = Cells(len(family.label_names), combinations)
        self.source(family, cells.samples)
        return cells

    def histogram(
        self,
        family: Family,
        combinations: Iterable[tuple[str, ...]] = (),
        *,
        buckets: tuple[float, ...] = LATENCY_BUCKETS,
    ) -> Histogram:
        """Durations of this family, with *combinations* of label values at 0.

        Raises ValueError when the name is taken or the family is no histogram.
        """
        if family.kind != "histogram":
            raise ValueError(f"{family.name} is declared as {family.kind}; declare it as histogram")
        histogram = Histogram(len(family.label_names), combinations, buckets=buckets)

        def read() -> Iterator[Sample]:
            for suffix, values, bound, number in histogram.samples():
                labels = _pairs(family, values)
                yield Sample(suffix, labels if bound is None else (*labels, ("le", _bound(bound))), number)

        self._add(family, read)
        return histogram

    def collect(self) -> Iterator[tuple[Family, list[Sample]]]:
        """Every family with what its source says now."""
        for family, read in list(self._families.values()):
            try:
                samples = list(read())
            except Exception:
                # One broken source must not take away the other numbers, of all times during an outage.
                log.exception("%s: its source failed, the scrape goes on without it", family.name)
                continue
            yield family, samples

    def _add(self, family: Family, read: Callable[[], Iterable[Sample]]) -> None:
        if family.name in self._families:
            raise ValueError(f"{family.name} is registered already; one source per family")
        self._families[family.name] = family, read


def _pairs(family: Family, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple(zip(family.label_names, values, strict=True))


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else repr(float(bound))
