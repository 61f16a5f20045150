"""The health document of a service, from its state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import parse_qs

from shoal.health import CONTENT_TYPE, Component, ProbeAnswer, Status, health_document

from .standing import overall, standing
from .state import State

# Unknown is an answer: neither true nor false.
_AVAILABLE: Mapping[Status, bool | None] = {"up": True, "degraded": True, "down": False, "unknown": None}


def report(state: State, query: str) -> ProbeAnswer:
    """`/health`: the document, whatever it says with 200.

    `view=available` asks for a map of dependencies to true, false or null (unknown) instead; `strict=1` for 503 when
    the document's status is fail.
    """
    asked = parse_qs(query)
    dependencies = _dependencies(state)
    if asked.get("view") == ["available"]:
        return ProbeAnswer.of(200, {"available": {c.name: _AVAILABLE[c.status] for c in dependencies}})
    symptoms = state.symptoms()
    status = overall(
        alive=not any(symptom.fatal for symptom in symptoms),
        standings={component.name: component.status for component in dependencies},
        journeys=list(state.journeys.values()),
    )
    ready, reason = state.ready()
    notes = [symptom.text for symptom in symptoms]
    if reason is not None:
        notes.append(reason if ready else f"not ready: {reason}")
    document = health_document(
        service=state.name,
        version=state.version,
        status=status,
        components=[*dependencies, *_workers(state)],
        notes=notes,
    )
    code = 503 if status == "fail" and asked.get("strict") == ["1"] else 200
    return ProbeAnswer(code, json.dumps(document).encode() + b"\n", CONTENT_TYPE)


def _dependencies(state: State) -> list[Component]:
    now, wall = state.clock.now(), state.clock.wall()
    broken: dict[str, dict[str, None]] = {}
    for journey in list(state.journeys.values()):
        for dependency in journey.needs:
            broken.setdefault(dependency.name, {}).update(dict.fromkeys(route.template for route in journey.routes))
    return [
        standing(dependency, now=now, wall=wall, endpoints=tuple(broken.get(dependency.name, ())))
        for dependency in list(state.dependencies.values())
    ]


def _workers(state: State) -> list[Component]:
    wall = state.clock.wall()
    return [
        Component(
            name=heartbeat.name,
            measurement="heartbeat",
            kind="system",
            status="down" if age > heartbeat.stalled_after else "up",
            value=round(age, 1),
            unit="s",
            time=wall - age,
            output=f"silent for more than {heartbeat.stalled_after:g} s" if age > heartbeat.stalled_after else None,
        )
        for heartbeat in state.liveness.heartbeats
        for age in [heartbeat.age]
    ]
