"""What a metric is called and how its series are told apart. Values live elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: all series of one name.

    *name* is a Prometheus name in base units; a counter's ends in `_total`. *help* is one sentence for whoever meets
    the number on a dashboard. *label_names* tell the series apart; a histogram has `le` besides. Raises ValueError for
    a name that Prometheus would not take.

    >>> Family("shoal_ready", "gauge", "1 while readiness answers 200.", ("workload",)).label_names
    ('workload',)
    """

    name: str
    kind: Kind
    help: str
    label_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name must be letters, digits and underscores, got {self.name!r}")
        if (self.kind == "counter") != self.name.endswith("_total"):
            raise ValueError(f"a counter's name ends in _total and no other's does, got {self.name!r} as {self.kind}")
        for label in self.label_names:
            if not _LABEL.fullmatch(label) or (self.kind == "histogram" and label == "le"):
                raise ValueError(f"{self.name}: label {label!r} is reserved or not a label name; rename it")
        if len(set(self.label_names)) != len(self.label_names):
            raise ValueError(f"{self.name}: label names must differ, got {', '.join(self.label_names)}")
