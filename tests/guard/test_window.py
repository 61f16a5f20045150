"""How much of a running count is recent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shoal.guard.window import Window


class Counted:
    """A window with the count that it is told of, as its users keep it."""

    def __init__(self) -> None:
        self.window = Window(seconds=10.0, buckets=10, series=1)
        self.count = 0

    def note(self, now: float) -> None:
        if now >= self.window.turns_at:
            self.window.advance(now, self.count)
        self.count += 1

    def recent(self, now: float) -> int:
        return self.window.since(now, self.count)[0]


def test_counts_are_forgotten_bucket_by_bucket() -> None:
    counted = Counted()
    for second in range(10):
        counted.note(100.5 + second)

    assert [counted.recent(now) for now in (109.9, 110.0, 111.0, 118.9, 119.0)] == [10, 9, 8, 1, 0]


def test_a_long_silence_forgets_everything_at_once() -> None:
    counted = Counted()
    counted.note(100.0)

    assert counted.recent(1e9) == 0
    counted.note(1e9)
    assert counted.recent(1e9 + 5) == 1


def test_a_reader_with_an_older_time_changes_nothing() -> None:
    """A thread reads the clock, is suspended, and comes after one that read it later."""
    counted = Counted()
    counted.note(105.0)

    counted.window.advance(101.0, counted.count)
    counted.note(101.0)

    assert counted.recent(105.0) == 2


def test_a_new_beginning_forgets_what_was_before() -> None:
    counted = Counted()
    counted.note(105.0)
    counted.note(105.0)

    counted.window.restart(106.0, counted.count - 1)

    assert counted.recent(106.5) == 1


def test_series_are_told_apart_and_may_run_past_four_billion() -> None:
    window = Window(seconds=10.0, buckets=10, series=2)
    window.advance(0.0, 2**32 - 1, 7)

    assert window.since(1.0, 2**32 + 4, 7) == (5, 0)


@given(st.lists(st.floats(0.0, 40.0), max_size=60), st.floats(0.0, 12.0))
def test_it_tells_what_an_exact_log_tells_give_or_take_a_bucket(times: list[float], later: float) -> None:
    counted = Counted()
    log = sorted(times)
    for time in log:
        counted.note(time)
    now = (log[-1] if log else 0.0) + later

    recent = counted.recent(now)

    assert sum(now - time < 9.0 for time in log) <= recent <= sum(now - time <= 10.0 for time in log)


def test_a_part_of_the_window_may_be_asked_for() -> None:
    counted = Counted()
    for second in range(10):
        counted.note(100.5 + second)

    assert counted.window.since(109.9, counted.count, seconds=3.0) == (3,)
    assert counted.window.since(109.9, counted.count, seconds=60.0) == (10,)
