"""Synthetic steps: what a run would have left behind, made up so that every figure can be reckoned by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shoal_lab.record import (
    DependencyCount,
    Event,
    JourneyCount,
    Phase,
    ReadyCount,
    Sample,
    StepRecord,
)
from shoal_lab.report import Report, build_report
from shoal_lab.scenario.model import Edge, EdgeFault, Scenario

# At t = 10 s auth's database goes down, at 30 s it is repaired, at 45 s the run ends. Requests come evenly.
FAULT, REPAIR, END = 10.0, 30.0, 45.0
RATES = {"view-balance": 20, "lock-account": 8, "fees": 10}
REPLICAS = {"wallet": 3, "auth": 3, "balance": 3, "activity": 3}

Answer = Callable[[str, float], Sample]


def good(journey: str, at: float, *, stale: bool = False) -> Sample:
    """The answer customers hope for."""
    mark = ', "stale": true' if stale else ""
    body = {
        "view-balance": f'{{"balance": {at * 7:.2f}, "currency": "EUR"{mark}}}',
        "lock-account": '{"locked": true}',
        "fees": '{"transfer": 0.25, "card": 1.5}',
    }[journey]
    return Sample(journey, at, 0.012, 200, body)


def bad(journey: str, at: float, status: int | None, body: str, *, latency: float = 0.004) -> Sample:
    """An answer that is none: *body* is the error when no HTTP answer came."""
    if status is None:
        return Sample(journey, at, latency, None, error=body)
    return Sample(journey, at, latency, status, body)


def requests(answer: Answer, rates: Mapping[str, int] = RATES, *, start: float = 0.0, end: float = END) -> list[Sample]:
    """Every journey's requests, evenly spaced, each answered by *answer*."""
    return [
        answer(journey, round(start + number / rate, 4))
        for journey, rate in rates.items()
        for number in range(int((end - start) * rate))
    ]


def counted(samples: Sequence[Sample], record: StepRecord, *, seen: Callable[[Sample], bool]) -> list[JourneyCount]:
    """What the pods' counters would say of the samples they saw: failures put down to auth."""
    counts: dict[tuple[Phase, str, str, str], int] = {}
    for sample in samples:
        if seen(sample):
            outcome = ("degraded" if "stale" in sample.body else "ok") if sample.ok else "failed"
            cause = "none" if outcome == "ok" else "auth"
            key = (record.phase_of(sample.at), sample.journey, outcome, cause)
            counts[key] = counts.get(key, 0) + 1
    return [JourneyCount(*key, count) for key, count in counts.items()]


def plain(step: str, answer: Answer) -> StepRecord:
    """A step in which every service keeps its endpoints."""
    record = StepRecord(
        step=step,
        started=0.0,
        fault_at=FAULT,
        repair_at=REPAIR,
        ended=END,
        samples=requests(answer),
        events=(Event(FAULT, "fault", "auth", detail="auth -> database down"), Event(REPAIR, "repair", "auth")),
        replicas=REPLICAS,
        ready={service: (ReadyCount(-1.0, 3),) for service in REPLICAS},
        dependencies=(
            DependencyCount("before", "wallet", "auth", 280, 280, 0, 0),
            DependencyCount("during", "wallet", "auth", 560, 560, 0, 560),
            DependencyCount("after", "wallet", "auth", 420, 420, 0, 8),
            DependencyCount("during", "wallet", "balance", 0, 0, 0, 0),
        ),
        consumer_lag={"before": 0, "during": 0, "after": 0},
    )
    return replace(record, journeys=counted(record.samples, record, seen=lambda sample: True))


def deep_like() -> StepRecord:
    """Everything leaves the load balancers 2.6 s after the fault and returns 2.2 s after the repair."""
    dark, back = FAULT + 2.6, REPAIR + 2.2

    def answer(journey: str, at: float) -> Sample:
        if dark <= at < back:
            return bad(journey, at, 503, "no healthy upstream")
        if FAULT <= at < dark and journey != "fees":
            return bad(journey, at, 500, f'{{"error": "auth: connection refused", "request": "{int(at * 1e7):016x}"}}')
        return good(journey, at)

    record = plain("deep", answer)
    gone = {
        "auth": (FAULT + 2.0, REPAIR + 1.0),
        "wallet": (dark, back),
        "balance": (FAULT + 2.3, REPAIR + 1.7),
        "activity": (dark, back),
    }
    return replace(
        record,
        ready={
            service: (
                ReadyCount(-3.0, 0),
                ReadyCount(-0.4, 3),
                ReadyCount(round(away - 0.5, 3), 1),
                ReadyCount(round(away, 3), 0),
                ReadyCount(round(home, 3), 1),
                ReadyCount(round(home + 0.4, 3), 3),
            )
            for service, (away, home) in gone.items()
        },
        journeys=counted(record.samples, record, seen=lambda sample: sample.body != "no healthy upstream"),
        consumer_lag={"before": 3, "during": 41, "after": 0},
    )


def shallow_like() -> StepRecord:
    """Pods stay; who needs auth gets a 5xx that is counted, slowly; fees go on."""

    def answer(journey: str, at: float) -> Sample:
        if journey != "fees" and FAULT <= at < REPAIR + 0.5:
            if int(at * 10) % 7 == 0:
                return bad(journey, at, None, "timeout", latency=5.0)
            return bad(journey, at, 502, '{"error": "auth answered 500", "dependency": "auth"}', latency=0.52)
        return good(journey, at)

    return plain("shallow", answer)


def guarded_like() -> StepRecord:
    """As shallow, but fast, with retries, and one pod of wallet restarted along the way."""

    def answer(journey: str, at: float) -> Sample:
        if journey != "fees" and FAULT <= at < REPAIR + 1.0:
            return bad(journey, at, 503, '{"error": "auth: breaker is open, next trial call in 1.3 s"}', latency=0.003)
        return good(journey, at)

    record = plain("guarded", answer)
    return replace(
        record,
        events=(*record.events, Event(16.0, "restart", "wallet", "wallet/1", "liveness")),
        ready={**record.ready, "wallet": (ReadyCount(0.0, 3), ReadyCount(16.0, 2), ReadyCount(18.5, 3))},
        dependencies=(DependencyCount("during", "wallet", "auth", 560, 616, 56, 560),),
    )


def cached_like() -> StepRecord:
    """The last good balance serves most customers; the account lock does not get by without auth."""

    def answer(journey: str, at: float) -> Sample:
        if FAULT <= at < REPAIR:
            if journey == "lock-account":
                return bad(journey, at, 503, '{"error": "auth: breaker is open, next trial call in 0.8 s"}')
            if journey == "view-balance":
                newcomer = round(at * 20) % 25 == 0
                return bad(journey, at, 503, "no last good answer") if newcomer else good(journey, at, stale=True)
        return good(journey, at)

    return plain("cached", answer)


def healthy_like() -> StepRecord:
    """Nothing happens to anybody."""
    return plain("stateless-auth", good)


def split_like() -> StepRecord:
    """Nothing happens to anybody, and the lock is a service of its own."""
    record = plain("split", good)
    return replace(
        record,
        replicas={**record.replicas, "locks": 2},
        ready={**record.ready, "locks": (ReadyCount(0.0, 2),)},
    )


MADE = {
    "deep": deep_like,
    "shallow": shallow_like,
    "guarded": guarded_like,
    "cached": cached_like,
    "stateless-auth": healthy_like,
    "split": split_like,
}

SCENARIO = Scenario(
    name="auth-outage",
    title="Auth loses its database",
    story=(
        "Auth checks every customer's token, and keeps its tokens in a database. The database goes down for 200 s. "
        "Wallet, balance and activity are in perfect order, and the public fee table needs nobody."
    ),
    edge_faults=(EdgeFault(edges=(Edge("auth", "database"),), kind="down"),),
    rates={journey: float(rate) for journey, rate in RATES.items()},
)

PARTS = {"python": "3.11.2", "postgresql": "15.9 (Debian)", "kafka": "librdkafka 2.16.1, in-memory", "envoy": "1.40.0"}


@pytest.fixture(scope="session")
def made_step() -> Callable[[str], StepRecord]:
    """A synthetic record of the step of that name."""
    return lambda name: MADE[name]()


@pytest.fixture(scope="session")
def made_report() -> Callable[..., Report]:
    """The document of a synthetic run, of steps by name or of records given as they are."""

    def make(*steps: str | StepRecord, scenario: Scenario = SCENARIO, time_scale: float = 10.0) -> Report:
        records = [MADE[step]() if isinstance(step, str) else step for step in steps]
        when = datetime(2026, 11, 24, 15, 4, 5, tzinfo=UTC)
        return build_report(records, scenario, seed=1, time_scale=time_scale, parts=PARTS, when=when)

    return make


@pytest.fixture(scope="session")
def scenario() -> Scenario:
    """The outage of auth's database, with rates as the synthetic records have them."""
    return SCENARIO


@pytest.fixture(scope="session")
def make_plain() -> Callable[[str, Answer], StepRecord]:
    """A step in which every service keeps its endpoints and *answer* says what customers get."""
    return plain
