"""Liveness: is this process able to go on by itself? Its dependencies are none of its business."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from shoal._clock import SYSTEM_CLOCK, Clock


class Heartbeat:
    """A sign of life of a worker, such as a consumer's loop: call `beat` at each turn, busy or idle.

    Silent for more than *stalled_after* seconds, it fails liveness and the container is restarted: choose more than the
    longest turn can take. Counted from its making until the first beat. Raises ValueError unless *stalled_after* is
    above 0.

    >>> heartbeat = Heartbeat("consumer", stalled_after=5.0)
    >>> heartbeat.beat()
    >>> heartbeat.stalled
    False
    """

    __slots__ = ("_beat_at", "_clock", "name", "stalled_after")

    def __init__(self, name: str, *, stalled_after: float, clock: Clock = SYSTEM_CLOCK) -> None:
        if stalled_after <= 0:
            raise ValueError(f"heartbeat {name}: stalled_after must be above 0 seconds, got {stalled_after}")
        self.name = name
        self.stalled_after = stalled_after
        self._clock = clock
        self._beat_at = clock.now()

    def beat(self) -> None:
        """The worker made a turn. Costs one reading of the clock; may be called from any thread."""
        self._beat_at = self._clock.now()

    @property
    def age(self) -> float:
        """Seconds since the last beat."""
        return self._clock.now() - self._beat_at

    @property
    def stalled(self) -> bool:
        """Whether it has been silent for too long."""
        return self.age > self.stalled_after


class Symptom(NamedTuple):
    """Something of this process that does not go on; *fatal* when only a restart helps."""

    text: str
    fatal: bool


class Liveness:
    """Whether this process goes on by itself, judged by its heartbeats.

    >>> from shoal.testing import ManualClock
    >>> clock, liveness = ManualClock(), Liveness()
    >>> liveness.add(Heartbeat("consumer", stalled_after=5.0, clock=clock))
    >>> clock.advance(6.2)
    >>> [symptom.text for symptom in liveness.symptoms()]
    ['heartbeat consumer silent for 6.2 s, more than 5 s']
    """

    __slots__ = ("heartbeats",)

    def __init__(self) -> None:
        self.heartbeats: list[Heartbeat] = []

    def add(self, heartbeat: Heartbeat) -> None:
        """Watch *heartbeat* from now on. Raises ValueError when its name is taken."""
        if any(other.name == heartbeat.name for other in self.heartbeats):
            raise ValueError(f"there is a heartbeat {heartbeat.name} already; choose another name")
        self.heartbeats.append(heartbeat)

    def symptoms(self) -> Iterator[Symptom]:
        """What is stalled now."""
        for heartbeat in self.heartbeats:
            age = heartbeat.age
            if age > heartbeat.stalled_after:
                text = f"heartbeat {heartbeat.name} silent for {age:.1f} s, more than {heartbeat.stalled_after:g} s"
                yield Symptom(text, fatal=True)
