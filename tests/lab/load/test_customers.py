"""Who sends a request: known customers with a mild skew, and newcomers who come once."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_lab.load import NEWCOMERS, Arrival, Customers, all_names, schedule


def visits(number: int, journey: str = "view-balance") -> list[Arrival]:
    return [Arrival(float(at), journey) for at in range(number)]


def test_all_names_are_everybody_who_can_come() -> None:
    names = all_names(3)

    assert names[:4] == ["user-0001", "user-0002", "user-0003", "new-0001"]
    assert names[-1] == f"new-{NEWCOMERS:04d}"
    assert len(set(names)) == 3 + NEWCOMERS


@settings(deadline=None)
@given(known=st.integers(1, 200), newcomers=st.floats(0.0, 1.0), seed=st.integers(0, 1000))
def test_only_seeded_customers_come_and_the_same_for_the_same_seed(known: int, newcomers: float, seed: int) -> None:
    arrivals = schedule({"view-balance": 20.0, "fees": 5.0}, 3.0, seed=1)
    customers = Customers(known=known, newcomers=newcomers, seed=seed)

    assigned = customers.assign(arrivals)

    assert [(visit.at, visit.journey) for visit in assigned] == [(visit.at, visit.journey) for visit in arrivals]
    assert {visit.customer for visit in assigned if visit.journey == "view-balance"} <= set(all_names(known))
    assert {visit.customer for visit in assigned if visit.journey == "fees"} <= {""}
    assert assigned == customers.assign(arrivals)


def test_nameless_journeys_do_not_change_who_comes_to_the_others() -> None:
    customers = Customers(known=60, newcomers=0.1, seed=1)
    mixed = customers.assign(
        [visit for at in range(50) for visit in (Arrival(at, "fees"), Arrival(at, "lock-account"))]
    )
    alone = customers.assign([Arrival(at, "lock-account") for at in range(50)])

    assert [visit for visit in mixed if visit.journey == "lock-account"] == alone


def test_newcomers_send_their_share_and_each_comes_once() -> None:
    number, share = 4_000, 0.05
    names = [visit.customer for visit in Customers(known=60, newcomers=share, seed=2).assign(visits(number))]
    new = [name for name in names if name.startswith("new-")]

    assert abs(len(new) - share * number) < 5 * math.sqrt(number * share * (1 - share))
    assert new == [f"new-{one:04d}" for one in range(1, len(new) + 1)]


def test_when_all_newcomers_have_been_here_the_one_away_longest_comes_again() -> None:
    names = [visit.customer for visit in Customers(known=1, newcomers=1.0, seed=3).assign(visits(NEWCOMERS + 2))]

    assert len(set(names)) == NEWCOMERS
    assert names[NEWCOMERS:] == names[:2]


def test_some_known_customers_come_more_often_and_all_of_them_come() -> None:
    """The weight of rank r is r ** -0.5, so of 60 the first comes 7.75 times as often as the last."""
    number = 20_000
    names = Counter(visit.customer for visit in Customers(known=60, seed=4).assign(visits(number)))
    total = sum(rank**-0.5 for rank in range(1, 61))

    assert len(names) == 60
    for rank in (1, 2, 60):
        share = rank**-0.5 / total
        assert abs(names[f"user-{rank:04d}"] - share * number) < 5 * math.sqrt(number * share * (1 - share))


@pytest.mark.parametrize(
    ("known", "newcomers", "message"),
    [
        pytest.param(0, 0.1, "known must be 1", id="nobody"),
        pytest.param(1, -0.1, "share of the requests from 0 to 1", id="negative share"),
        pytest.param(1, 1.1, "share of the requests from 0 to 1", id="share above 1"),
        pytest.param(1, math.nan, "share of the requests from 0 to 1", id="share not a number"),
    ],
)
def test_impossible_populations_are_refused(known: int, newcomers: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Customers(known=known, newcomers=newcomers)
