"""A scenario: what is done to the company, and when. Plain data; `load` reads it from a file.

All moments and durations are in platform seconds (see `time_scale`), except latencies, which are real.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

FaultKind = Literal["down", "hang", "slow", "errors"]
PodAction = Literal["kill", "block-loop", "stop-consumer"]


@dataclass(frozen=True, slots=True)
class Edge:
    """A caller's way to one of its dependencies; *replica* narrows it to one pod of the caller."""

    caller: str
    dependency: str
    replica: int | None = None

    def __str__(self) -> str:
        who = self.caller if self.replica is None else f"{self.caller}/{self.replica}"
        return f"{who} -> {self.dependency}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeFault:
    """A fault on the network between a caller and its dependency.

    *edges* lists where it strikes; edges that do not exist under a step of the ladder are passed over there
    (the account lock's database belongs to `wallet`, and to `locks` once that is split off).
    """

    edges: tuple[Edge, ...]
    kind: FaultKind
    latency: float = 0.0
    """`slow`: seconds added to each answer (real seconds)."""
    share: float = 1.0
    """`errors`: share of requests answered with 503, above 0 and at most 1."""
    at: float = 0.0
    """Platform seconds after the fault phase begins."""
    lasts: float | None = None
    """Platform seconds; `None` means to the end of the fault phase."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFault:
    """Something done to one replica."""

    action: PodAction
    service: str
    replica: int
    at: float = 0.0
    lasts: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A new version of a service is rolled out in which the address of a dependency is wrong; repair rolls it back.

    *edges* says whose and which; as with faults, edges that do not exist under a step are passed over there.
    """

    edges: tuple[Edge, ...]
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """How long each phase lasts, in platform seconds."""

    before: float = 100.0
    during: float = 200.0
    after: float = 150.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is done to the company."""

    name: str
    title: str
    story: str
    phases: Phases = field(default_factory=Phases)
    edge_faults: tuple[EdgeFault, ...] = ()
    pod_faults: tuple[PodFault, ...] = ()
    rollouts: tuple[Rollout, ...] = ()
    rates: Mapping[str, float] = field(
        default_factory=lambda: {"view-balance": 30.0, "lock-account": 8.0, "fees": 12.0}
    )
    """Requests per (real) second and journey."""
    customers: int = 60
    newcomers: float = 0.05
    """Share of requests by customers nobody has seen before."""
    source: str = ""
    """What `shoal lab run` is given to run it: its name, or the path of its file."""
