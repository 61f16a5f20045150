"""Reads what the pods themselves counted, from their own /metrics, and adds it up by phase.

A pod that restarts begins at 0 again, so each life of a pod is kept apart and its last reading stands.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from shoal_lab.record import PHASES, DependencyCount, JourneyCount, Phase

JOURNEYS = "shoal_journey_requests_total"
CALLS = "shoal_dependency_calls_total"
ATTEMPTS = "shoal_dependency_attempts_total"
RETRIES = "shoal_dependency_retries_total"
_WANTED = (JOURNEYS, CALLS, ATTEMPTS, RETRIES)
# The contract's definition of a call that failed for good.
FINAL_FAILURES = frozenset({"exhausted", "non_retryable", "timeout", "rejected"})

Series = tuple[str, str, tuple[tuple[str, str], ...]]
"""Service, metric, sorted labels."""


@dataclass(frozen=True, slots=True)
class Life:
    """One process of one pod."""

    service: str
    pod: str
    pid: int
    address: tuple[str, int]


class PodCounters:
    """The last reading of every life of every pod."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._texts: dict[Life, str] = {}

    async def read(self, lives: Iterable[Life]) -> None:
        """Read all of them at once. A pod that does not answer keeps its last reading."""
        await asyncio.gather(*(self._read(life) for life in lives))

    async def _read(self, life: Life) -> None:
        host, port = life.address
        try:
            async with self._session.get(
                f"http://{host}:{port}/metrics", timeout=aiohttp.ClientTimeout(total=2)
            ) as answer:
                if answer.status == 200:
                    self._texts[life] = await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            pass

    def totals(self) -> Counter[Series]:
        """What all pods of each service have counted so far."""
        totals: Counter[Series] = Counter()
        for life, text in self._texts.items():
            lines = [line for line in text.splitlines() if line.startswith(_WANTED)]
            for family in text_string_to_metric_families("\n".join(lines) + "\n"):
                for sample in family.samples:
                    totals[(life.service, sample.name, tuple(sorted(sample.labels.items())))] += int(sample.value)
        return totals


def by_phase(readings: Sequence[Counter[Series]]) -> dict[Phase, Counter[Series]]:
    """Totals at the begin and at the end of each phase -> what was counted within each."""
    return {
        phase: Counter({key: count - earlier[key] for key, count in later.items() if count != earlier[key]})
        for phase, (earlier, later) in zip(PHASES, pairwise(readings), strict=True)
    }


def journey_counts(phases: Mapping[Phase, Counter[Series]], journeys: Iterable[str]) -> list[JourneyCount]:
    """The requests of the journeys at the edge, by outcome and cause."""
    wanted = set(journeys)
    return [
        JourneyCount(phase, labels["journey"], labels["outcome"], labels["cause"], count)
        for phase, counts in phases.items()
        for (_, metric, pairs), count in counts.items()
        if metric == JOURNEYS and (labels := dict(pairs))["journey"] in wanted
    ]


def dependency_counts(phases: Mapping[Phase, Counter[Series]]) -> list[DependencyCount]:
    """Calls, attempts, retries and final failures of each service's dependencies."""
    result = []
    for phase, counts in phases.items():
        sums: dict[tuple[str, str], Counter[str]] = {}
        for (service, metric, pairs), count in counts.items():
            labels = dict(pairs)
            if metric == JOURNEYS:
                continue
            edge = sums.setdefault((service, labels["dependency"]), Counter())
            edge[metric] += count
            if metric == CALLS and labels["outcome"] in FINAL_FAILURES:
                edge["failures"] += count
        result += [
            DependencyCount(phase, service, dependency, edge[CALLS], edge[ATTEMPTS], edge[RETRIES], edge["failures"])
            for (service, dependency), edge in sorted(sums.items())
        ]
    return result
