"""A guard that only looks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from shoal.guard import BreakerSettings, Guard, deadline
from shoal.testing import ManualClock

MakeGuard = Callable[..., Guard]


def refuse() -> None:
    raise ConnectionRefusedError


def test_an_open_breaker_lets_everybody_through_and_counts_them(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, shadow=True, breaker=BreakerSettings(consecutive=3, consecutive_over=0.0))
    made = 0

    for _ in range(10):
        with pytest.raises(ConnectionRefusedError):
            guard.run(refuse)
        made += 1

    assert made == 10
    assert guard.breaker_state == "open"
    assert guard.counters.rejected_by == {"breaker": 0, "bulkhead": 0, "shed": 0, "late": 0}
    assert guard.counters.shadow_rejected_by["breaker"] == 7
    assert guard.counters.attempts_error == 10


def test_its_breaker_closes_as_a_real_one_would(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, shadow=True, breaker=BreakerSettings(consecutive=1, consecutive_over=0.0))
    with pytest.raises(ConnectionRefusedError):
        guard.run(refuse)
    clock.advance(5.0)

    for _ in range(2):
        guard.run(lambda: "ok")

    assert guard.breaker_state == "closed"


def test_a_full_bulkhead_lets_everybody_in(make_guard: MakeGuard) -> None:
    guard = make_guard(limit=1, shadow=True)

    assert guard.run(lambda: guard.run(lambda: guard.in_flight)) == 2
    assert guard.counters.shadow_rejected_by["bulkhead"] == 1
    assert guard.in_flight == 0


async def test_a_late_call_is_made_with_the_guards_own_timeout(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(shadow=True)

    async def call() -> str:
        return "ok"

    with deadline(0.0, clock=clock):
        assert guard.run(lambda: "ok") == "ok"
        assert await guard.arun(call) == "ok"
        async with guard.call() as block:
            assert block.remaining() == 1.0

    assert guard.counters.shadow_rejected_by["late"] == 3


def test_retries_are_paid_for_all_the_same(make_guard: MakeGuard) -> None:
    """Not to repeat a call is no rejection, and a shadow must not be more load than no guard at all."""
    guard = make_guard(attempts=3, budget=None, shadow=True, breaker=BreakerSettings(consecutive=1, consecutive_over=0))

    for _ in range(10):
        with contextlib.suppress(ConnectionRefusedError):
            guard.run(refuse)

    assert guard.counters.attempts == 10
