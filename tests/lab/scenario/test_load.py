"""Scenario files: what is read, and what is refused with the place, the value and the cure."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_lab.errors import UsageError
from shoal_lab.scenario import Edge, EdgeFault, PodFault, Rollout, built_in_names, load, parse

HEAD = 'title = "T"\n'
DOWN = '[[fault]]\nedges = ["auth -> database"]\nkind = "down"\n'


def test_every_scenario_of_the_article_comes_with_the_lab() -> None:
    assert built_in_names() == [
        "auth-outage",
        "bad-rollout",
        "balance-slow",
        "database-hang",
        "kafka-outage",
        "one-bad-replica",
        "stuck-consumer",
    ]
    for name in built_in_names():
        scenario = load(name)
        assert scenario.name == name
        assert scenario.story


def test_a_file_says_what_is_broken_where_and_when() -> None:
    scenario = parse(
        HEAD
        + """
        story = "two\\n lines"
        customers = 7
        newcomers = 0.5
        [phases]
        before = 10
        during = 20.5
        after = 30
        [rates]
        fees = 3
        [[fault]]
        edges = ["wallet/1 -> auth", "locks -> auth"]
        kind = "slow"
        latency = 0.25
        at = 5
        lasts = 6
        [[fault]]
        edges = ["wallet -> auth"]
        kind = "errors"
        share = 0.5
        [[pod-fault]]
        action = "kill"
        pod = "wallet/2"
        [[rollout]]
        edges = ["wallet -> database"]
        at = 4
        """,
        name="mine",
        source="mine.toml",
    )

    assert scenario.name == "mine"
    assert scenario.story == "two lines"
    assert (scenario.customers, scenario.newcomers) == (7, 0.5)
    assert (scenario.phases.before, scenario.phases.during, scenario.phases.after) == (10, 20.5, 30)
    assert scenario.rates == {"view-balance": 30.0, "lock-account": 8.0, "fees": 3.0}
    edges = (Edge("wallet", "auth", 1), Edge("locks", "auth"))
    assert scenario.edge_faults == (
        EdgeFault(edges=edges, kind="slow", latency=0.25, at=5, lasts=6),
        EdgeFault(edges=(Edge("wallet", "auth"),), kind="errors", share=0.5),
    )
    assert scenario.pod_faults == (PodFault(action="kill", service="wallet", replica=2),)
    assert scenario.rollouts == (Rollout(edges=(Edge("wallet", "database"),), at=4),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("title =", "s.toml is not valid TOML: ", id="not TOML"),
        pytest.param(DOWN, "s.toml: title: needs a text", id="no title"),
        pytest.param("title = 3\n" + DOWN, "s.toml: title: needs a text, got 3", id="title is a number"),
        pytest.param(HEAD, "s.toml: nothing is broken in it; add a [[fault]]", id="no fault"),
        pytest.param(HEAD + "tilte = 1\n" + DOWN, "s.toml: tilte: no such setting; did you mean title?", id="typo"),
        pytest.param(HEAD + DOWN + "latency = 1", "s.toml: fault[1].latency: no such setting", id="not of this kind"),
        pytest.param(
            HEAD + DOWN.replace("down", "dwon"),
            "s.toml: fault[1].kind: 'dwon' is not known; did you mean 'down'?",
            id="kind",
        ),
        pytest.param(
            HEAD + "[[fault]]\nedges = []\nkind = 'down'", "fault[1].edges: needs a list of texts, got []", id="[]"
        ),
        pytest.param(
            HEAD + DOWN.replace(" -> ", " "), "'auth database' is not an edge; write 'caller -> dep", id="edge"
        ),
        pytest.param(
            HEAD + DOWN.replace("auth ", "auth/x "), "'auth/x' is not a replica; write it like 'auth/0'", id="pod"
        ),
        pytest.param(
            HEAD + "[[fault]]\nedges = ['a -> b']\nkind = 'slow'",
            "fault[1].latency: needs a number above 0",
            id="latency",
        ),
        pytest.param(
            HEAD + "[[fault]]\nedges = ['a -> b']\nkind = 'errors'\nshare = 1.5",
            "fault[1].share: needs a number above 0 and at most 1, got 1.5",
            id="share",
        ),
        pytest.param(
            HEAD + "[phases]\nduring = -1\n" + DOWN, "phases.during: needs a number above 0, got -1", id="phase"
        ),
        pytest.param(
            HEAD + "[phases]\nduring = nan\n" + DOWN, "phases.during: needs a number above 0, got nan", id="nan"
        ),
        pytest.param(HEAD + "phases = 3\n" + DOWN, "phases: needs a table, written [phases], got 3", id="no table"),
        pytest.param(HEAD + "fault = 3", "fault: needs a list of tables, each begun with [[fault]]", id="no tables"),
        pytest.param(
            HEAD + "customers = 2.5\n" + DOWN, "customers: needs a whole number, got 2.5", id="half a customer"
        ),
        pytest.param(
            HEAD + "[[pod-fault]]\naction = 'kill'\npod = 'wallet'",
            "'wallet' names a service; name one replica",
            id="service",
        ),
        pytest.param(HEAD + "[[rollout]]\nedges = ['wallet/0 -> auth']", "a rollout is of all replicas", id="rollout"),
        pytest.param(
            HEAD + "[rates]\nview-balance = 0\nlock-account = 0\nfees = 0\n" + DOWN,
            "all rates are 0",
            id="nobody comes",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_value_and_cure(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, name="s", source="s.toml")

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"there is no scenario 'auth-outtage': did you mean auth-outage\?"):
        load("auth-outtage")
    with pytest.raises(UsageError, match="choose one of auth-outage, bad-rollout"):
        load("zzz")


def test_a_scenario_may_be_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(HEAD + DOWN)

    assert load(str(path)).name == "mine"

    with pytest.raises(UsageError, match="does not exist"):
        load(str(tmp_path / "other.toml"))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        load(str(path))


@given(st.text(max_size=200))
def test_no_text_is_more_than_a_usage_error(text: str) -> None:
    """Whatever stands in the file, the answer is a scenario or one line."""
    with contextlib.suppress(UsageError):
        parse(text, name="s", source="s.toml")
