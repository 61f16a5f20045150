"""Counts of the last so many seconds."""

from __future__ import annotations

from shoal.guard.window import Window


def note(window: Window, now: float) -> None:
    if now >= window.ends:
        window.advance(now)
    window.first[window.at] += 1


def test_counts_are_forgotten_bucket_by_bucket() -> None:
    window = Window(seconds=10.0, buckets=10)
    for second in range(10):
        note(window, 100.5 + second)

    assert [window.totals(now)[0] for now in (109.9, 110.0, 111.0, 118.9, 119.0)] == [10, 9, 8, 1, 0]


def test_a_long_silence_forgets_everything_at_once() -> None:
    window = Window(seconds=10.0, buckets=10)
    note(window, 100.0)

    assert window.totals(1e9) == (0, 0)
    note(window, 1e9)
    assert window.totals(1e9 + 5) == (1, 0)


def test_a_reader_with_an_older_time_changes_nothing() -> None:
    """A thread reads the clock, is suspended, and comes after one that read it later."""
    window = Window(seconds=10.0, buckets=10)
    note(window, 105.0)

    window.advance(101.0)
    note(window, 101.0)

    assert window.totals(105.0) == (2, 0)
