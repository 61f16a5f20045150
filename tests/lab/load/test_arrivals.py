"""Arrivals are a Poisson process, the same for the same seed, and each journey's own."""

import itertools
import math
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal_lab.load import Arrival, poisson_arrivals, schedule

rates = st.dictionaries(
    st.sampled_from(["view-balance", "lock-account", "fees"]), st.floats(0.0, 40.0, allow_nan=False), max_size=3
)


@settings(deadline=None)
@given(rate=st.floats(0.0, 50.0), duration=st.floats(0.0, 20.0), seed=st.integers())
def test_arrivals_are_in_order_and_inside_the_duration(rate: float, duration: float, seed: int) -> None:
    moments = list(poisson_arrivals(rate, duration, random.Random(seed)))

    assert moments == sorted(moments)
    assert all(0 <= moment < duration for moment in moments)


def test_the_number_of_arrivals_has_the_mean_and_the_variance_of_a_poisson_process() -> None:
    """Counts in 2,000 windows of mean 10: mean and variance are both 10, within 5 sigma of each estimate."""
    windows, mean = 2_000, 10.0
    counts = [0] * windows
    for moment in poisson_arrivals(mean, windows, random.Random(20)):
        counts[int(moment)] += 1

    seen = sum(counts) / windows
    variance = sum((count - seen) ** 2 for count in counts) / (windows - 1)

    assert abs(seen - mean) < 5 * math.sqrt(mean / windows)
    # Variance of the sample variance of a Poisson distribution: (mean + 2 mean^2) / n.
    assert abs(variance - mean) < 5 * math.sqrt((mean + 2 * mean**2) / windows)


def test_the_gaps_have_no_memory() -> None:
    """Exponential gaps: a share of exp(-1) is longer than the mean gap, and neighbours are not correlated."""
    moments = list(poisson_arrivals(5.0, 4_000.0, random.Random(21)))
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    number, mean = len(gaps), 0.2

    longer = sum(gap > mean for gap in gaps) / number
    share = math.exp(-1)
    correlation = sum((one - mean) * (next_one - mean) for one, next_one in itertools.pairwise(gaps)) / number / mean**2

    assert abs(longer - share) < 5 * math.sqrt(share * (1 - share) / number)
    assert abs(correlation) < 5 / math.sqrt(number)


@settings(deadline=None)
@given(rates=rates, seed=st.integers(0, 10_000))
def test_the_schedule_is_sorted_and_repeats_for_a_seed(rates: dict[str, float], seed: int) -> None:
    arrivals = schedule(rates, 5.0, seed=seed)

    assert arrivals == sorted(arrivals)
    assert arrivals == schedule(rates, 5.0, seed=seed)
    assert arrivals == schedule(dict(reversed(rates.items())), 5.0, seed=seed)


@settings(deadline=None)
@given(rates=rates, seed=st.integers(0, 10_000))
def test_each_journey_arrives_as_if_it_were_alone(rates: dict[str, float], seed: int) -> None:
    together = schedule(rates, 5.0, seed=seed)

    for journey, rate in rates.items():
        alone = schedule({journey: rate}, 5.0, seed=seed)
        assert [arrival for arrival in together if arrival.journey == journey] == alone


@settings(deadline=None)
@given(rates=rates, seed=st.integers(0, 10_000))
def test_a_longer_load_only_adds_arrivals_at_its_end(rates: dict[str, float], seed: int) -> None:
    short, long = schedule(rates, 3.0, seed=seed), schedule(rates, 5.0, seed=seed)

    assert long[: len(short)] == short
    assert all(arrival.at >= 3.0 for arrival in long[len(short) :])


def test_journeys_and_seeds_do_not_arrive_in_step() -> None:
    both = schedule({"fees": 5.0, "view-balance": 5.0}, 5.0, seed=1)
    other = schedule({"fees": 5.0}, 5.0, seed=2)
    moments = {
        journey: [arrival.at for arrival in both if arrival.journey == journey] for journey in ("fees", "view-balance")
    }

    assert not set(moments["fees"]) & set(moments["view-balance"])
    assert not set(moments["fees"]) & {arrival.at for arrival in other}


def test_another_process_gets_the_same_schedule() -> None:
    """Hashes of strings differ from process to process, so none may be in the seed."""
    program = "from shoal_lab.load import schedule; print(schedule({'fees': 3.0, 'view-balance': 2.0}, 2.0, seed=7))"

    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert printed == {f"{schedule({'fees': 3.0, 'view-balance': 2.0}, 2.0, seed=7)}\n"}


@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan], ids=str)
def test_impossible_rates_and_durations_are_refused_at_once(value: float) -> None:
    with pytest.raises(ValueError, match="rate must be"):
        poisson_arrivals(value, 1.0, random.Random(1))
    with pytest.raises(ValueError, match="duration must be"):
        poisson_arrivals(1.0, value, random.Random(1))


def test_an_arrival_nobody_claimed_has_no_customer() -> None:
    assert Arrival(0.5, "fees").customer == ""
