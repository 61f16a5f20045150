"""The settings of a container's probes, with the defaults and the limits of the Kubernetes API."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class ProbeType(StrEnum):
    """Which question a probe asks."""

    STARTUP = "startup"
    LIVENESS = "liveness"
    READINESS = "readiness"


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """How often a probe is made and how many equal answers in a row change anything.

    Seconds are whole, as in a manifest. Defaults: `pkg/apis/core/v1/defaults.go`; limits:
    `pkg/apis/core/validation/validation.go`. Raises ValueError for what the API server would reject.

    >>> Probe(period=5).failure_threshold
    3
    """

    initial_delay: int = 0
    """Seconds after the start of the container before the first probe (`initialDelaySeconds`)."""
    period: int = 10
    """Seconds from one probe to the next, at least 1 (`periodSeconds`)."""
    timeout: int = 1
    """Seconds for connection, headers and body together, at least 1 (`timeoutSeconds`)."""
    failure_threshold: int = 3
    """Failures in a row that count as failure, at least 1."""
    success_threshold: int = 1
    """Successes in a row that count as success, at least 1; must be 1 for startup and liveness."""
    termination_grace: int | None = None
    """Seconds from SIGTERM to SIGKILL when this probe ends the container; `None`: the pod's. Not for readiness."""

    def __post_init__(self) -> None:
        if self.initial_delay < 0:
            raise ValueError(f"initial_delay must be at least 0, got {self.initial_delay}")
        for name in ("period", "timeout", "failure_threshold", "success_threshold"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.termination_grace is not None and self.termination_grace < 1:
            raise ValueError(f"termination_grace must be at least 1 or None, got {self.termination_grace}")

    def check(self, probe_type: ProbeType) -> None:
        """Raise ValueError if the API server would not accept these settings for a probe of this type."""
        if probe_type is ProbeType.READINESS:
            if self.termination_grace is not None:
                raise ValueError(
                    f"termination_grace has no meaning for a readiness probe, which ends nothing; "
                    f"got {self.termination_grace}, leave it out"
                )
        elif self.success_threshold != 1:
            raise ValueError(
                f"success_threshold must be 1 for a {probe_type} probe, got {self.success_threshold}; "
                "only readiness may ask for more"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Probes:
    """The probes of one container; `None` means there is none of that type.

    >>> [kind.value for kind, probe in Probes(readiness=Probe(), liveness=Probe(period=20))]
    ['liveness', 'readiness']
    """

    startup: Probe | None = None
    liveness: Probe | None = None
    readiness: Probe | None = None

    def __post_init__(self) -> None:
        for probe_type, probe in self:
            probe.check(probe_type)

    def __iter__(self) -> Iterator[tuple[ProbeType, Probe]]:
        """The probes there are, with their types."""
        for probe_type in ProbeType:
            probe: Probe | None = getattr(self, probe_type.value)
            if probe is not None:
                yield probe_type, probe
