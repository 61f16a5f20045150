"""What is repeated, how often, and what is not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest

from shoal.errors import BreakerOpenError, DeadlineExceededError
from shoal.guard import Backoff, BreakerSettings, BudgetSettings, Guard, Outcome, do_not_retry
from shoal.testing import ManualClock

MakeGuard = Callable[..., Guard]


def http_error(status: int, **headers: str) -> httpx.HTTPStatusError:
    response = httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return httpx.HTTPStatusError(str(status), request=httpx.Request("GET", "http://auth"), response=response)


def answers(*results: object) -> Callable[[], object]:
    """A dependency that gives these answers, exceptions raised, one after the other."""
    script: Iterator[object] = iter(results)

    def call() -> object:
        result = next(script)
        if isinstance(result, BaseException):
            raise result
        return result

    return call


def test_a_call_that_succeeds_at_last_is_a_success(make_guard: MakeGuard) -> None:
    guard = make_guard()

    result = guard.run(answers(ConnectionResetError(), http_error(502), "ok"))

    assert result == "ok"
    assert guard.counters.calls_success_after_retry == guard.counters.calls == 1
    assert guard.counters.retries_by_error == {
        "timeout": 0,
        "connect": 0,
        "reset": 1,
        "5xx": 1,
        "throttled": 0,
        "other": 0,
    }
    assert guard.counters.attempts_ok == 1
    assert guard.counters.attempts_error == 2


def test_the_last_error_reaches_the_caller_as_it_was(make_guard: MakeGuard) -> None:
    guard = make_guard()
    first, second, last = ConnectionResetError(), TimeoutError(), ConnectionRefusedError()

    with pytest.raises(ConnectionRefusedError) as caught:
        guard.run(answers(first, second, last))

    assert caught.value is last
    assert last.__cause__ is None
    assert last.__context__ is None
    assert guard.counters.calls_exhausted == 1


async def test_the_last_error_of_an_async_call_reaches_the_caller_as_it_was(make_guard: MakeGuard) -> None:
    guard = make_guard()
    errors = [ConnectionResetError(), TimeoutError(), ConnectionRefusedError()]
    call = answers(*errors)

    async def acall() -> object:
        return call()

    with pytest.raises(ConnectionRefusedError) as caught:
        await guard.arun(acall)

    assert caught.value is errors[2]
    assert caught.value.__context__ is None


def test_waits_are_those_of_the_backoff_and_are_counted(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=4, rng=random.Random(1))
    rng, backoff = random.Random(1), Backoff()
    expected = sum(backoff.wait(retry, rng=rng) for retry in range(3))
    began = clock.now()

    with pytest.raises(ConnectionResetError):
        guard.run(answers(*(ConnectionResetError() for _ in range(4))))

    assert clock.now() - began == pytest.approx(expected)
    assert guard.counters.backoff_seconds == pytest.approx(expected)


def test_retry_after_is_a_lower_bound(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=2, timeout=5.0)
    began = clock.now()

    assert guard.run(answers(http_error(503, retry_after="3"), "ok")) == "ok"

    assert 3.0 <= clock.now() - began <= 4.0
    assert guard.counters.retries_by_error["throttled"] == 1


def test_no_wait_goes_past_the_deadline(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(deadline=2.5)
    began = clock.now()

    with pytest.raises(httpx.HTTPStatusError):
        guard.run(answers(http_error(503, retry_after="3"), "ok"))

    assert clock.now() == began
    assert guard.counters.calls_exhausted == 1
    assert guard.budget_remaining == 1.0, "what is not made is not charged"


def test_without_a_deadline_of_its_own_a_call_ends_when_its_attempts_and_waits_would(
    clock: ManualClock, make_guard: MakeGuard
) -> None:
    """Three attempts of a second and the longest waits between them, 1 s and 2 s after throttling: 6 s."""
    guard = make_guard(attempts=3, timeout=1.0)

    def slow() -> None:
        clock.advance(6.0)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        guard.run(slow)

    assert guard.counters.attempts == 1


def test_a_sleep_that_took_too_long_is_not_followed_by_an_attempt(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(deadline=2.0, sleep=lambda _: clock.advance(3.0))
    error = ConnectionResetError()

    with pytest.raises(ConnectionResetError) as caught:
        guard.run(answers(error, "too late"))

    assert caught.value is error
    assert guard.counters.calls_exhausted == 1


@pytest.mark.parametrize(
    ("error", "repeated"),
    [
        pytest.param(ConnectionRefusedError(), True, id="refused"),
        pytest.param(http_error(429), True, id="429"),
        pytest.param(http_error(503, retry_after="0"), True, id="503-retry-after"),
        pytest.param(http_error(503), False, id="503"),
        pytest.param(ConnectionResetError(), False, id="reset"),
        pytest.param(TimeoutError(), False, id="timeout"),
    ],
)
def test_what_must_not_happen_twice_is_repeated_only_if_it_surely_did_not_happen(
    error: Exception, repeated: bool, make_guard: MakeGuard
) -> None:
    guard = make_guard(idempotent=False)
    call = answers(error, "ok")

    if repeated:
        assert guard.run(call) == "ok"
        return
    with pytest.raises(type(error)):
        guard.run(call)
    assert guard.counters.retries == 0
    assert guard.counters.calls_non_retryable + guard.counters.calls_timeout == 1


def test_no_guard_repeats_what_a_guard_inside_it_must_not(make_guard: MakeGuard) -> None:
    outer, inner = make_guard("outer"), make_guard("inner", idempotent=False, attempts=1)
    made = []

    def pay() -> None:
        made.append(1)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        outer.run(inner.run, pay)

    assert len(made) == 1


def test_a_guard_of_one_attempt_leaves_retrying_to_the_one_around_it(make_guard: MakeGuard) -> None:
    outer, inner = make_guard("outer"), make_guard("inner", attempts=1)

    assert outer.run(inner.run, answers(ConnectionResetError(), "ok")) == "ok"


def test_a_second_dependency_asked_in_place_of_the_first_is_retried(clock: ManualClock, make_guard: MakeGuard) -> None:
    """The error being handled is the first guard's, and is the context of the second's; it is none of its business."""
    first, second = make_guard("first"), make_guard("second")
    fallback = answers(ConnectionResetError(), "from the second")

    try:
        first.run(answers(*(ConnectionRefusedError() for _ in range(3))))
    except ConnectionRefusedError:
        clock.advance(0.001)
        result = second.run(fallback)

    assert result == "from the second"


def test_an_exception_object_that_is_raised_again_and_again_is_retried_each_time(
    clock: ManualClock, make_guard: MakeGuard
) -> None:
    guard = make_guard(budget=None)
    shared = ConnectionResetError()

    for _ in range(3):
        with pytest.raises(ConnectionResetError):
            guard.run(answers(shared, shared, shared))
        clock.advance(0.001)

    assert guard.counters.attempts == 9


def test_an_exception_that_forbids_attributes_is_marked_all_the_same(make_guard: MakeGuard) -> None:
    @dataclass(frozen=True)
    class FrozenError(Exception):
        code: int

    outer, inner = make_guard("outer"), make_guard("inner")
    made = []

    def call() -> None:
        made.append(1)
        raise FrozenError(7)

    with pytest.raises(FrozenError):
        outer.run(inner.run, call)

    assert len(made) == 3


def test_the_callers_own_mistake_is_neither_repeated_nor_held_against_the_dependency(make_guard: MakeGuard) -> None:
    guard = make_guard()

    for _ in range(50):
        with pytest.raises(KeyError):
            guard.run(answers(KeyError("user")))

    assert guard.breaker_state == "closed"
    assert guard.counters.calls_cancelled == guard.counters.calls == 50
    assert guard.counters.attempts == guard.counters.final_failures == 0


def test_an_empty_budget_gives_the_original_error_and_says_so(make_guard: MakeGuard) -> None:
    guard = make_guard(budget=BudgetSettings(ratio=0.0, reserve=0.0))
    error = ConnectionResetError()

    with pytest.raises(ConnectionResetError) as caught:
        guard.run(answers(error))

    assert caught.value is error
    assert guard.counters.retries_denied == guard.counters.calls_exhausted == 1
    assert guard.counters.retries == 0


def test_a_breaker_that_opens_meanwhile_ends_the_retries_with_the_dependencys_own_error(make_guard: MakeGuard) -> None:
    """Rejecting the retry with BreakerOpenError would hide what is wrong with the dependency."""
    sleeps: list[float] = []

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 1:
            with pytest.raises(ConnectionRefusedError):
                guard.run(answers(ConnectionRefusedError(), ConnectionRefusedError()))

    guard = make_guard(breaker=BreakerSettings(consecutive=3, consecutive_over=0.0), sleep=sleep)
    error = ConnectionResetError()

    with pytest.raises(ConnectionResetError) as caught:
        guard.run(answers(error, "not made"))

    assert caught.value is error
    assert guard.breaker_state == "open"
    assert guard.counters.calls_exhausted == 2


def test_a_failed_trial_is_not_repeated(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(breaker=BreakerSettings(consecutive=1, consecutive_over=0.0))
    with pytest.raises(ConnectionResetError):
        guard.run(answers(ConnectionResetError()))
    clock.advance(5.0)

    with pytest.raises(ConnectionResetError):
        guard.run(answers(ConnectionResetError(), "not made"))

    assert guard.breaker_state == "half-open"
    assert guard.counters.retries == 0


def test_throttling_backs_off_and_does_not_open_the_breaker(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1)

    for _ in range(100):
        with pytest.raises(httpx.HTTPStatusError):
            guard.run(answers(http_error(429)))

    assert guard.breaker_state == "closed"
    assert guard.counters.attempts_error == guard.counters.calls_exhausted == 100


def test_a_classifier_decides_what_an_exception_means(make_guard: MakeGuard) -> None:
    guard = make_guard(classify=lambda error: Outcome.OK if isinstance(error, ConnectionResetError) else Outcome.FAIL)

    with pytest.raises(ConnectionResetError):
        guard.run(answers(ConnectionResetError()))

    assert guard.counters.calls_success == 1


def test_a_classifier_that_breaks_does_not_replace_the_dependencys_error(make_guard: MakeGuard) -> None:
    def classify(error: Exception) -> Outcome:
        raise ZeroDivisionError

    guard = make_guard(attempts=1, classify=classify)
    error = ConnectionResetError()

    with pytest.raises(ConnectionResetError) as caught:
        guard.run(answers(error))

    assert caught.value is error
    assert "classify= of guard 'auth' raised ZeroDivisionError()" in caught.value.__notes__[0]
    assert guard.counters.calls_exhausted == 1
    assert guard.in_flight == 0


def test_a_sync_timeout_is_the_clients_and_is_counted(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1)

    with pytest.raises(TimeoutError) as caught:
        guard.run(answers(TimeoutError("read timed out")))

    assert not isinstance(caught.value, DeadlineExceededError)
    assert guard.counters.attempts_timeout == guard.counters.calls_timeout == 1


def test_a_keyboard_interrupt_gives_place_and_permit_back(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(breaker=BreakerSettings(consecutive=1, consecutive_over=0.0, trials=1, successes_to_close=1))
    with pytest.raises(ConnectionResetError):
        guard.run(answers(ConnectionResetError()))
    with pytest.raises(BreakerOpenError):
        guard.run(answers("ok"))
    clock.advance(5.0)

    with pytest.raises(KeyboardInterrupt):
        guard.run(answers(KeyboardInterrupt()))

    assert guard.in_flight == 0
    assert guard.counters.calls_cancelled == 1
    assert guard.run(answers("ok")) == "ok"


async def test_a_call_cancelled_while_it_waits_to_retry_has_ended_once(make_guard: MakeGuard) -> None:
    waiting = asyncio.Event()

    async def wait_for_ever(_seconds: float) -> None:
        waiting.set()
        await asyncio.sleep(60.0)

    guard = make_guard(async_sleep=wait_for_ever)

    async def refuse() -> None:
        raise ConnectionRefusedError

    task = asyncio.create_task(guard.arun(refuse))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (guard.counters.calls_cancelled, guard.counters.calls, guard.in_flight) == (1, 1, 0)


def test_a_keyboard_interrupt_while_it_waits_to_retry_ends_the_call_once(make_guard: MakeGuard) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    guard = make_guard(sleep=interrupt)

    def refuse() -> None:
        raise ConnectionRefusedError

    with pytest.raises(KeyboardInterrupt):
        guard.run(refuse)

    assert (guard.counters.calls_cancelled, guard.counters.calls, guard.in_flight) == (1, 1, 0)


def test_what_the_other_side_forbids_is_not_repeated_by_any_guard_around(make_guard: MakeGuard) -> None:
    inner, outer = make_guard("inner", attempts=3), make_guard("outer", attempts=3)

    def forbidden() -> None:
        error = ConnectionResetError()
        do_not_retry(error)
        raise error

    with pytest.raises(ConnectionResetError):
        outer.run(inner.run, forbidden)

    assert (inner.counters.attempts, outer.counters.attempts) == (1, 1)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("attempts", [1, 3])
def test_what_was_forbidden_once_does_not_forbid_the_next_call(
    wrapped: bool, attempts: int, clock: ManualClock, make_guard: MakeGuard
) -> None:
    """A second dependency asked while the first one's error is being handled is a matter of its own."""
    first, second = make_guard("first", attempts=attempts), make_guard("second", attempts=3)

    def forbidden() -> None:
        error = ConnectionResetError()
        do_not_retry(error)
        if not wrapped:
            raise error
        try:
            raise error
        except ConnectionResetError:
            raise ConnectionAbortedError  # noqa: B904 -- as careless code does

    def refuse() -> None:
        raise ConnectionRefusedError

    try:
        first.run(forbidden)
    except ConnectionError:
        clock.advance(0.01)
        with pytest.raises(ConnectionRefusedError):
            second.run(refuse)

    assert second.counters.attempts == 3
