"""What an edge suffers from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from shoal_lab.scenario import FaultKind


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One way in which a dependency is lost to a caller.

    * `down`: connections are refused, and those that stand are reset, as when a process is gone and its machine is not.
    * `hang`: connections are accepted and nobody answers; those that stand fall silent, as with a process stopped by
      SIGSTOP. When the fault ends everything held back flows on, also requests whose caller has long given up.
    * `slow`: each answer comes *latency* seconds late.
    * `errors`: a *share* of requests is answered 503 and never reaches the dependency. HTTP only.

    >>> Fault(kind="slow", latency=0.4)
    Fault(kind='slow', latency=0.4, share=1.0)
    """

    kind: FaultKind
    latency: float = 0.0
    """`slow`: seconds (of the wall clock) added to each answer, above 0."""
    share: float = 1.0
    """`errors`: share of requests answered by the proxy, above 0 and at most 1."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ValueError(f"kind must be one of {', '.join(get_args(FaultKind))}, got {self.kind!r}")
        if self.kind == "slow" and not 0 < self.latency < float("inf"):
            raise ValueError(f"latency must be above 0 and finite for kind slow, got {self.latency}")
        if self.kind == "errors" and not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1 for kind errors, got {self.share}")
