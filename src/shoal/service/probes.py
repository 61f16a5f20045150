"""Probes by path: which there are, what they are answered, and that each answer is counted."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from shoal.health import ProbeAnswer
from shoal.metrics import CONTENT_TYPE, Registry, exposition

from .deep import DeepReadiness
from .measures import Measures
from .report import report
from .state import State

READYZ = "/readyz"


class Probes:
    """Answers for one service, from the probe thread and from the loop. Reads memory; only *deep* asks anybody."""

    def __init__(self, state: State, *, registry: Registry, measures: Measures, deep: DeepReadiness | None) -> None:
        self._state = state
        self._registry = registry
        self._measures = measures
        self._deep = deep
        self._probes: dict[str, tuple[str, Callable[[], ProbeAnswer]]] = {
            "/livez": ("liveness", self._livez),
            "/startupz": ("startup", self._startupz),
            READYZ: ("readiness", self._readyz),
        }

    def answer(self, path: str) -> ProbeAnswer | None:
        """See `Service.answer`."""
        path, _, query = path.partition("?")
        if path == READYZ and (deep := self._asking()):
            return self._counted("readiness", deep.answer())
        return self._from_memory(path, query)

    async def aanswer(self, path: str) -> ProbeAnswer | None:
        """See `Service.aanswer`."""
        path, _, query = path.partition("?")
        if path == READYZ and (deep := self._asking()):
            return self._counted("readiness", await deep.aanswer())
        return self._from_memory(path, query)

    def answer_without_waiting(self, path: str) -> ProbeAnswer | Future[ProbeAnswer] | None:
        """For the probe thread, which must not wait: what takes time comes later."""
        path, _, query = path.partition("?")
        if path == READYZ and (deep := self._asking()):
            later = deep.answer_later()
            later.add_done_callback(self._count_later)
            return later
        return self._from_memory(path, query)

    def ready(self) -> bool:
        """What readiness says, or said last if it is deep."""
        deep = self._asking()
        return self._state.ready()[0] if deep is None else deep.passed

    def _asking(self) -> DeepReadiness | None:
        running = self._state.loop is not None and not self._state.readiness.draining
        return self._deep if running else None

    def _from_memory(self, path: str, query: str) -> ProbeAnswer | None:
        if path in self._probes:
            probe, answer = self._probes[path]
            return self._counted(probe, answer())
        if path == "/health":
            return report(self._state, query)
        if path == "/metrics":
            return ProbeAnswer(200, exposition(self._registry).encode(), CONTENT_TYPE)
        return None

    def _counted(self, probe: str, answer: ProbeAnswer) -> ProbeAnswer:
        self._measures.probe(probe, passed=answer.status == 200)
        return answer

    def _count_later(self, later: Future[ProbeAnswer]) -> None:
        if not later.cancelled():
            self._measures.probe("readiness", passed=later.exception() is None and later.result().status == 200)

    def _livez(self) -> ProbeAnswer:
        # What stalls is said at once, and fails only when it is fatal.
        symptoms = self._state.symptoms()
        alive = not any(symptom.fatal for symptom in symptoms)
        reason = "; ".join(symptom.text for symptom in symptoms)
        return _flag("live", passed=alive, reason=reason or None)

    def _startupz(self) -> ProbeAnswer:
        # The startup gate holds readiness back and not this: a restart would not bring the dependency back.
        if self._state.gate is None:
            return _flag("started", passed=False, reason="not started")
        return _flag("started", passed=True)

    def _readyz(self) -> ProbeAnswer:
        ready, reason = self._state.ready()
        return _flag("ready", passed=ready, reason=reason)


def _flag(name: str, *, passed: bool, reason: str | None = None) -> ProbeAnswer:
    body: dict[str, object] = {name: passed}
    if reason is not None:
        body["reason"] = reason
    return ProbeAnswer.of(200 if passed else 503, body)
