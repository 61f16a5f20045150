"""Slow answers: scenario g of the breaker."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shoal.errors import BreakerOpenError
from shoal.guard import BreakerSettings, Guard
from shoal.testing import ManualClock

MakeGuard = Callable[..., Guard]

SLOW = BreakerSettings(slow_after=0.4)


def test_answers_that_are_nearly_all_slow_open_it(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(breaker=SLOW)

    for _ in range(20):
        guard.run(clock.advance, 0.5)

    with pytest.raises(BreakerOpenError):
        guard.run(lambda: "ok")
    assert guard.counters.calls_success == 20, "slow answers are answers"


def test_a_fifth_of_quick_answers_and_one_more_keeps_it_closed(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(breaker=SLOW)

    for _ in range(20):
        guard.run(clock.advance, 0.1)
        for _ in range(3):
            guard.run(clock.advance, 0.4)

    assert guard.breaker_state == "closed"


def test_unless_it_is_asked_for_slow_is_no_reason(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard()

    for _ in range(100):
        guard.run(clock.advance, 0.99)

    assert guard.breaker_state == "closed"


def test_slow_failures_are_slow_too(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, breaker=BreakerSettings(slow_after=0.4, failure_ratio=1.0, consecutive=1000))

    def slow_failure() -> None:
        clock.advance(0.5)
        raise ConnectionResetError

    for turn in range(20):
        if turn % 2:
            with pytest.raises(ConnectionResetError):
                guard.run(slow_failure)
        else:
            guard.run(clock.advance, 0.5)

    assert guard.breaker_state == "open"


def test_a_slow_trial_does_not_close_it(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(breaker=SLOW)
    for _ in range(20):
        guard.run(clock.advance, 0.5)
    clock.advance(5.0)

    for _ in range(2):
        guard.run(clock.advance, 0.5)

    assert guard.breaker_state == "open"
    clock.advance(10.0)
    for _ in range(2):
        guard.run(clock.advance, 0.1)
    assert guard.breaker_state == "closed"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        pytest.param({"slow_after": 0.0}, "slow_after must be above 0 seconds, or None, got 0.0", id="after"),
        pytest.param({"slow_ratio": 1.5}, "slow_ratio must be above 0 and at most 1, got 1.5", id="ratio"),
    ],
)
def test_settings_that_cannot_work_are_refused(bad: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BreakerSettings(**bad)


def test_slower_than_the_timeout_is_not_slow_but_late(make_guard: MakeGuard) -> None:
    with pytest.raises(ValueError, match=r"slow_after must be below the timeout, .* got 0\.4 and 0\.3"):
        make_guard(timeout=0.3, breaker=SLOW)
