"""The health document: what this process knows of itself and its dependencies, for people and for `why`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from .reading import Status
from .words import public_text

CONTENT_TYPE = "application/health+json"

DocumentStatus = Literal["pass", "warn", "fail"]

# Unknown is not up: whoever reads the document should look, and the output says why.
_STATUS: Mapping[Status, DocumentStatus] = {"up": "pass", "degraded": "warn", "unknown": "warn", "down": "fail"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """One entry of the document: a measurement of a dependency or of a part of the process.

    *time* is when it was measured, in seconds since 1970; *output* is why it is not well. *affected_endpoints* are the
    paths of the journeys it breaks, *links* the place of its own health document.
    """

    name: str
    measurement: str
    kind: Literal["component", "datastore", "system"]
    status: Status
    value: float | None = None
    unit: str | None = None
    time: float | None = None
    output: str | None = None
    affected_endpoints: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)


def health_document(
    *,
    service: str,
    version: str | None,
    status: DocumentStatus,
    components: Iterable[Component],
    notes: Iterable[str] = (),
) -> dict[str, object]:
    """The document as a JSON object (draft-inadarei-api-health-check, `application/health+json`).

    *notes* are sentences about the process itself, such as why it is not ready. Texts are bounded and lose credentials
    here, wherever they come from.

    >>> auth = Component(name="auth", measurement="errorRate", kind="component", status="down", output="refused")
    >>> health_document(service="wallet", version="1.0", status="warn", components=[auth])["checks"]
    {'auth:errorRate': [{'componentType': 'component', 'status': 'fail', 'output': 'refused'}]}
    """
    document: dict[str, object] = {"status": status}
    if version is not None:
        document["version"] = version
    document["serviceId"] = service
    document["notes"] = [public_text(note) for note in notes]
    document["checks"] = {f"{c.name}:{c.measurement}": [_entry(c)] for c in components}
    return {name: value for name, value in document.items() if value != []}


def _entry(component: Component) -> dict[str, object]:
    entry = {
        "componentType": component.kind,
        "observedValue": component.value,
        "observedUnit": component.unit if component.value is not None else None,
        "status": _STATUS[component.status],
        "time": None if component.time is None else rfc3339(component.time),
        "output": None if component.output is None else public_text(component.output),
        "affectedEndpoints": list(component.affected_endpoints) or None,
        "links": dict(component.links) or None,
    }
    return {name: value for name, value in entry.items() if value is not None}


def rfc3339(wall: float) -> str:
    """*wall*, seconds since 1970, as people and the document write it.

    >>> rfc3339(0.25)
    '1970-01-01T00:00:00.250Z'
    """
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
