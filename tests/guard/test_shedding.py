"""Leaving calls out by chance."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.errors import CallShedError
from shoal.guard import Cells, Guard, Shedding, SheddingSettings
from shoal.testing import ManualClock

MakeGuard = Callable[..., Guard]


@pytest.mark.parametrize(
    ("calls", "answers", "share"),
    [
        pytest.param(1000, 1000, 0.0, id="all are answered"),
        pytest.param(1000, 500, 0.0, id="half are answered"),
        pytest.param(1000, 250, 500 / 1001, id="a quarter"),
        pytest.param(1000, 0, 0.9, id="none, and some must find out"),
        pytest.param(149, 0, 0.0, id="too few to tell"),
        pytest.param(150, 0, 0.9, id="just enough"),
    ],
)
def test_the_share_is_the_books(calls: int, answers: int, share: float) -> None:
    cells = Cells()
    shedding = Shedding(SheddingSettings(), cells)
    shedding.advance(100.0)
    cells.entered, cells.answered = calls, answers

    assert shedding.share(110.0) == pytest.approx(share)


@given(calls=st.integers(0, 10_000), answers=st.integers(0, 10_000), left_out=st.integers(0, 10_000))
def test_the_share_never_leaves_its_bounds(calls: int, answers: int, left_out: int) -> None:
    cells = Cells()
    shedding = Shedding(SheddingSettings(), cells)
    shedding.advance(100.0)
    cells.entered, cells.answered, shedding.left_out = calls, min(calls, answers), left_out

    assert 0.0 <= shedding.share(101.0) <= 0.9


def test_a_dependency_that_answers_a_fifth_gets_little_more_than_it_answers(
    clock: ManualClock, make_guard: MakeGuard
) -> None:
    """With K = 2 about twice what is answered is sent, however much is asked."""
    guard = make_guard(attempts=1, breaker=None, shedding=SheddingSettings())
    served = random.Random(3)
    sent = 0

    def call() -> None:
        nonlocal sent
        sent += 1
        if served.random() >= 0.2:
            raise ConnectionResetError

    for _ in range(20_000):
        clock.advance(0.005)
        with contextlib.suppress(ConnectionResetError, CallShedError):
            guard.run(call)

    assert sent <= 2.5 * 0.2 * 20_000
    assert guard.counters.rejected_by["shed"] == 20_000 - sent
    assert guard.counters.attempts == sent


def test_in_good_health_nothing_is_left_out_and_the_way_is_short(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(shedding=SheddingSettings())

    for _ in range(1000):
        clock.advance(0.01)
        guard.run(lambda: "ok")

    assert guard.counters.rejected_by["shed"] == 0
    assert guard._pipeline.cells.ticket


def test_when_it_answers_again_everything_is_sent_again(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, breaker=None, shedding=SheddingSettings())

    def refuse() -> None:
        raise ConnectionResetError

    for _ in range(400):
        clock.advance(0.01)
        with pytest.raises((ConnectionResetError, CallShedError)):
            guard.run(refuse)
    assert guard.counters.rejected_by["shed"] > 100
    clock.advance(40.0)
    for _ in range(300):
        clock.advance(0.01)
        guard.run(lambda: "ok")

    assert guard._pipeline.cells.ticket


def test_a_call_left_out_says_how_many_are(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, breaker=None, shedding=SheddingSettings())

    def refuse() -> None:
        raise ConnectionResetError

    def until_one_is_left_out() -> None:
        while True:
            clock.advance(0.01)
            with contextlib.suppress(ConnectionResetError):
                guard.run(refuse)

    with pytest.raises(CallShedError, match=r"auth: shed, like 90% of the calls to it") as caught:
        until_one_is_left_out()

    assert caught.value.share == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        pytest.param({"k": 0.5}, "k must be at least 1, .* got 0.5", id="k"),
        pytest.param({"window": 0.0}, "window must be above 0 seconds, got 0.0", id="window"),
        pytest.param({"cap": 1.0}, "cap must be above 0 and below 1, got 1.0", id="cap"),
        pytest.param({"floor": -1.0}, "floor must be 0 calls a second or more, got -1.0", id="floor"),
    ],
)
def test_settings_that_cannot_work_are_refused(bad: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SheddingSettings(**bad)
