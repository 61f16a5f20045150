"""Turns a scenario into a timetable for one step, and refuses one that the company cannot play. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from shoal_lab.company.manifest import Workload, workloads
from shoal_lab.errors import UsageError
from shoal_lab.ladder import Step
from shoal_lab.scenario import Edge, EdgeFault, PodFault, Rollout, Scenario

Fault = EdgeFault | PodFault | Rollout


@dataclass(frozen=True, slots=True)
class Action:
    """At *at* real seconds after the load began, *fault* begins or ends."""

    at: float
    what: Literal["begin", "end"]
    fault: Fault


@dataclass(frozen=True, kw_only=True, slots=True)
class Timetable:
    """When what happens, in real seconds after the load began."""

    fault_at: float
    repair_at: float
    end: float
    actions: tuple[Action, ...]


def timetable(scenario: Scenario, time_scale: float) -> Timetable:
    """When each fault begins and ends. Whatever has no end of its own, or a later one, ends at the repair."""
    fault_at = scenario.phases.before
    repair_at = fault_at + scenario.phases.during
    end = repair_at + scenario.phases.after
    faults: tuple[Fault, ...] = (*scenario.edge_faults, *scenario.pod_faults, *scenario.rollouts)
    actions = []
    for fault in faults:
        begins = min(fault_at + fault.at, repair_at)
        lasts = None if isinstance(fault, Rollout) else fault.lasts
        ends = repair_at if lasts is None else min(begins + lasts, repair_at)
        actions += [Action(begins / time_scale, "begin", fault), Action(ends / time_scale, "end", fault)]
    return Timetable(
        fault_at=fault_at / time_scale,
        repair_at=repair_at / time_scale,
        end=end / time_scale,
        # What ends at a moment ends before what begins at it.
        actions=tuple(sorted(actions, key=lambda action: (action.at, action.what == "begin"))),
    )


def deployed(step: Step) -> dict[str, Workload]:
    """The services of the company under a step, by name."""
    return {workload.service: workload for workload in workloads(step.remedies)}


def check(scenario: Scenario, steps: Sequence[Step]) -> None:
    """Refuse a scenario that names something the company does not have under these steps. Raises UsageError."""
    for step in steps:
        company = deployed(step)
        on_edges: tuple[EdgeFault | Rollout, ...] = (*scenario.edge_faults, *scenario.rollouts)
        for fault in on_edges:
            if not existing(fault.edges, company):
                edges = ", ".join(f"'{edge}'" for edge in fault.edges)
                known = ", ".join(_edges(company))
                raise UsageError(f"scenario {scenario.name}: no edge {edges} under {step.name}; there are {known}")
            if isinstance(fault, EdgeFault) and fault.kind == "errors":
                _check_http(scenario, fault, company)
        for pod_fault in scenario.pod_faults:
            workload = company.get(pod_fault.service)
            if workload is None or pod_fault.replica >= workload.replicas:
                pods = ", ".join(f"{w.service}/0..{w.replicas - 1}" for w in company.values())
                raise UsageError(
                    f"scenario {scenario.name}: no pod {pod_fault.service}/{pod_fault.replica} under {step.name}; "
                    f"there are {pods}"
                )


def existing(edges: Iterable[Edge], company: Mapping[str, Workload]) -> list[Edge]:
    """Those of *edges* that this company has."""
    return [edge for edge in edges if _exists(edge, company)]


def rates(scenario: Scenario, total: float | None) -> dict[str, float]:
    """Requests per second of each journey; with *total*, in the scenario's proportions."""
    wanted = {journey: rate for journey, rate in scenario.rates.items() if rate > 0}
    if total is None:
        return wanted
    factor = total / sum(wanted.values())
    return {journey: rate * factor for journey, rate in wanted.items()}


def _check_http(scenario: Scenario, fault: EdgeFault, company: Mapping[str, Workload]) -> None:
    for edge in fault.edges:
        for dependency in company[edge.caller].dependencies if edge.caller in company else ():
            if dependency.name == edge.dependency and dependency.protocol != "http":
                raise UsageError(
                    f"scenario {scenario.name}: '{edge}' does not speak HTTP, so it cannot answer with errors; "
                    "use down, hang or slow"
                )


def _exists(edge: Edge, company: Mapping[str, Workload]) -> bool:
    workload = company.get(edge.caller)
    return (
        workload is not None
        and (edge.replica is None or edge.replica < workload.replicas)
        and any(dependency.name == edge.dependency for dependency in workload.dependencies)
    )


def _edges(company: Mapping[str, Workload]) -> list[str]:
    return [str(Edge(w.service, dependency.name)) for w in company.values() for dependency in w.dependencies]
