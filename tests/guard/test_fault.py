"""Faults on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from shoal.errors import DeadlineExceededError
from shoal.guard import BreakerSettings, Fault, Guard
from shoal.testing import ManualClock

MakeGuard = Callable[..., Guard]


def test_an_injected_error_is_the_dependencys(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=3, breaker=None)
    called = []

    with guard.inject(Fault(error=ConnectionRefusedError)), pytest.raises(ConnectionRefusedError):
        guard.run(called.append, 1)

    assert called == []
    assert (guard.counters.attempts_error, guard.counters.calls_exhausted) == (3, 1)


def test_afterwards_all_is_as_before(make_guard: MakeGuard) -> None:
    guard = make_guard()

    with guard.inject(Fault(error=ConnectionRefusedError)):
        pass

    assert guard.run(lambda: "ok") == "ok"
    assert guard._pipeline.cells.ticket, "and as short as before"


def test_a_fault_inside_a_fault_gives_way_to_it_again(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1)

    with guard.inject(Fault(error=ConnectionRefusedError)):
        with guard.inject(Fault(error=TimeoutError)), pytest.raises(TimeoutError):
            guard.run(lambda: "ok")
        with pytest.raises(ConnectionRefusedError):
            guard.run(lambda: "ok")


def test_latency_comes_before_the_call(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard()
    began = clock.now()

    with guard.inject(Fault(latency=0.3)):
        assert guard.run(clock.now) == pytest.approx(began + 0.3)

    assert guard.health().p50 == pytest.approx(0.3)


def test_latency_runs_into_the_deadline(
    jumping: Callable[..., None], make_guard: MakeGuard, loop_clock: ManualClock
) -> None:
    guard = make_guard(timeout=0.5, attempts=1, clock=loop_clock, async_sleep=asyncio.sleep)

    async def call() -> str:
        return "ok"

    async def scenario() -> None:
        with guard.inject(Fault(latency=60.0)), pytest.raises(DeadlineExceededError):
            await guard.arun(call)
        assert await guard.arun(call) == "ok"

    jumping(scenario())


def test_a_share_of_the_attempts_is_struck(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, breaker=None)
    failed = 0

    with guard.inject(Fault(error=ConnectionRefusedError, share=0.25)):
        for _ in range(1000):
            try:
                guard.run(lambda: "ok")
            except ConnectionRefusedError:
                failed += 1

    assert 200 <= failed <= 300


def test_a_drill_opens_the_breaker(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, breaker=BreakerSettings(consecutive=1, consecutive_over=0.0))

    with guard.inject(Fault(error=ConnectionRefusedError)), pytest.raises(ConnectionRefusedError):
        guard.run(lambda: "ok")

    assert guard.breaker_state == "open"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        pytest.param({"latency": -1.0}, "latency must be 0 seconds or more, got -1.0", id="latency"),
        pytest.param({"share": 0.0}, "share must be above 0 and at most 1, got 0.0", id="share"),
        pytest.param({"error": ConnectionRefusedError()}, "so it is a class or a function, got", id="error"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(bad: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        Fault(**bad)
