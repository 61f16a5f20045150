"""What a run is told, and what it hands back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from shoal_lab.ladder import Step
from shoal_lab.record import StepRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How to run a scenario."""

    steps: tuple[Step, ...]
    dsn: str | None = None
    """A PostgreSQL to use; `None`: one of our own."""
    kafka: str | None = None
    """HOST:PORT of a Kafka to use; `None`: the embedded broker."""
    rate: float | None = None
    """Requests per second in all; `None`: the scenario's own."""
    seed: int = 1
    time_scale: float = 10.0
    """Platform seconds in one real second."""
    edge_port: int | None = None
    keep: bool = False
    """Keep the run directory with the logs."""

    def wall(self, platform_seconds: float) -> float:
        """Real seconds for a duration of the platform."""
        return platform_seconds / self.time_scale


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a run left behind."""

    records: Sequence[StepRecord]
    parts: Mapping[str, str]
    """The real parts it ran on, by name, with their versions."""


class Progress(Protocol):
    """Whoever wants to know how far a run is."""

    def note(self, text: str) -> None:
        """Something worth a line of its own has happened."""

    def doing(self, text: str, *, seconds: float | None = None) -> None:
        """What is going on from now on, and how long it will take if that is known."""

    def advance(self, seconds: float) -> None:
        """Some of it is done."""
