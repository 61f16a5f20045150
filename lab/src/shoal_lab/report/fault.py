"""The fault of a scenario in words, as a clause that can follow "after": *auth's database failed*."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from shoal_lab.scenario.model import Edge, EdgeFault, PodFault, Scenario

from .units import listed

_DATABASES = ("database", "db")


def fault_in_words(scenario: Scenario, *, services: Collection[str]) -> str:
    """What was done to the company, as a clause in the past tense.

    *services* are those that ran under some step; an edge of any other is passed over, as the lab does.

    >>> down = EdgeFault(edges=(Edge("auth", "database"),), kind="down")
    >>> fault_in_words(Scenario(name="auth-outage", title="", story="", edge_faults=(down,)), services=["auth"])
    "auth's database failed"
    """
    clauses: list[str] = []
    for fault in scenario.edge_faults:
        clauses += [_edge_clause(fault, name, callers) for name, callers in _callers(fault.edges, services).items()]
    clauses += [_pod_clause(fault) for fault in scenario.pod_faults]
    for rollout in scenario.rollouts:
        clauses += [_rollout_clause(name, callers) for name, callers in _callers(rollout.edges, services).items()]
    if not clauses:
        return "the fault began"
    if len(clauses) > 2:
        return f"{clauses[0]} (and {len(clauses) - 1} faults more)"
    return " and ".join(clauses)


def _callers(edges: Sequence[Edge], services: Collection[str]) -> dict[str, list[str]]:
    """Who asks each dependency."""
    found: dict[str, list[str]] = {}
    for edge in edges:
        if edge.caller in services:
            caller = edge.caller if edge.replica is None else f"{edge.caller}/{edge.replica}"
            found.setdefault(edge.dependency, []).append(caller)
    return found


def _edge_clause(fault: EdgeFault, dependency: str, callers: list[str]) -> str:
    if _is_database(dependency):
        possessive = len(callers) == 1 and not callers[0].endswith("s")
        what = f"{callers[0]}'s database" if possessive else f"the database of {listed(callers)}"
        whom = to_whom = ""
    else:
        what, whom, to_whom = dependency, f" for {listed(callers)}", f" {listed(callers)}"
    match fault.kind:
        case "down":
            return f"{what} went away{whom}" if whom else f"{what} failed"
        case "hang":
            return f"{what} stopped answering{to_whom}"
        case "slow":
            return f"{what} became {fault.latency:g} s slower{whom}"
        case "errors":
            return f"{what} answered {fault.share * 100:g} % of requests with an error{whom}"


def _pod_clause(fault: PodFault) -> str:
    pod = f"{fault.service}/{fault.replica}"
    match fault.action:
        case "kill":
            return f"{pod} was killed"
        case "block-loop":
            return f"the event loop of {pod} was blocked"
        case "stop-consumer":
            return f"the consumer of {pod} stopped"


def _rollout_clause(dependency: str, callers: list[str]) -> str:
    whom = "its database" if _is_database(dependency) else dependency
    return f"a version of {listed(callers)} that cannot reach {whom} was rolled out"


def _is_database(dependency: str) -> bool:
    return dependency in _DATABASES or dependency.endswith(tuple(f"-{name}" for name in _DATABASES))
