"""Who may call a dependency, judged by what calls to it returned."""

from __future__ import annotations

import random

import pytest

from shoal.guard import Breaker, BreakerSettings, Cells

QUICK = BreakerSettings(consecutive=3, consecutive_over=0.0, open_for=0.3, longest_open=2.4, lease=1.0)


def make(settings: BreakerSettings | None = None, *, timeout: float = 0.0) -> Breaker:
    return Breaker(settings or BreakerSettings(), Cells(), rng=random.Random(7), timeout=timeout)


def ticket(breaker: Breaker, now: float) -> int:
    admitted = breaker.admit(now)
    assert admitted is not None
    return admitted


def state(breaker: Breaker) -> str:
    """Read afresh: the type checker believes that an attribute it has compared stays what it was."""
    return breaker.state


def trip(breaker: Breaker, now: float) -> None:
    for _ in range(3):
        breaker.failed(ticket(breaker, now), now)
    assert state(breaker) == "open"


def test_half_of_at_least_twenty_calls_failing_opens_it() -> None:
    breaker = make()
    for call in range(19):
        report = breaker.failed if call % 2 else breaker.succeeded
        report(ticket(breaker, 0.0), 0.0)
    assert state(breaker) == "closed"

    breaker.failed(ticket(breaker, 0.0), 0.0)

    assert state(breaker) == "open"


def test_less_than_half_failing_leaves_it_closed() -> None:
    breaker = make()

    for call in range(300):
        report = breaker.failed if call % 5 in (0, 2) else breaker.succeeded
        report(ticket(breaker, call * 0.1), call * 0.1)

    assert state(breaker) == "closed"


def test_ten_failures_in_a_row_open_it_if_they_span_a_second() -> None:
    breaker = make()
    for _ in range(15):
        breaker.failed(ticket(breaker, 0.0), 0.0)
    assert state(breaker) == "closed", "a burst of one instant proves nothing"

    breaker.failed(ticket(breaker, 1.0), 1.0)

    assert state(breaker) == "open"


def test_a_success_ends_the_row() -> None:
    breaker = make()
    for call in range(18):
        report = breaker.succeeded if call % 9 == 8 else breaker.failed
        report(ticket(breaker, float(call)), float(call))

    assert state(breaker) == "closed"


def test_old_successes_do_not_hide_a_new_outage() -> None:
    """A window of counts would need as many failures again; this one forgets by time."""
    breaker = make(BreakerSettings(consecutive=1000))
    for call in range(500):
        breaker.succeeded(ticket(breaker, call * 0.01), call * 0.01)

    failures = 0
    while state(breaker) == "closed":
        now = 40.0 + failures
        breaker.failed(ticket(breaker, now), now)
        failures += 1

    assert failures == 20


def test_the_pause_doubles_while_trials_fail_and_starts_again_after_closing() -> None:
    breaker = make()
    now = 0.0
    pauses = []
    for opened in range(1, 7):
        while breaker.changes.get("open", 0) < opened:
            now += 0.2
            breaker.failed(ticket(breaker, now), now)
        pauses.append(breaker.retry_after(now))
        now += pauses[-1]
    for bound, pause in zip([5, 10, 20, 40, 60, 60], pauses, strict=True):
        assert bound / 2 <= pause <= bound, "half of the pause is jitter"

    breaker.succeeded(ticket(breaker, now), now)
    breaker.succeeded(ticket(breaker, now), now)
    assert state(breaker) == "closed"
    for step in range(10):
        breaker.failed(ticket(breaker, now + step), now + step)

    assert breaker.retry_after(now + 9) <= 5


def test_two_of_three_trials_close_it_and_one_failure_alone_does_not_reopen_it() -> None:
    breaker = make(QUICK)
    trip(breaker, 0.0)
    first, second, third = (ticket(breaker, 0.3) for _ in range(3))

    breaker.failed(first, 0.4)
    assert state(breaker) == "half-open"
    breaker.succeeded(second, 0.4)
    assert state(breaker) == "half-open"
    breaker.succeeded(third, 0.4)

    assert state(breaker) == "closed"
    assert breaker.changes == {"closed": 1, "open": 1, "half-open": 1}


def test_two_failed_trials_reopen_it() -> None:
    breaker = make(QUICK)
    trip(breaker, 0.0)
    first, second, third = (ticket(breaker, 0.3) for _ in range(3))

    breaker.succeeded(first, 0.4)
    breaker.failed(second, 0.4)
    breaker.failed(third, 0.4)

    assert state(breaker) == "open"
    assert breaker.admit(0.4) is None


def test_closing_forgets_the_failures_that_opened_it() -> None:
    breaker = make(QUICK)
    trip(breaker, 0.0)
    for trial in (ticket(breaker, 0.3), ticket(breaker, 0.3)):
        breaker.succeeded(trial, 0.3)

    breaker.failed(ticket(breaker, 0.3), 0.3)
    breaker.failed(ticket(breaker, 0.3), 0.3)

    assert state(breaker) == "closed"


@pytest.mark.parametrize(
    ("settings", "timeout", "lease"),
    [
        pytest.param(BreakerSettings(), 0.5, 5.0, id="as-long-as-it-is-open"),
        pytest.param(BreakerSettings(), 30.0, 30.0, id="as-long-as-a-call-may-take"),
        pytest.param(BreakerSettings(lease=2.0), 30.0, 2.0, id="as-set"),
    ],
)
def test_a_lease_is_long_enough_for_the_trial(settings: BreakerSettings, timeout: float, lease: float) -> None:
    breaker = make(settings, timeout=timeout)
    for second in range(10):
        breaker.failed(ticket(breaker, float(second)), float(second))
    for _ in range(3):
        ticket(breaker, 100.0)

    assert breaker.admit(100.0 + lease - 0.01) is None
    assert breaker.retry_after(100.0) == pytest.approx(lease)
    assert breaker.admit(100.0 + lease) is not None


def test_a_trial_that_reports_after_its_lease_was_lent_again_counts_for_nothing() -> None:
    breaker = make(QUICK)
    trip(breaker, 0.0)
    late = [ticket(breaker, 0.3) for _ in range(3)]
    for _ in range(3):
        ticket(breaker, 1.3)

    for trial in late:
        breaker.failed(trial, 1.4)

    assert state(breaker) == "half-open"
    assert breaker.admit(1.4) is None


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        pytest.param({"window": 0.0}, "window must be above 0", id="window"),
        pytest.param({"failure_ratio": 1.1}, "failure_ratio must be above 0 and at most 1, got 1.1", id="ratio"),
        pytest.param({"minimum_calls": 0}, "must be at least 1", id="minimum"),
        pytest.param({"open_for": 61.0}, "at most longest_open, got 61.0 and 60.0", id="open-for"),
        pytest.param({"successes_to_close": 4}, "at most trials, got 4 of 3", id="successes"),
        pytest.param({"lease": 0.0}, "lease must be above 0 seconds, or None, got 0.0", id="lease"),
    ],
)
def test_settings_that_cannot_work_are_refused(bad: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BreakerSettings(**bad)  # type: ignore[arg-type] # wrong on purpose, one at a time
