"""What a service counts itself: the requests of its journeys, and the answers it gave to probes."""

from __future__ import annotations

from shoal.metrics import Family, Registry

from .journey import Journey
from .outcome import Outcome

PROBES = ("startup", "liveness", "readiness")

# A refused request and a client's error take no time to speak of, and would make a slow service look quick.
_TIMED = ("ok", "degraded", "failed")

_REQUESTS = Family(
    "shoal_journey_requests_total",
    "counter",
    "Requests of a journey by how they ended and what a failure is put down to.",
    ("journey", "outcome", "cause"),
)
_DURATIONS = Family(
    "shoal_journey_request_duration_seconds",
    "histogram",
    "Time from the arrival of a request to the end of its answer.",
    ("journey", "outcome"),
)
_PROBE_RESULTS = Family("shoal_probe_results_total", "counter", "Answers given to probes.", ("probe", "result"))


class Measures:
    """Counts; every combination that can occur exists at 0 from its declaration."""

    def __init__(self, registry: Registry) -> None:
        self._requests = registry.cells(_REQUESTS)
        self._durations = registry.histogram(_DURATIONS)
        self._probes = registry.cells(
            _PROBE_RESULTS, [(probe, result) for probe in PROBES for result in ("pass", "fail")]
        )

    def declare(self, journey: Journey) -> None:
        """Create the series of *journey*."""
        self._requests.declare(journey.outcomes())
        self._durations.declare((journey.name, outcome) for outcome in _TIMED)

    def request(self, journey: str, outcome: Outcome, cause: str, *, seconds: float | None) -> None:
        """A request ended; *seconds* is `None` when it was never begun."""
        self._requests.inc(journey, outcome, cause)
        if seconds is not None and outcome in _TIMED:
            self._durations.observe(seconds, journey, outcome)

    def probe(self, probe: str, *, passed: bool) -> None:
        """A probe was answered."""
        self._probes.inc(probe, "pass" if passed else "fail")
