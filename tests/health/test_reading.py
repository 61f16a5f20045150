"""What a check's results amount to, and for how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.health import CheckReading


def reading_after(results: str, *, down: int = 3, up: int = 1) -> CheckReading:
    """A reading after results one second apart: `+` for a success, `-` for a failure."""
    reading = CheckReading(stale_after=10.0, failures_before_down=down, successes_before_up=up)
    for second, result in enumerate(results):
        if result == "+":
            reading.succeeded(now=float(second), took=0.01)
        else:
            reading.failed("refused", now=float(second), took=0.01)
    return reading


@pytest.mark.parametrize(
    ("results", "status"),
    [
        pytest.param("", "unknown", id="no result is unknown"),
        pytest.param("+", "up", id="the first success decides"),
        pytest.param("-", "down", id="the first failure decides"),
        pytest.param("+--", "up", id="two failures are a hiccup"),
        pytest.param("+---", "down", id="three are not"),
        pytest.param("+--+--", "up", id="a success in between starts the count again"),
        pytest.param("+---+", "up", id="one success is enough"),
        pytest.param("-+", "up", id="also after a first failure"),
    ],
)
def test_the_verdict_has_hysteresis(results: str, status: str) -> None:
    assert reading_after(results).status(now=float(len(results))) == status


@pytest.mark.parametrize(
    ("results", "status"),
    [("-+", "down"), ("-++", "up"), ("-+-+", "down"), ("+-", "down"), ("+", "up")],
    ids=["one success", "two", "interrupted", "one failure", "the first decides"],
)
def test_both_counts_are_settings(results: str, status: str) -> None:
    assert reading_after(results, down=1, up=2).status(now=float(len(results))) == status


@pytest.mark.parametrize(
    ("age", "freshness", "status"),
    [(0.0, "fresh", "up"), (10.0, "fresh", "up"), (10.1, "stale", "unknown")],
    ids=["new", "just fresh", "stale"],
)
def test_an_old_reading_is_unknown_never_up(age: float, freshness: str, status: str) -> None:
    reading = reading_after("+")

    assert (reading.freshness(now=age), reading.status(now=age)) == (freshness, status)


def test_nothing_sampled_has_a_word_of_its_own() -> None:
    assert reading_after("").freshness(now=0.0) == "not yet sampled"


def test_results_are_counted_and_the_last_one_explained() -> None:
    reading = reading_after("+--")

    assert (reading.successes, reading.failures) == (1, 2)
    assert (reading.at, reading.last_success_at, reading.error) == (2.0, 0.0, "refused")

    reading.succeeded(now=3.0, took=0.5)
    assert (reading.error, reading.took, reading.last_success_at) == (None, 0.5, 3.0)


@given(st.text("+-", max_size=30), st.integers(1, 4), st.integers(1, 4))
def test_a_change_needs_as_many_equal_results_as_was_asked_for(results: str, down: int, up: int) -> None:
    """Whenever the verdict turns, the results just before it agree with the new one."""
    for end in range(2, len(results) + 1):
        before = reading_after(results[: end - 1], down=down, up=up).status(now=float(end))
        after = reading_after(results[:end], down=down, up=up).status(now=float(end))
        if before != after:
            needed, sign = (up, "+") if after == "up" else (down, "-")
            assert results[:end].endswith(sign * needed)


@pytest.mark.parametrize(("down", "up"), [(0, 1), (1, 0)])
def test_counts_below_one_are_refused(down: int, up: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1, got {down} and {up}"):
        CheckReading(stale_after=1.0, failures_before_down=down, successes_before_up=up)
