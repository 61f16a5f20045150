"""Scenarios: what is done to the company, as data. The ones that come with the lab are in `files/`."""

from shoal_lab.scenario.load import built_in_names, load, parse
from shoal_lab.scenario.model import (
    Edge,
    EdgeFault,
    FaultKind,
    Phases,
    PodAction,
    PodFault,
    Rollout,
    Scenario,
)

__all__ = [
    "Edge",
    "EdgeFault",
    "FaultKind",
    "Phases",
    "PodAction",
    "PodFault",
    "Rollout",
    "Scenario",
    "built_in_names",
    "load",
    "parse",
]
