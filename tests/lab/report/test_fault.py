"""The fault in words that can follow "after"."""

from __future__ import annotations

import pytest

from shoal_lab.report.fault import fault_in_words
from shoal_lab.scenario import Scenario, built_in_names, load
from shoal_lab.scenario.model import Edge, EdgeFault, PodFault, Rollout

SERVICES = ("auth", "balance", "wallet", "activity", "locks")


def scenario(*edge_faults: EdgeFault, pods: tuple[PodFault, ...] = (), rollouts: tuple[Rollout, ...] = ()) -> Scenario:
    return Scenario(name="x", title="", story="", edge_faults=edge_faults, pod_faults=pods, rollouts=rollouts)


AUTH_DATABASE = (Edge("auth", "database"),)
TO_AUTH = (Edge("wallet", "auth"), Edge("locks", "auth"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param(scenario(EdgeFault(edges=AUTH_DATABASE, kind="down")), "auth's database failed", id="database"),
        pytest.param(
            scenario(EdgeFault(edges=(Edge("locks", "database"),), kind="hang")),
            "the database of locks stopped answering",
            id="possessive of a plural",
        ),
        pytest.param(
            scenario(EdgeFault(edges=TO_AUTH, kind="down")), "auth went away for wallet and locks", id="two callers"
        ),
        pytest.param(
            scenario(EdgeFault(edges=(Edge("wallet", "auth", 0),), kind="hang")),
            "auth stopped answering wallet/0",
            id="one replica",
        ),
        pytest.param(
            scenario(EdgeFault(edges=(Edge("wallet", "balance"),), kind="slow", latency=2.0)),
            "balance became 2 s slower for wallet",
            id="slow",
        ),
        pytest.param(
            scenario(EdgeFault(edges=(Edge("wallet", "balance"),), kind="errors", share=0.57)),
            "balance answered 57 % of requests with an error for wallet",
            id="errors",
        ),
        pytest.param(
            scenario(pods=(PodFault(action="kill", service="wallet", replica=1),)), "wallet/1 was killed", id="pod"
        ),
        pytest.param(
            scenario(rollouts=(Rollout(edges=(Edge("wallet", "database"),)),)),
            "a version of wallet that cannot reach its database was rolled out",
            id="rollout",
        ),
        pytest.param(
            scenario(
                EdgeFault(edges=AUTH_DATABASE, kind="down"),
                pods=(PodFault(action="block-loop", service="wallet", replica=0),),
            ),
            "auth's database failed and the event loop of wallet/0 was blocked",
            id="two faults",
        ),
        pytest.param(
            scenario(*[EdgeFault(edges=AUTH_DATABASE, kind="down")] * 4),
            "auth's database failed (and 3 faults more)",
            id="many faults",
        ),
        pytest.param(scenario(), "the fault began", id="none"),
    ],
)
def test_a_fault_is_a_clause(given: Scenario, words: str) -> None:
    assert fault_in_words(given, services=SERVICES) == words


def test_an_edge_of_a_service_that_did_not_run_is_passed_over() -> None:
    given = scenario(EdgeFault(edges=(Edge("wallet", "database"), Edge("locks", "database")), kind="hang"))

    assert fault_in_words(given, services=["wallet", "auth"]) == "wallet's database stopped answering"


@pytest.mark.parametrize("name", built_in_names())
def test_every_scenario_of_the_lab_has_words(name: str) -> None:
    assert fault_in_words(load(name), services=SERVICES) != "the fault began"
