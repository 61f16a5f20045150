"""The shape of a run's JSON document, as types; `schemas/lab-run.schema.json` says the same to other languages.

Every moment is in wall seconds since the step's load began, every duration in wall seconds, every share from 0 to 1.
"""

from __future__ import annotations

from typing import TypedDict

from shoal_lab.record import Phase

SCHEMA_VERSION = 1


class Answer(TypedDict):
    """One kind of answer customers read: the first of its kind verbatim, and how many were like it."""

    status: int | None
    """HTTP status; `None` when no HTTP answer came."""
    body: str
    """At most `answers.KEPT` characters of the first body of this kind."""
    characters: int
    """How long that first body really was."""
    count: int


class Series(TypedDict):
    """One journey over time, in bins of half a second."""

    t: list[float]
    """When each bin begins."""
    availability: list[float | None]
    """`None` where nothing was sent."""
    p99_s: list[float | None]


class JourneyReport(TypedDict):
    """What one journey's customers got."""

    availability: dict[Phase, float | None]
    p50_s: dict[Phase, float | None]
    p99_s: dict[Phase, float | None]
    answers: list[Answer]
    sent: dict[Phase, int]
    seen_by_pods: dict[Phase, int | None]
    """Requests the pods' own counters saw; `None` when no pod's counters could be read at all."""
    outcomes: dict[Phase, dict[str, int]]
    causes: dict[Phase, dict[str, int]]
    series: Series
    time_to_outage_s: float | None
    seconds_of_outage: float
    time_to_recover_s: float | None


class ServiceReport(TypedDict):
    """What the platform made of one service's pods."""

    replicas: int
    min_ready: int | None
    """`None` when nobody watched its endpoints."""
    restarts: int
    seconds_without_endpoints: float
    ready: list[tuple[float, int]]


class Calls(TypedDict):
    """A service's calls to one dependency in one phase."""

    calls: int
    attempts: int
    retries: int
    failures: int


class EventReport(TypedDict):
    """Something that happened to the platform."""

    t: float
    kind: str
    service: str
    pod: str
    detail: str


class StepReport(TypedDict):
    """One step of the ladder."""

    adds: str
    fault_at_s: float
    repair_at_s: float
    ended_s: float
    journeys: dict[str, JourneyReport]
    services: dict[str, ServiceReport]
    dependencies: dict[str, dict[str, dict[Phase, Calls]]]
    time_to_total_outage_s: float | None
    seconds_of_total_outage: float
    time_to_recover_s: float | None
    retries_per_call: float | None
    """`None` when no call was counted during the fault."""
    consumer_lag: dict[Phase, int]
    events: list[EventReport]


class Report(TypedDict):
    """One run of the lab: one scenario under several steps."""

    schema_version: int
    scenario: str
    title: str
    story: str
    fault: str
    """The fault as a clause, as in "2.6 s after *auth's database failed*"."""
    when: str
    time_scale: float
    seed: int
    source: str
    options: list[str]
    parts: dict[str, str]
    steps: dict[str, StepReport]
