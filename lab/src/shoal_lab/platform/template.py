"""What a replica is made from, and what it is told of itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from shoal.kubernetes import Probes


@dataclass(frozen=True, kw_only=True, slots=True)
class PodIdentity:
    """What a replica has to know of itself."""

    service: str
    ordinal: int
    revision: str
    app_address: tuple[str, int]
    probe_address: tuple[str, int]

    @property
    def name(self) -> str:
        """Service and ordinal, such as `wallet/0`."""
        return f"{self.service}/{self.ordinal}"


Command = Callable[[PodIdentity], tuple[Sequence[str], Mapping[str, str]]]
"""The argument vector and the whole environment of a replica's process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """What every replica of one revision is made from. Durations are platform seconds."""

    service: str
    command: Command
    probes: Probes
    grace: float = 30.0
    """From the decision to end a pod to SIGKILL, the pre-stop pause included."""
    pre_stop: float = 0.0
    """Pause before SIGTERM, for those who send requests to notice that the pod is leaving."""
    revision: str = "1"

    def __post_init__(self) -> None:
        if not 0 <= self.pre_stop <= self.grace:
            raise ValueError(f"pre_stop must be at least 0 and at most grace, got {self.pre_stop} and {self.grace}")
