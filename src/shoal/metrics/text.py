"""The text that Prometheus scrapes: exposition format 0.0.4."""

from __future__ import annotations

import math

from .registry import Registry

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})
_VALUE = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


def exposition(registry: Registry) -> str:
    r"""Everything in *registry* as text for a scrape, to be sent with `CONTENT_TYPE`.

    Prometheus documentation, "Exposition formats", text-based format version 0.0.4.

    >>> from shoal.metrics import Family
    >>> registry = Registry()
    >>> registry.cells(Family("pings_total", "counter", "Pings.", ("from",)), [("a",)]).inc("a")
    >>> print(exposition(registry), end="")
    # HELP pings_total Pings.
    # TYPE pings_total counter
    pings_total{from="a"} 1
    """
    lines: list[str] = []
    for family, samples in registry.collect():
        lines.append(f"# HELP {family.name} {family.help.translate(_HELP)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for suffix, labels, value in samples:
            inside = ",".join(f'{name}="{text.translate(_VALUE)}"' for name, text in labels)
            braces = f"{{{inside}}}" if labels else ""
            lines.append(f"{family.name}{suffix}{braces} {_number(value)}")
    return "".join(f"{line}\n" for line in lines)


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(int(value))
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)
