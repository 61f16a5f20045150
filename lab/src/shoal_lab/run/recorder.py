"""Notes what happens to the platform while a step runs, on one clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from shoal_lab.record import Event, EventKind, ReadyCount


class Recorder:
    """Events and ready endpoints, in seconds since `begin`; what came before has negative times."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._events: list[tuple[float, EventKind, str, str, str]] = []
        self._ready: dict[str, list[tuple[float, int]]] = {}
        self._zero: float | None = None

    def begin(self) -> None:
        """The load begins now: this is second 0."""
        self._zero = asyncio.get_running_loop().time()

    def end(self) -> None:
        """What comes now is the end of the step, not part of it: nothing is told any more."""
        self._tell = lambda _text: None

    @property
    def zero(self) -> float:
        """Second 0 on the event loop's clock."""
        if self._zero is None:
            raise RuntimeError("the load has not begun; call begin() first")
        return self._zero

    def now(self) -> float:
        """Seconds since `begin`."""
        return asyncio.get_running_loop().time() - (self._zero or 0.0)

    def event(self, kind: EventKind, service: str, pod: str = "", detail: str = "") -> None:
        """Something happened just now."""
        self._events.append((asyncio.get_running_loop().time(), kind, service, pod, detail))
        if self._zero is not None and kind in (
            "fault",
            "repair",
            "restart",
            "killed",
            "rollout-stalled",
            "rollout-complete",
        ):
            self._tell(f"{kind}: {' '.join(filter(None, (pod or service, detail)))}")

    def ready(self, service: str, count: int) -> None:
        """From now on so many endpoints of a service are in the load balancer."""
        series = self._ready.setdefault(service, [])
        if not series or series[-1][1] != count:
            series.append((asyncio.get_running_loop().time(), count))
            if self._zero is not None and count == 0:
                self._tell(f"{service}: no endpoint left")

    def events(self) -> Sequence[Event]:
        """All events, relative to `begin`."""
        zero = self._zero or 0.0
        return [Event(at - zero, kind, service, pod, detail) for at, kind, service, pod, detail in self._events]

    def ready_counts(self) -> dict[str, Sequence[ReadyCount]]:
        """The ready endpoints of each service as steps in time."""
        zero = self._zero or 0.0
        return {
            service: [ReadyCount(at - zero, count) for at, count in series] for service, series in self._ready.items()
        }
