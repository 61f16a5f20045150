"""Finds a scenario by name or file, reads it, and refuses what cannot be meant, in one line."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from shoal_lab.errors import UsageError
from shoal_lab.scenario.fields import Fields
from shoal_lab.scenario.model import Edge, EdgeFault, FaultKind, Phases, PodFault, Rollout, Scenario

_FILES = files("shoal_lab.scenario") / "files"
_SUFFIX = ".toml"


def built_in_names() -> list[str]:
    """The scenarios that come with the lab."""
    return sorted(entry.name.removesuffix(_SUFFIX) for entry in _FILES.iterdir() if entry.name.endswith(_SUFFIX))


def load(name: str) -> Scenario:
    """The scenario called *name*, or in the file *name* (a path that ends in .toml). Raises UsageError."""
    if name.endswith(_SUFFIX):
        path = Path(name)
        try:
            return replace(parse(path.read_text(encoding="utf-8"), name=path.stem, source=name), source=name)
        except FileNotFoundError:
            raise UsageError(f"scenario file {name} does not exist") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"scenario file {name} cannot be read: {error}") from None
    known = built_in_names()
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = (
            f"did you mean {close[0]}?" if close else f"choose one of {', '.join(known)}, or a file that ends in .toml"
        )
        raise UsageError(f"there is no scenario {name!r}: {hint}")
    return parse((_FILES / (name + _SUFFIX)).read_text(encoding="utf-8"), name=name, source=name + _SUFFIX)


def parse(text: str, *, name: str, source: str) -> Scenario:
    """Read a scenario from TOML *text*; *source* is what error messages call it. Raises UsageError.

    >>> text = 'title = "T"\\n[[fault]]\\nedges = ["auth -> database"]\\nkind = "down"'
    >>> parse(text, name="t", source="t.toml").edge_faults[0].edges
    (Edge(caller='auth', dependency='database', replica=None),)
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source} is not valid TOML: {error}") from None
    top = Fields(document, source=source)
    default = Scenario(name=name, title="", story="")
    phases = top.table("phases")
    rates = top.table("rates")
    scenario = Scenario(
        name=name,
        title=top.text("title"),
        story=" ".join(top.text("story", default="").split()),
        phases=Phases(
            before=phases.number("before", default=default.phases.before, above=0),
            during=phases.number("during", default=default.phases.during, above=0),
            after=phases.number("after", default=default.phases.after, above=0),
        ),
        edge_faults=tuple(_edge_fault(fields) for fields in top.tables("fault")),
        pod_faults=tuple(_pod_fault(fields) for fields in top.tables("pod-fault")),
        rollouts=tuple(_rollout(fields) for fields in top.tables("rollout")),
        rates={journey: rates.number(journey, default=rate, least=0) for journey, rate in default.rates.items()},
        customers=top.whole("customers", default=default.customers, least=1, most=400),
        newcomers=top.number("newcomers", default=default.newcomers, least=0, most=1),
        source=name,
    )
    for fields in (phases, rates, top):
        fields.finish()
    if not (scenario.edge_faults or scenario.pod_faults or scenario.rollouts):
        raise UsageError(f"{source}: nothing is broken in it; add a [[fault]], [[pod-fault]] or [[rollout]]")
    if not sum(scenario.rates.values()):
        raise UsageError(f"{source}: all rates are 0, so no customer would come; set one in [rates]")
    return scenario


def _edge_fault(fields: Fields) -> EdgeFault:
    kinds: tuple[FaultKind, ...] = ("down", "hang", "slow", "errors")
    kind: FaultKind = fields.choice("kind", kinds)
    fault = EdgeFault(
        edges=tuple(_edge(fields, text) for text in fields.texts("edges")),
        kind=kind,
        latency=fields.number("latency", above=0) if kind == "slow" else 0.0,
        share=fields.number("share", default=1.0, above=0, most=1) if kind == "errors" else 1.0,
        at=fields.number("at", default=0.0, least=0),
        lasts=fields.optional_number("lasts", above=0),
    )
    fields.finish()
    return fault


def _pod_fault(fields: Fields) -> PodFault:
    service, replica = _pod(fields, "pod", fields.text("pod"))
    if replica is None:
        raise fields.wrong("pod", f"{service!r} names a service; name one replica, such as {service + '/0'!r}")
    fault = PodFault(
        action=fields.choice("action", ("kill", "block-loop", "stop-consumer")),
        service=service,
        replica=replica,
        at=fields.number("at", default=0.0, least=0),
        lasts=fields.optional_number("lasts", above=0),
    )
    fields.finish()
    return fault


def _rollout(fields: Fields) -> Rollout:
    rollout = Rollout(
        edges=tuple(_edge(fields, text) for text in fields.texts("edges")),
        at=fields.number("at", default=0.0, least=0),
    )
    if any(edge.replica is not None for edge in rollout.edges):
        raise fields.wrong("edges", "a rollout is of all replicas; name the service without a number")
    fields.finish()
    return rollout


def _edge(fields: Fields, text: str) -> Edge:
    caller, arrow, dependency = (part.strip() for part in text.partition("->"))
    if not (caller and arrow and dependency):
        raise fields.wrong(
            "edges", f"{text!r} is not an edge; write 'caller -> dependency', such as 'auth -> database'"
        )
    service, replica = _pod(fields, "edges", caller)
    return Edge(service, dependency, replica)


def _pod(fields: Fields, key: str, text: str) -> tuple[str, int | None]:
    service, slash, number = text.partition("/")
    if not slash:
        return service, None
    if not number.isdecimal():
        raise fields.wrong(key, f"{text!r} is not a replica; write it like {service + '/0'!r}")
    return service, int(number)
