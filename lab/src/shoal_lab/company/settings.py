"""What a pod is told at its start, as one JSON object in its environment, and the policies that follow from it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from shoal.guard import BreakerSettings, StaleAnswers
from shoal_lab.ladder import Remedies

VARIABLE = "SHOAL_LAB_POD"

# What a call waits where nobody thought about it: httpx waits 5 s; asyncpg waits for ever, which a minute stands for.
UNGUARDED_TIMEOUT = 5.0
UNGUARDED_QUERY = 60.0
# Platform seconds. shoal's default of 60 suits a dependency that is called now and then; what is called ten times a
# second by each pod is asked again sooner, since three trial calls every 15 s are no load, and customers wait for them.
LONGEST_OPEN = 15.0
# A pod serves so many requests at once, as twelve worker threads would; what is above is answered 503.
REQUESTS_AT_ONCE = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class PodSettings:
    """One replica of one service."""

    service: str
    pod: str
    app_port: int
    probe_port: int
    remedies: Remedies
    targets: Mapping[str, str] = field(default_factory=dict)
    """Address of each dependency by name: a URL for HTTP, a DSN for PostgreSQL, HOST:PORT for Kafka."""
    time_scale: float = 1.0
    """Platform seconds in one real second."""
    consumer_group: str = "activity"

    def to_environment(self) -> dict[str, str]:
        """The variable that carries these settings to the pod's process."""
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> PodSettings:
        """Read the settings back. Raises KeyError when the variable is missing."""
        values = json.loads(environment[VARIABLE])
        values["remedies"] = Remedies(**values["remedies"])
        return cls(**values)

    def platform(self, seconds: float) -> float:
        """Real seconds for a duration of the platform: outages, and so breaker pauses, run on its clock."""
        return seconds / self.time_scale

    def policies(self, *, timeout: float, careless: float = UNGUARDED_TIMEOUT, cached: bool = False) -> dict[str, Any]:
        """The guard's policies for one dependency, as keyword arguments of `shoal.Service.dependency`.

        *timeout* is the time one attempt gets where calls are guarded; *careless* what the client library would
        wait where they are not: one attempt, no budget, no breaker, only counters.
        """
        if not self.remedies.guarded:
            return {"timeout": careless, "attempts": 1, "budget": None, "breaker": None, "limit": None}
        usual = BreakerSettings()
        breaker = BreakerSettings(
            window=self.platform(usual.window),
            consecutive_over=self.platform(usual.consecutive_over),
            open_for=self.platform(usual.open_for),
            longest_open=self.platform(LONGEST_OPEN),
        )
        stale = StaleAnswers(max_age=3600.0, max_entries=10_000) if cached and self.remedies.cached else None
        return {"timeout": timeout, "breaker": breaker, "stale": stale}
