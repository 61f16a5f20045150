"""What one run of the company left behind: samples, events, readings. Plain data, no judgement (that is `report`).

Every moment is in wall seconds since the step's load began; every duration in wall seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["before", "during", "after"]
PHASES: tuple[Phase, ...] = ("before", "during", "after")


@dataclass(frozen=True, slots=True)
class Sample:
    """One request a customer sent, and what came of it.

    *at* is the moment the request was due (open loop), and *latency* counts from there, so a generator that
    runs late cannot hide a slow answer (coordinated omission). *status* is `None` when no HTTP answer came;
    *error* then says why (`timeout`, `refused`, `reset`).
    """

    journey: str
    at: float
    latency: float
    status: int | None
    body: str = ""
    error: str = ""

    @property
    def ok(self) -> bool:
        """The customer got what was asked for: any 2xx, stale or not."""
        return self.status is not None and 200 <= self.status < 300


EventKind = Literal[
    "fault",
    "repair",
    "ready",
    "unready",
    "restart",
    "started",
    "killed",
    "rollout",
    "rollout-complete",
    "rollout-stalled",
]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the platform. *pod* is `wallet/0`, or empty for a service-wide event."""

    at: float
    kind: EventKind
    service: str
    pod: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ReadyCount:
    """From *at* on, *ready* endpoints of a service were in the load balancer."""

    at: float
    ready: int


@dataclass(frozen=True, slots=True)
class JourneyCount:
    """What all pods of a service counted for one journey in one phase, from their own /metrics."""

    phase: Phase
    journey: str
    outcome: str
    cause: str
    count: int


@dataclass(frozen=True, slots=True)
class DependencyCount:
    """What all pods of *service* counted for one of its dependencies in one phase."""

    phase: Phase
    service: str
    dependency: str
    calls: int
    attempts: int
    retries: int
    failures: int
    """Calls that failed for good, rejections included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """Everything measured while the company ran under one step of the ladder."""

    step: str
    started: float
    """When measuring began; always 0."""
    fault_at: float
    repair_at: float
    ended: float
    samples: Sequence[Sample]
    events: Sequence[Event]
    replicas: Mapping[str, int]
    """Replicas wanted of each service."""
    ready: Mapping[str, Sequence[ReadyCount]]
    """Per service, the ready endpoints as steps in time; the first reading is at or before 0."""
    journeys: Sequence[JourneyCount] = field(default_factory=tuple)
    dependencies: Sequence[DependencyCount] = field(default_factory=tuple)
    consumer_lag: Mapping[Phase, int] = field(default_factory=dict)
    """Events emitted and not yet consumed by `activity`, at the end of each phase."""

    def phase_of(self, at: float) -> Phase:
        """The phase a moment belongs to."""
        if at < self.fault_at:
            return "before"
        return "during" if at < self.repair_at else "after"

    def phase_of_sample(self, sample: Sample) -> Phase:
        """The phase a request belongs to: that in which it was due, except that the fault has what it struck in flight.

        Otherwise a request that was due a moment before would count against the time when nothing was wrong.
        """
        if sample.at < self.fault_at < sample.at + sample.latency:
            return "during"
        return self.phase_of(sample.at)

    def bounds(self, phase: Phase) -> tuple[float, float]:
        """First and last moment of a phase."""
        return {
            "before": (self.started, self.fault_at),
            "during": (self.fault_at, self.repair_at),
            "after": (self.repair_at, self.ended),
        }[phase]
