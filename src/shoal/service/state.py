"""What answers to probes are made from: the declaration, and a few flags and readings in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from shoal._clock import Clock
from shoal.health import Check, Liveness, LoopWatch, Readiness, StartupGate, Symptom

from .dependency import Dependency
from .journey import Journey


@dataclass(kw_only=True, slots=True)
class State:
    """One service as it is now. Written by `Service` on the loop's thread, read by every other."""

    name: str
    version: str | None
    clock: Clock
    loop_watch: LoopWatch
    dependencies: dict[str, Dependency] = field(default_factory=dict)
    journeys: dict[str, Journey] = field(default_factory=dict)
    readiness: Readiness = field(default_factory=Readiness)
    liveness: Liveness = field(default_factory=Liveness)
    gate: StartupGate | None = None
    """Made when the service first runs; nothing waits before."""
    loop: asyncio.AbstractEventLoop | None = None
    """The loop the service runs on, while it does."""

    def checks(self) -> list[Check]:
        """The checks of all dependencies that have one."""
        return [dependency.checked for dependency in list(self.dependencies.values()) if dependency.checked is not None]

    def symptoms(self) -> list[Symptom]:
        """What does not go on in this process."""
        loop = self.loop_watch.symptom()
        return [*([] if loop is None else [loop]), *self.liveness.symptoms()]

    def ready(self) -> tuple[bool, str | None]:
        """Whether the service may be sent requests. The reason is why not, or what an open gate started without."""
        if self.gate is not None and self.gate.open(self.clock.now()):
            self.readiness.started()
        if self.readiness.ready:
            return True, None if self.gate is None else self.gate.reason
        if self.readiness.draining or self.gate is None:
            return False, self.readiness.reason
        return False, self.gate.reason
