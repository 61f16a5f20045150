"""A rolling update, one step at a time: how many pods to create and which to delete."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Literal

RolloutStatus = Literal["progressing", "complete", "stalled"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PodState:
    """What the deployment controller sees of a pod."""

    name: str
    revision: str
    ready: bool
    terminating: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutStrategy:
    """How far a rollout may stray from the number of replicas: pods (`2`) or a share of the replicas (`"25%"`).

    Raises ValueError for a negative number, a share of unavailable pods above 100 %, or text that is no percentage.

    >>> RolloutStrategy().limits(5)
    (2, 1)
    """

    max_surge: int | str = "25%"
    """Pods above the number of replicas; a share is rounded up."""
    max_unavailable: int | str = "25%"
    """Pods below the number of replicas; a share is rounded down."""
    progress_deadline: float = 600.0
    """Seconds without progress after which the rollout counts as stalled."""

    def __post_init__(self) -> None:
        for name in ("max_surge", "max_unavailable"):
            _share(name, getattr(self, name))
        if isinstance(self.max_unavailable, str) and _share("max_unavailable", self.max_unavailable) > 1:
            raise ValueError(f"max_unavailable must be at most 100%, got {self.max_unavailable}")
        if self.progress_deadline <= 0:
            raise ValueError(f"progress_deadline must be above 0 seconds, got {self.progress_deadline}")

    def limits(self, replicas: int) -> tuple[int, int]:
        """Pods allowed above and below *replicas*.

        Both cannot be 0, or nothing could ever be replaced: then one pod may be unavailable
        (`deployment_util.go` in Kubernetes).
        """
        surge = _pods("max_surge", self.max_surge, replicas, ceil)
        unavailable = _pods("max_unavailable", self.max_unavailable, replicas, floor)
        return (surge, 1) if surge == unavailable == 0 else (surge, unavailable)


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutPlan:
    """What to do now: create this many pods of the wanted revision, and delete these by name."""

    create: int
    delete: tuple[str, ...]


def plan_rollout(
    pods: Sequence[PodState], *, revision: str, replicas: int, strategy: RolloutStrategy | None = None
) -> RolloutPlan:
    """The next step from *pods* (the oldest first) to *replicas* pods of *revision*.

    Follows `reconcileNewReplicaSet` and `reconcileOldReplicaSets` of Kubernetes (`deployment/rolling.go`): surge
    first; then old pods that are not ready, which serve nobody, as far as the pods left could be enough once the new
    ones are ready; then old ready pods, as far as enough ready pods are left. Terminating pods count for nothing.
    Pods count as available as soon as they are ready (minReadySeconds 0).

    >>> pods = [PodState(name=f"wallet/{i}", revision="1", ready=True) for i in range(4)]
    >>> plan_rollout(pods, revision="2", replicas=4)
    RolloutPlan(create=1, delete=('wallet/0',))
    """
    surge, unavailable = (strategy or RolloutStrategy()).limits(replicas)
    present = [pod for pod in pods if not pod.terminating]
    new = [pod for pod in present if pod.revision == revision]
    old = [pod for pod in present if pod.revision != revision]

    create = max(0, min(replicas + surge - len(present), replicas - len(new)))
    excess = sorted(new, key=lambda pod: not pod.ready)[replicas:]

    needed = replicas - unavailable
    new_ready = sum(pod.ready for pod in new)
    # New pods that are not ready yet are kept whole beside the pods needed, so that a rollout that cannot work stops.
    spare = len(old) + new_ready - needed
    unready_old = [pod for pod in old if not pod.ready][: max(0, spare)]
    ready_old = [pod for pod in old if pod.ready]
    leaving = [*excess, *unready_old, *ready_old[: max(0, new_ready + len(ready_old) - needed)]]
    return RolloutPlan(create=create, delete=tuple(pod.name for pod in leaving))


class RolloutProgress:
    """Whether a rollout gets on: complete, progressing, or stalled for longer than the progress deadline.

    Progress is a pod more of the wanted revision, an old pod less, or a ready pod more; each restarts the deadline,
    as `DeploymentProgressing` in Kubernetes has it. Nothing rolls back by itself.
    """

    __slots__ = ("_deadline", "_progress_at", "_replicas", "_revision", "_seen")

    def __init__(self, *, revision: str, replicas: int, deadline: float, now: float) -> None:
        self._revision = revision
        self._replicas = replicas
        self._deadline = deadline
        self._progress_at = now
        self._seen: tuple[int, int, int] | None = None

    @property
    def stalls_after(self) -> float:
        """The moment after which the rollout counts as stalled if nothing moves."""
        return self._progress_at + self._deadline

    def observe(self, pods: Iterable[PodState], *, now: float) -> RolloutStatus:
        """Look at all pods *now* (seconds, the clock given at the start)."""
        present = [pod for pod in pods if not pod.terminating]
        new = [pod for pod in present if pod.revision == self._revision]
        old = len(present) - len(new)
        ready = sum(pod.ready for pod in present)
        if old == 0 and len(new) == ready == self._replicas:
            return "complete"
        if self._seen is None or len(new) > self._seen[0] or old < self._seen[1] or ready > self._seen[2]:
            self._progress_at = now
        self._seen = (len(new), old, ready)
        return "stalled" if now > self.stalls_after else "progressing"


def _share(name: str, value: int | str) -> Fraction:
    """A percentage as a fraction; a number of pods as itself."""
    text = str(value)
    digits = text.removesuffix("%") if isinstance(value, str) else text
    if not (digits.isascii() and digits.isdigit()) or (isinstance(value, str) and digits == text):
        raise ValueError(f'{name} must be a number of pods, at least 0, or a percentage such as "25%", got {value!r}')
    return Fraction(int(digits), 100 if isinstance(value, str) else 1)


def _pods(name: str, value: int | str, replicas: int, rounded: Callable[[Fraction], int]) -> int:
    share = _share(name, value)
    return rounded(share * replicas) if isinstance(value, str) else int(share)
