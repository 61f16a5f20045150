"""What is known of each dependency, from its calls first and its check second, and what follows for the service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal
from urllib.parse import urlsplit

from shoal.health import Component, DocumentStatus, Status

from .dependency import Dependency
from .journey import Journey

# A call says how a dependency is for as long as a breaker's window: after that the check is asked.
CALLS_TELL_FOR = 30.0

_DATASTORES = frozenset(
    {"cassandra", "mariadb", "memcached", "mongodb", "mysql", "postgres", "postgresql", "redis", "rediss", "sqlite"}
)


def standing(dependency: Dependency, *, now: float, wall: float, endpoints: tuple[str, ...] = ()) -> Component:
    """How *dependency* is, as an entry of the health document.

    *now* and *wall* are the same moment on the two clocks; *endpoints* are the paths it breaks when it is down.
    """
    told = _by_calls(dependency, wall=wall, endpoints=endpoints)
    return told or _by_check(dependency, now=now, wall=wall, endpoints=endpoints)


def overall(*, alive: bool, standings: Mapping[str, Status], journeys: Iterable[Journey]) -> DocumentStatus:
    """`fail` when the process is stalled or no journey is left, `warn` when anything is not up, else `pass`."""
    needed = [[standings[dependency.name] for dependency in journey.needs] for journey in journeys]
    if not alive or (needed and all("down" in statuses for statuses in needed)):
        return "fail"
    return "pass" if all(status == "up" for status in standings.values()) else "warn"


def _by_calls(dependency: Dependency, *, wall: float, endpoints: tuple[str, ...]) -> Component | None:
    health = dependency.guard.health()
    if health.status == "unknown" or health.age is None or health.age > CALLS_TELL_FOR:
        return None
    return Component(
        name=dependency.name,
        measurement="errorRate",
        kind=_kind(dependency.target),
        status=health.status,
        value=round(health.error_rate, 4),
        unit="ratio",
        time=wall - health.age,
        output=None if health.status == "up" else health.last_error,
        affected_endpoints=endpoints,
        links=dependency.links,
    )


def _by_check(dependency: Dependency, *, now: float, wall: float, endpoints: tuple[str, ...]) -> Component:
    reading = dependency.reading
    if reading is None or reading.at is None:
        output = "no call yet, and no check" if dependency.checked is None else "not yet sampled"
        return Component(
            name=dependency.name,
            measurement="errorRate" if dependency.checked is None else "responseTime",
            kind=_kind(dependency.target),
            status="unknown",
            output=output,
            affected_endpoints=endpoints,
            links=dependency.links,
        )
    status, age = reading.status(now=now), now - reading.at
    return Component(
        name=dependency.name,
        measurement="responseTime",
        kind=_kind(dependency.target),
        status=status,
        value=round(reading.took * 1000, 1),
        unit="ms",
        time=wall - age,
        output=f"stale: sampled {age:.0f} s ago" if status == "unknown" else reading.error,
        affected_endpoints=endpoints,
        links=dependency.links,
    )


def _kind(target: str) -> Literal["component", "datastore"]:
    # An SQLAlchemy URL names its driver after a plus sign.
    return "datastore" if urlsplit(target).scheme.partition("+")[0] in _DATASTORES else "component"
