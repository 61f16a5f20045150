"""Durations by upper bound."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.metrics import LATENCY_BUCKETS, OTHER, Histogram


def cumulative(histogram: Histogram) -> list[float]:
    return [value for suffix, _, _, value in histogram.samples() if suffix == "_bucket"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        pytest.param(0.0, [1, 1, 1], id="nothing"),
        pytest.param(0.1, [1, 1, 1], id="a bound belongs to its bucket"),
        pytest.param(0.100001, [0, 1, 1], id="just above a bound"),
        pytest.param(99.0, [0, 0, 1], id="above the last bound"),
    ],
)
def test_a_duration_is_counted_in_every_bucket_it_fits_in(seconds: float, expected: list[float]) -> None:
    histogram = Histogram(0, [()], buckets=(0.1, 1.0))

    histogram.observe(seconds)

    assert cumulative(histogram) == expected


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_buckets_never_fall_and_the_last_equals_the_count(durations: list[float]) -> None:
    histogram = Histogram(0, [()])
    for duration in durations:
        histogram.observe(duration)

    buckets = cumulative(histogram)
    total, count = [value for suffix, _, _, value in histogram.samples() if suffix != "_bucket"]

    assert buckets == sorted(buckets)
    assert buckets[-1] == count == len(durations)
    assert math.isclose(total, sum(durations))


def test_declared_combinations_exist_empty_and_undeclared_ones_are_other() -> None:
    histogram = Histogram(1, [("fees",)])

    histogram.observe(0.2, "no such journey")

    counts = {labels: value for suffix, labels, _, value in histogram.samples() if suffix == "_count"}
    assert counts == {("fees",): 0, (OTHER,): 1}


@pytest.mark.parametrize("buckets", [(), (1.0, 0.5), (1.0, 1.0)], ids=["none", "falling", "twice"])
def test_bounds_must_rise(buckets: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rising"):
        Histogram(0, buckets=buckets)


def test_the_default_bounds_are_those_of_the_http_conventions() -> None:
    assert len(LATENCY_BUCKETS) == 14
    assert (LATENCY_BUCKETS[0], LATENCY_BUCKETS[-1]) == (0.005, 10.0)
