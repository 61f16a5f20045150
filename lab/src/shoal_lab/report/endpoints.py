"""What the platform made of each service's pods: endpoints in the load balancer, restarts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from shoal_lab.record import ReadyCount, StepRecord

from .shape import ServiceReport


def service_report(record: StepRecord, service: str) -> ServiceReport:
    """Everything about one service's pods.

    * `ready`: the ready endpoints as steps in time, from the start on (what came before it is its first value).
    * `min_ready`: the fewest ready endpoints between the fault and the end; `None` when they were not watched.
    * `seconds_without_endpoints`: how long, from the start to the end, there was not one.
    * `restarts`: of all pods of the service, from the start on.
    """
    steps = _steps(record.ready.get(service, ()), started=record.started, ended=record.ended)
    spans = list(pairwise([*steps, (record.ended, 0)]))
    return ServiceReport(
        replicas=record.replicas.get(service, 0),
        min_ready=min((ready for (_, ready), (until, _) in spans if until > record.fault_at), default=None),
        restarts=sum(
            event.kind == "restart" and event.service == service and event.at >= record.started
            for event in record.events
        ),
        seconds_without_endpoints=round(sum(until - at for (at, ready), (until, _) in spans if ready == 0), 3),
        ready=steps,
    )


def _steps(readings: Sequence[ReadyCount], *, started: float, ended: float) -> list[tuple[float, int]]:
    """The readings between start and end as changes only; the last one before the start becomes the start's."""
    steps: list[tuple[float, int]] = []
    for reading in sorted(readings, key=lambda reading: reading.at):
        if reading.at >= ended:
            break
        at = max(started, round(reading.at, 3))
        # Several changes at one moment: only the last was there for anybody to see.
        if steps and steps[-1][0] == at:
            steps.pop()
        if not steps or steps[-1][1] != reading.ready:
            steps.append((at, reading.ready))
    return steps
