"""What a customer's app sends for each journey."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Errand:
    """One request, without a body; *needs_token* says that only a customer who has logged in can send it."""

    method: str
    path: str
    needs_token: bool


JOURNEYS: Mapping[str, Errand] = {
    "view-balance": Errand("GET", "/balance", needs_token=True),
    "lock-account": Errand("POST", "/account/lock", needs_token=True),
    "fees": Errand("GET", "/fees", needs_token=False),
}
"""The journeys that start at the edge."""
