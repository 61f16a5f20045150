"""When everything is dark, and when it is well again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_lab.record import Sample
from shoal_lab.report.outage import DARK_FOR, dark_stretches, time_to_recover


def track(marks: str, *, journey: str = "fees", start: float = 0.0, every: float = 0.25) -> list[Sample]:
    """One sample a character: `.` was served, `x` was not."""
    return [
        Sample(journey, start + number * every, 0.1, 200 if mark == "." else 503) for number, mark in enumerate(marks)
    ]


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        pytest.param("........", [], id="never"),
        pytest.param("..xxx...", [], id="three quarters of a second is bad luck"),
        pytest.param("..xxxx..", [(0.5, 1.5)], id="a second is an outage"),
        pytest.param("xxxxxxxx", [(0.0, 2.0)], id="from beginning to end"),
        pytest.param("..xxxx.xxxx.", [(0.5, 1.5), (1.75, 2.75)], id="twice"),
        pytest.param("....xxxx", [(1.0, 2.0)], id="to the end"),
        pytest.param("....x", [], id="the end is no proof of a second"),
    ],
)
def test_an_outage_is_a_second_in_which_nothing_succeeds(marks: str, expected: list[tuple[float, float]]) -> None:
    assert dark_stretches(track(marks), since=0.0, until=len(marks) * 0.25) == expected


def test_what_failed_before_the_fault_is_not_its_outage() -> None:
    assert dark_stretches(track("xxxxxxxx"), since=1.0, until=2.0) == [(1.0, 2.0)]


def test_one_journey_that_is_served_keeps_the_rest_from_being_a_total_outage() -> None:
    samples = track("xxxxxxxx", journey="view-balance") + track("........", journey="fees", start=0.1)

    assert dark_stretches(samples, since=0.0, until=2.0) == []


def test_a_journey_nobody_asked_for_does_not_pass_as_dark() -> None:
    """Fees are asked for only at the beginning; what became of them later nobody knows."""
    samples = track("xxxxxxxx", journey="view-balance") + track(".", journey="fees", start=0.1)

    assert dark_stretches(samples, since=0.0, until=2.0) == []


def test_recovery_is_the_first_moment_of_two_good_seconds() -> None:
    """Served again at 1.0 s, but not for two seconds; at 2.25 s for good."""
    samples = track("xxxx....x" + "." * 20)

    assert time_to_recover(samples, ["fees"], repair=0.5, ended=7.25) == 1.75


def test_what_was_never_broken_has_recovered_at_once() -> None:
    assert time_to_recover(track("." * 20), ["fees"], repair=1.0, ended=5.0) == 0.0


def test_good_seconds_cut_off_by_the_end_are_no_recovery() -> None:
    assert time_to_recover(track("xxxx......."), ["fees"], repair=0.0, ended=2.75) is None


def test_every_journey_must_be_well() -> None:
    samples = track("." * 40, journey="fees") + track("x" * 12 + "." * 28, journey="lock-account")

    assert time_to_recover(samples, ["fees", "lock-account"], repair=1.0, ended=10.0) == 2.0
    assert time_to_recover(samples, ["fees"], repair=1.0, ended=10.0) == 0.0


def test_a_journey_nobody_asked_for_again_has_not_recovered() -> None:
    samples = track("." * 40, journey="fees") + track("xx", journey="lock-account")

    assert time_to_recover(samples, ["fees", "lock-account"], repair=1.0, ended=10.0) is None


def test_with_no_journey_to_ask_about_there_is_no_recovery() -> None:
    assert time_to_recover(track("...."), [], repair=0.0, ended=1.0) is None


@given(st.text(alphabet=".x", min_size=1, max_size=60))
def test_stretches_are_apart_long_enough_and_free_of_success(marks: str) -> None:
    samples = track(marks)
    until = len(marks) * 0.25

    stretches = dark_stretches(samples, since=0.0, until=until)

    assert all(end - start >= DARK_FOR for start, end in stretches)
    assert all(first[1] < second[0] for first, second in pairwise(stretches))
    assert not any(start <= sample.at < end and sample.ok for start, end in stretches for sample in samples)
    # Every run of four failures, which is a second, lies in some stretch.
    runs = [number for number in range(len(marks)) if marks[number : number + 4] == "xxxx"]
    assert all(any(start <= number * 0.25 < end for start, end in stretches) for number in runs)
