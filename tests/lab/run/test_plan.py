"""From a scenario to a timetable, and what the company cannot play."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shoal_lab.errors import UsageError
from shoal_lab.ladder import LADDER, STEPS
from shoal_lab.run.plan import check, rates, timetable
from shoal_lab.scenario import Edge, EdgeFault, Phases, PodFault, Rollout, Scenario, built_in_names, load

SCENARIO = Scenario(name="s", title="", story="", phases=Phases(before=100, during=200, after=50))


def test_times_are_real_seconds_and_whatever_has_no_end_ends_at_the_repair() -> None:
    whole = EdgeFault(edges=(Edge("auth", "database"),), kind="down", at=20)
    short = EdgeFault(edges=(Edge("auth", "database"),), kind="hang", lasts=30)
    long = PodFault(action="block-loop", service="auth", replica=0, at=150, lasts=900)

    table = timetable(replace(SCENARIO, edge_faults=(whole, short), pod_faults=(long,)), 10.0)

    assert (table.fault_at, table.repair_at, table.end) == (10.0, 30.0, 35.0)
    assert [(action.at, action.what, action.fault) for action in table.actions] == [
        (10.0, "begin", short),
        (12.0, "begin", whole),
        (13.0, "end", short),
        (25.0, "begin", long),
        (30.0, "end", whole),
        (30.0, "end", long),
    ]


def test_what_ends_at_a_moment_ends_before_what_begins_at_it() -> None:
    first = EdgeFault(edges=(Edge("auth", "database"),), kind="down", lasts=10)
    second = EdgeFault(edges=(Edge("auth", "database"),), kind="hang", at=10)

    table = timetable(replace(SCENARIO, edge_faults=(second, first)), 1.0)

    assert [(action.what, action.fault) for action in table.actions if action.at == 110.0] == [
        ("end", first),
        ("begin", second),
    ]


@pytest.mark.parametrize("name", built_in_names())
def test_every_scenario_can_be_played_under_every_step(name: str) -> None:
    check(load(name), LADDER)


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        pytest.param(
            replace(SCENARIO, edge_faults=(EdgeFault(edges=(Edge("auth", "redis"),), kind="down"),)),
            "no edge 'auth -> redis' under deep; there are auth -> database, balance -> database, wallet -> auth",
            id="edge",
        ),
        pytest.param(
            replace(SCENARIO, edge_faults=(EdgeFault(edges=(Edge("auth", "database", 3),), kind="down"),)),
            "no edge 'auth/3 -> database'",
            id="replica of an edge",
        ),
        pytest.param(
            replace(SCENARIO, edge_faults=(EdgeFault(edges=(Edge("auth", "database"),), kind="errors"),)),
            "'auth -> database' does not speak HTTP, so it cannot answer with errors; use down, hang or slow",
            id="errors of a database",
        ),
        pytest.param(
            replace(SCENARIO, pod_faults=(PodFault(action="kill", service="wallet", replica=3),)),
            "no pod wallet/3 under deep; there are auth/0..2, balance/0..2, wallet/0..2, activity/0..2",
            id="pod",
        ),
        pytest.param(
            replace(SCENARIO, rollouts=(Rollout(edges=(Edge("wallet", "redis"),)),)),
            "no edge 'wallet -> redis' under deep",
            id="rollout",
        ),
    ],
)
def test_what_the_company_does_not_have_is_refused_with_what_there_is(scenario: Scenario, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(scenario, [STEPS["deep"]])

    assert message in str(caught.value)


def test_a_total_rate_keeps_the_proportions() -> None:
    scenario = replace(SCENARIO, rates={"view-balance": 30.0, "lock-account": 10.0, "fees": 0.0})

    assert rates(scenario, None) == {"view-balance": 30.0, "lock-account": 10.0}
    assert rates(scenario, 8.0) == {"view-balance": 6.0, "lock-account": 2.0}
