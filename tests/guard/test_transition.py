"""What a guard says of its breaker, to those who listen."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from shoal.guard import BreakerSettings, Guard, Transition
from shoal.testing import ManualClock

MakeGuard = Callable[..., Guard]

BREAKER = BreakerSettings(consecutive=2, consecutive_over=0.0)


def refuse() -> None:
    raise ConnectionRefusedError


def break_and_mend(guard: Guard, clock: ManualClock) -> None:
    clock.advance(10.0)
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            guard.run(refuse)
    clock.advance(5.0)
    for _ in range(2):
        guard.run(lambda: "ok")


def test_every_change_is_told_once_with_its_reason(clock: ManualClock, make_guard: MakeGuard) -> None:
    told: list[tuple[str, Transition]] = []
    guard = make_guard(attempts=1, breaker=BREAKER, on_transition=lambda name, change: told.append((name, change)))
    began = clock.now()

    for _ in range(100):
        guard.run(lambda: "ok")
    break_and_mend(guard, clock)

    assert told == [
        (
            "auth",
            Transition(
                before="closed", after="open", at=began + 10.0, lasted=10.0, reason="2 attempts in a row failed"
            ),
        ),
        (
            "auth",
            Transition(before="open", after="half-open", at=began + 15.0, lasted=5.0, reason="the pause is over"),
        ),
        (
            "auth",
            Transition(
                before="half-open", after="closed", at=began + 15.0, lasted=0.0, reason="2 trial calls were answered"
            ),
        ),
    ]


def test_unless_told_otherwise_they_are_logged(
    clock: ManualClock, make_guard: MakeGuard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="shoal.guard")

    break_and_mend(make_guard(attempts=1, breaker=BREAKER), clock)

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "auth: breaker open after 10.0 s closed: 2 attempts in a row failed"),
        ("INFO", "auth: breaker half-open after 5.0 s open: the pause is over"),
        ("INFO", "auth: breaker closed after 0.0 s half-open: 2 trial calls were answered"),
    ]


def test_a_listener_that_fails_is_its_own_problem(clock: ManualClock, make_guard: MakeGuard) -> None:
    def broken(name: str, change: Transition) -> None:
        raise RuntimeError(name)

    guard = make_guard(attempts=1, breaker=BREAKER, on_transition=broken)

    break_and_mend(guard, clock)

    assert guard.breaker_state == "closed"


def test_a_listener_may_ask_the_guard(clock: ManualClock, make_guard: MakeGuard) -> None:
    seen: list[str] = []
    guard: Guard = make_guard(
        attempts=1, breaker=BREAKER, on_transition=lambda name, change: seen.append(guard.health().status)
    )

    break_and_mend(guard, clock)

    assert seen == ["down", "degraded", "up"]


def test_a_ratio_is_told_with_its_figures(clock: ManualClock, make_guard: MakeGuard) -> None:
    told: list[str] = []
    guard = make_guard(attempts=1, on_transition=lambda name, change: told.append(change.reason))
    for _ in range(10):
        guard.run(lambda: "ok")

    for _ in range(10):
        with pytest.raises(ConnectionRefusedError):
            guard.run(refuse)

    assert told == ["10 of 20 attempts in 30 s failed"]
