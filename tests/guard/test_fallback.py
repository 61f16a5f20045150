"""What a caller gets when a call fails for good."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, assert_type

import pytest

from shoal import _events
from shoal.guard import Answer, BreakerSettings, Guard, StaleAnswers
from shoal.testing import ManualClock

MakeGuard = Callable[..., Guard]


def test_a_value_is_answered_for_any_final_failure(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, breaker=BreakerSettings(consecutive=1, consecutive_over=0.0))

    @guard.fallback(value={})
    def rates() -> dict[str, float]:
        raise ConnectionRefusedError

    assert rates() == Answer({}, degraded=True)
    assert rates() == Answer({}, degraded=True), "also when the breaker is open"
    assert guard.counters.fallback_served == 2
    assert guard.counters.final_failures == 2, "that it was answered makes it no success"


def test_a_function_is_told_the_error_and_the_arguments(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1)

    def estimate(error: Exception, country: str, *, year: int) -> str:
        return f"{type(error).__name__} {country} {year}"

    @guard.fallback(function=estimate)
    def rate(country: str, *, year: int) -> str:
        raise TimeoutError

    assert rate("ch", year=2026) == Answer("TimeoutError ch 2026", degraded=True)


async def test_an_async_function_falls_back_to_either_kind(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1)

    async def later(error: Exception) -> str:
        await asyncio.sleep(0)
        return "awaited"

    @guard.fallback(function=later)
    async def one() -> str:
        raise ConnectionRefusedError

    @guard.fallback(function=lambda error: "at once")
    async def two() -> str:
        raise ConnectionRefusedError

    answer = await one()
    assert_type(answer, Answer[str])
    assert answer == Answer("awaited", degraded=True)
    assert await two() == Answer("at once", degraded=True)


def test_an_answer_of_the_dependencys_own_is_not_degraded(make_guard: MakeGuard) -> None:
    @make_guard().fallback(value=0)
    def fee() -> int:
        return 5

    answer = fee()
    assert_type(answer, Answer[int])
    assert answer == Answer(5)
    assert not answer.degraded


def test_the_last_good_answer_comes_before_the_value(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, stale=StaleAnswers(max_age=60.0))
    balances = {"alice": 100}

    @guard.fallback(key=lambda user: user, value=None)
    def balance(user: str) -> int | None:
        if not balances:
            raise ConnectionRefusedError
        return balances[user]

    balance("alice")
    balances.clear()
    clock.advance(10.0)

    assert balance("alice") == Answer(100, degraded=True, stale=True, age=10.0)
    assert balance("bob") == Answer(None, degraded=True)
    clock.advance(60.0)
    assert balance("alice") == Answer(None, degraded=True)


@pytest.mark.parametrize("error", [KeyError("user"), TypeError("argument")], ids=["mistake", "bug"])
def test_the_callers_own_mistake_is_raised(error: Exception, make_guard: MakeGuard) -> None:
    @make_guard().fallback(value=0)
    def fee() -> int:
        raise error

    with pytest.raises(type(error)):
        fee()


def test_a_rejection_by_another_guard_is_not_answered_for(make_guard: MakeGuard) -> None:
    """The dependency behind it is another one; its fallback is not this one's."""
    inner = make_guard("inner", attempts=1, breaker=BreakerSettings(consecutive=1, consecutive_over=0.0))

    def refuse() -> None:
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        inner.run(refuse)

    @make_guard("outer").fallback(value="answered")
    def call() -> str:
        inner.run(refuse)
        return "ok"

    with pytest.raises(Exception, match="inner: breaker is open"):
        call()


def test_a_fallback_that_fails_raises_its_own_error_from_the_dependencys(make_guard: MakeGuard) -> None:
    def broken(error: Exception) -> str:
        raise LookupError("no default either")

    @make_guard(attempts=1).fallback(function=broken)
    def call() -> str:
        raise ConnectionRefusedError

    with pytest.raises(LookupError) as caught:
        call()
    assert isinstance(caught.value.__context__, ConnectionRefusedError)


def test_the_request_is_degraded_and_not_failed(make_guard: MakeGuard) -> None:
    guard = make_guard("rates", attempts=1)

    @guard.fallback(value=0)
    def rate() -> int:
        raise ConnectionRefusedError

    trail, token = _events.begin_trail()
    rate()
    _events.end_trail(token)

    assert (trail.failed, trail.degraded) == ([], ["rates"])


def test_a_second_failure_of_the_same_dependency_stays_a_failure(make_guard: MakeGuard) -> None:
    guard = make_guard("rates", attempts=1)

    def refuse() -> int:
        raise ConnectionRefusedError

    trail, token = _events.begin_trail()
    with pytest.raises(ConnectionRefusedError):
        guard.run(refuse)
    guard.fallback(value=0)(refuse)()
    _events.end_trail(token)

    assert (trail.failed, trail.degraded) == (["rates"], ["rates"])


def test_while_one_asks_again_the_others_get_the_old_answer_at_once(make_guard: MakeGuard) -> None:
    """A dependency that hangs is asked once for each key, not by everybody who wants the same."""
    guard = make_guard("balance", attempts=1, breaker=None, stale=StaleAnswers())
    asked, answered = threading.Event(), threading.Event()
    calls: list[str] = []
    mode = "good"

    @guard.fallback(key=lambda user: user)
    def balance(user: str) -> int:
        calls.append(user)
        if mode == "bad":
            raise ConnectionRefusedError
        if mode == "hanging":
            asked.set()
            answered.wait(5.0)
        return 100

    balance("alice")
    mode = "bad"
    balance("alice")
    mode = "hanging"
    fresh: list[Answer[int]] = []
    asking = threading.Thread(target=lambda: fresh.append(balance("alice")))
    asking.start()
    asked.wait(5.0)
    trail, token = _events.begin_trail()
    others = [balance("alice") for _ in range(5)]
    _events.end_trail(token)
    answered.set()
    asking.join(5.0)

    assert calls == ["alice"] * 3
    assert all(answer.stale for answer in others)
    assert trail.degraded == ["balance"] * 5
    assert fresh == [Answer(100)]
    mode = "good"
    assert balance("alice") == Answer(100)


async def test_who_was_to_ask_and_is_cancelled_lets_the_next_one_ask(make_guard: MakeGuard) -> None:
    guard = make_guard("balance", attempts=1, breaker=None, stale=StaleAnswers())
    asked = asyncio.Event()
    mode = "good"

    @guard.fallback(key=lambda: "key")
    async def balance() -> int:
        if mode == "bad":
            raise ConnectionRefusedError
        if mode == "hanging":
            asked.set()
            await asyncio.sleep(60.0)
        return 100

    await balance()
    mode = "bad"
    await balance()
    mode = "hanging"
    asking = asyncio.create_task(balance())
    await asked.wait()
    assert (await balance()).stale
    asking.cancel()
    await asyncio.wait([asking])
    mode = "good"

    assert await balance() == Answer(100)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({}, "needs key= for the last good answer, value= or function=", id="nothing"),
        pytest.param({"value": 1, "function": len}, "value= or function=, not both", id="both"),
        pytest.param({"function": 5}, "is called with the error and the arguments, got 5", id="not-callable"),
    ],
)
def test_a_fallback_that_makes_no_sense_is_refused(
    arguments: dict[str, Any], words: str, make_guard: MakeGuard
) -> None:
    with pytest.raises(TypeError, match=words):
        make_guard().fallback(**arguments)


def test_an_async_fallback_of_a_plain_function_is_refused(make_guard: MakeGuard) -> None:
    async def later(error: Exception) -> int:
        return 1

    with pytest.raises(TypeError, match=r"is a plain function, so its fallback .* must be one"):
        make_guard().fallback(function=later)(lambda: 1)
