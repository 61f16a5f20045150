"""What a probe is answered, whoever carries it over the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """A status, and a body of one line that says why: Kubernetes' own event never does.

    >>> ProbeAnswer.of(503, {"ready": False, "reason": "draining"}).body
    b'{"ready": false, "reason": "draining"}\\n'
    """

    status: int
    body: bytes
    content_type: str = "application/json"

    @classmethod
    def of(cls, status: int, body: Mapping[str, object], *, content_type: str = "application/json") -> Self:
        """An answer with *body* as one line of JSON."""
        return cls(status, json.dumps(body).encode() + b"\n", content_type)
