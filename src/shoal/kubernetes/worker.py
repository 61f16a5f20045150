"""The kubelet's probe worker: when a probe is made, and what its outcome changes."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Final, Literal

from .probe import Probe, ProbeType

ATTEMPTS: Final = 3
"""Times a probe is tried at once when the prober itself is at fault (`pkg/kubelet/prober/prober.go`)."""


class ProbeOutcome(StrEnum):
    """What came of one probe."""

    SUCCESS = "success"
    WARNING = "warning"
    """It answered, though not quite as expected: a redirect to another host. Counts as success."""
    FAILURE = "failure"
    UNKNOWN = "unknown"
    """Nobody can say. Counts as failure."""
    ERROR = "error"
    """The prober itself is at fault. Tried again at once, then thrown away."""


class ProbeResult(StrEnum):
    """What the kubelet holds to be true of a container, until enough probes in a row say otherwise."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What a worker sees of its pod and container when its turn comes."""

    container_id: str
    """Differs for every instance of the container; empty while there has been none."""
    state: Literal["waiting", "running", "terminated"]
    started: bool | None = None
    """The startup probe has succeeded, or there is none; `None`: not known yet, which counts as no."""
    age: float = 0.0
    """Seconds since the container started."""
    deleting: bool = False
    """The pod has a deletion timestamp."""
    phase: Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"] = "Running"
    predates_kubelet: bool = False
    """The container had been running for more than 10 s when the kubelet started: no initial result is set for it."""


class Decision(Enum):
    """What a worker wants after looking at its container."""

    PROBE = auto()
    """Make a probe and tell the worker the outcome."""
    WAIT = auto()
    """Nothing now; look again after a period."""
    STOP = auto()
    """Never again: the worker has ended, and whoever keeps its result drops it (K14)."""


_INITIAL: Final = {
    ProbeType.STARTUP: ProbeResult.UNKNOWN,
    ProbeType.LIVENESS: ProbeResult.SUCCESS,
    ProbeType.READINESS: ProbeResult.FAILURE,
}


class ProbeWorker:
    """One probe type of one container, over all its restarts.

    The rules (K4 to K14) are those of `doProbe` in Kubernetes 1.36, `pkg/kubelet/prober/worker.go`. When to look
    (at once, then every period, K1 to K3 and K15) is the driver's business. A driver that cannot wait inside a
    callable uses `observe`, makes the probe if told so, and hands the outcome to `record`; `step` is both in one.

    >>> worker = ProbeWorker(ProbeType.READINESS, Probe(failure_threshold=2))
    >>> running = Observation(container_id="a", state="running", started=True)
    >>> for outcome in (ProbeOutcome.SUCCESS, ProbeOutcome.FAILURE, ProbeOutcome.FAILURE):
    ...     _ = worker.step(running, lambda: outcome)
    ...     print(worker.result, worker.run)
    success 1
    success 1
    failure 2
    """

    __slots__ = ("_last", "_restart_policy", "container_id", "on_hold", "probe", "probe_type", "result", "run")

    def __init__(
        self,
        probe_type: ProbeType,
        probe: Probe,
        *,
        restart_policy: Literal["Always", "OnFailure", "Never"] = "Always",
    ) -> None:
        probe.check(probe_type)
        self.probe_type = probe_type
        self.probe = probe
        self.container_id = ""
        """The container that `result` is about; empty before the first."""
        self.result: ProbeResult | None = None
        """What is held to be true of that container, `None` if nothing is."""
        self.run = 0
        """Equal outcomes in a row."""
        self.on_hold = False
        """Waiting for a new container: this one's fate is decided."""
        self._last: ProbeResult | None = None
        self._restart_policy = restart_policy

    def step(self, observation: Observation | None, probe: Callable[[], ProbeOutcome]) -> bool:
        """Look, make the probe if it is due, count its outcome. False when the worker has ended.

        *probe* is called up to three times, for as long as it answers `ERROR` (K11).
        """
        decision = self.observe(observation)
        if decision is Decision.PROBE:
            for _ in range(ATTEMPTS):
                outcome = probe()
                if outcome is not ProbeOutcome.ERROR:
                    break
            self.record(outcome)
        return decision is not Decision.STOP

    def observe(self, observation: Observation | None) -> Decision:
        """Look at the container; `None` is a pod whose status is not known yet."""
        if observation is None:
            return Decision.WAIT  # K4
        if observation.phase in ("Succeeded", "Failed"):
            return Decision.STOP  # K4
        if not observation.container_id:
            return Decision.WAIT  # K4
        if observation.container_id != self.container_id:
            self._adopt(observation)
        if self.on_hold:
            return Decision.WAIT  # K6
        if observation.state != "running":
            self.result = ProbeResult.FAILURE  # K7
            over = observation.state == "terminated" and self._restart_policy == "Never"
            return Decision.STOP if over else Decision.WAIT
        if observation.deleting and self.probe_type is not ProbeType.READINESS:
            self.result = ProbeResult.SUCCESS  # K8: nothing may restart what is being deleted
            return Decision.STOP
        if int(observation.age) < self.probe.initial_delay:
            return Decision.WAIT  # K9
        if bool(observation.started) is (self.probe_type is ProbeType.STARTUP):
            return Decision.WAIT  # K10
        return Decision.PROBE

    def record(self, outcome: ProbeOutcome) -> bool:
        """Count the outcome of a probe. True if enough equal ones have come in a row to hold it true (K12)."""
        if outcome is ProbeOutcome.ERROR:
            return False  # K11
        good = outcome in (ProbeOutcome.SUCCESS, ProbeOutcome.WARNING)
        result, threshold = (
            (ProbeResult.SUCCESS, self.probe.success_threshold)
            if good
            else (ProbeResult.FAILURE, self.probe.failure_threshold)
        )
        self.run = self.run + 1 if result is self._last else 1
        self._last = result
        if self.run < threshold:
            return False
        self.result = result
        if self.probe_type is ProbeType.STARTUP or (self.probe_type is ProbeType.LIVENESS and not good):
            self.on_hold = True  # K13
            self.run = 0
        return True

    def _adopt(self, observation: Observation) -> None:
        """K5: a new container starts from the initial value, but the run of equal outcomes goes on."""
        self.container_id = observation.container_id
        self.result = None if observation.predates_kubelet else _INITIAL[self.probe_type]
        self.on_hold = False
