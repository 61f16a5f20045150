"""tenacity's loops under a guard's budget."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import stamina
from tenacity import (
    AsyncRetrying,
    RetryError,
    Retrying,
    retry,
    retry_if_exception_type,
    retry_if_not_exception_type,
    retry_if_result,
    stop_after_attempt,
    stop_after_delay,
    wait_fixed,
)

from shoal import Guard, deadline
from shoal.guard import Backoff, BudgetSettings, do_not_retry
from shoal.integrations.stamina import within_budget
from shoal.integrations.tenacity import retry_if_repeatable, stop_when_budget_is_spent

CALLS = 200
RESERVE = 3
"""Retries that the budget allows whatever happens, in a window that no test outlasts."""


@pytest.fixture(autouse=True)
def fast_stamina() -> Iterator[None]:
    """No waits, and the attempts that were asked for."""
    with stamina.set_testing(True, attempts=3):
        yield


def a_guard(**settings: Any) -> Guard:
    budget = BudgetSettings(ratio=0.2, reserve=RESERVE / 60.0, window=60.0)
    return Guard("fees", **{"timeout": 5.0, "breaker": None, "budget": budget, **settings})


class Dependency:
    """One that always fails, and counts how often it was called."""

    def __init__(self, guard: Guard | None = None, error: type[BaseException] = ConnectionResetError) -> None:
        self.calls = 0
        self._guard = guard
        self._error = error

    def call(self) -> None:
        if self._guard is None:
            self._fail()
        else:
            with self._guard.call():
                self._fail()

    async def acall(self) -> None:
        if self._guard is None:
            self._fail()
        else:
            async with self._guard.call():
                self._fail()

    def _fail(self) -> None:
        self.calls += 1
        raise self._error


def spent(guard: Guard) -> float:
    return 1.0 - guard.budget_remaining


def test_a_storm_of_failing_calls_stays_within_the_budget() -> None:
    guard = a_guard()
    dependency = Dependency(guard)
    call = retry(stop=stop_after_attempt(3) | stop_when_budget_is_spent(guard), reraise=True)(dependency.call)

    for _ in range(CALLS):
        with pytest.raises(ConnectionResetError):
            call()

    assert CALLS * 1.2 - 1 <= dependency.calls <= CALLS * 1.2 + RESERVE
    assert guard.counters.retries_denied > 0


async def test_an_async_storm_of_failing_calls_stays_within_the_budget() -> None:
    guard = a_guard(limit=None)
    dependency = Dependency(guard)
    call = retry(stop=stop_after_attempt(3) | stop_when_budget_is_spent(guard), reraise=True)(dependency.acall)

    ends = await asyncio.gather(*(call() for _ in range(CALLS)), return_exceptions=True)

    assert {type(end) for end in ends} == {ConnectionResetError}
    assert CALLS * 1.2 - 1 <= dependency.calls <= CALLS * 1.2 + RESERVE


async def test_all_loops_around_one_guard_share_its_budget() -> None:
    """tenacity's and stamina's, sync and async, and the guard's own."""
    guard = a_guard(limit=None, attempts=3, backoff=Backoff(initial=0.001, maximum=0.001))
    dependency, bare = Dependency(guard), Dependency()
    by_tenacity = retry(stop=stop_after_attempt(3) | stop_when_budget_is_spent(guard), reraise=True)
    by_stamina = stamina.retry(on=within_budget(guard, on=ConnectionError), attempts=3)
    sync: list[Callable[[], object]] = [
        by_tenacity(dependency.call),
        by_stamina(dependency.call),
        guard(bare.call),
    ]
    asynchronous: list[Callable[[], Awaitable[object]]] = [
        by_tenacity(dependency.acall),
        by_stamina(dependency.acall),
        guard(bare.acall),
    ]

    for _ in range(CALLS // 10):
        for call in sync:
            with pytest.raises(ConnectionResetError):
                call()
        for acall in asynchronous:
            with pytest.raises(ConnectionResetError):
                await acall()

    calls = 6 * (CALLS // 10)
    assert calls < dependency.calls + bare.calls <= calls * 1.2 + RESERVE


def test_without_attempts_inside_the_guard_only_the_reserve_is_to_be_had() -> None:
    guard = a_guard()
    dependency = Dependency()
    call = retry(stop=stop_after_attempt(3) | stop_when_budget_is_spent(guard), reraise=True)(dependency.call)

    for _ in range(CALLS):
        with pytest.raises(ConnectionResetError):
            call()

    assert dependency.calls == CALLS + RESERVE


@pytest.mark.parametrize(
    "stop",
    [
        lambda ours: stop_after_attempt(1) | ours,
        lambda ours: ours | stop_after_attempt(1),
        lambda ours: ours | stop_after_attempt(5) | stop_after_attempt(1),
        lambda ours: stop_after_attempt(5) | stop_after_delay(0.0) | ours,
    ],
    ids=["after another", "before another", "before two", "after two"],
)
def test_a_last_failure_is_not_paid_for(stop: Callable[[Any], Any]) -> None:
    guard = a_guard()
    call = retry(stop=stop(stop_when_budget_is_spent(guard)), reraise=True)(Dependency().call)

    with pytest.raises(ConnectionResetError):
        call()

    assert spent(guard) == 0.0


def test_every_retry_is_paid_for_once() -> None:
    guard = a_guard()
    dependency = Dependency()
    call = retry(stop=stop_after_attempt(3) | stop_when_budget_is_spent(guard), reraise=True)(dependency.call)

    with pytest.raises(ConnectionResetError):
        call()

    assert dependency.calls == 3
    assert spent(guard) == pytest.approx(2 / RESERVE)


def test_success_and_what_is_not_to_be_retried_cost_nothing() -> None:
    guard = a_guard()
    loop = Retrying(retry=retry_if_exception_type(ConnectionError), stop=stop_when_budget_is_spent(guard), reraise=True)

    assert loop(lambda: 5) == 5
    with pytest.raises(KeyError):
        loop(Dependency(error=KeyError).call)

    assert spent(guard) == 0.0


def test_a_result_may_be_what_is_retried() -> None:
    guard = a_guard()
    calls: list[None] = []
    loop = Retrying(retry=retry_if_result(lambda result: result is None), stop=stop_when_budget_is_spent(guard))

    with pytest.raises(RetryError):
        loop(lambda: calls.append(None))

    assert len(calls) == 1 + RESERVE


def test_an_exception_that_an_inner_guard_has_retried_is_not_repeated() -> None:
    """Three attempts of two layers are three, not nine."""
    guard = a_guard(attempts=3, backoff=Backoff(initial=0.001, maximum=0.001))
    outer = a_guard()
    dependency = Dependency()
    call = retry(stop=stop_after_attempt(3) | stop_when_budget_is_spent(outer), reraise=True)(guard(dependency.call))

    with pytest.raises(ConnectionResetError):
        call()

    assert dependency.calls == 3
    assert spent(outer) == 0.0


def test_what_must_not_be_repeated_passes_the_predicate_as_it_is() -> None:
    guard = a_guard()
    calls: list[None] = []

    @retry(retry=retry_if_repeatable(ConnectionError), stop=stop_when_budget_is_spent(guard))
    def call() -> None:
        calls.append(None)
        error = ConnectionResetError()
        do_not_retry(error)
        raise error

    with pytest.raises(ConnectionResetError):
        call()

    assert len(calls) == 1


def test_the_predicate_takes_the_types_it_is_given() -> None:
    guard = a_guard()
    loop = Retrying(
        retry=retry_if_repeatable((ConnectionError, TimeoutError)),
        stop=stop_after_attempt(2) | stop_when_budget_is_spent(guard),
        reraise=True,
    )
    refused, late, wrong = (Dependency(error=kind) for kind in (ConnectionRefusedError, TimeoutError, KeyError))

    for dependency in (refused, late, wrong):
        with pytest.raises((ConnectionRefusedError, TimeoutError, KeyError)):
            loop(dependency.call)

    assert [dependency.calls for dependency in (refused, late, wrong)] == [2, 2, 1]


@pytest.mark.parametrize("reraise", [True, False])
async def test_a_cancellation_is_never_repeated_nor_disguised(reraise: bool) -> None:
    guard = a_guard()
    entered = asyncio.Semaphore(0)

    @retry(retry=retry_if_not_exception_type(KeyError), stop=stop_when_budget_is_spent(guard), reraise=reraise)
    async def call() -> None:
        entered.release()
        await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await entered.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert task.cancelled()
    assert entered.locked()
    assert spent(guard) == 0.0


async def test_loops_over_attempts_pay_as_well() -> None:
    guard = a_guard()
    dependency = Dependency()
    stop = stop_after_attempt(2) | stop_when_budget_is_spent(guard)

    def loop() -> None:
        for attempt in Retrying(stop=stop, reraise=True):
            with attempt:
                dependency.call()

    async def aloop() -> None:
        async for attempt in AsyncRetrying(stop=stop, reraise=True):
            with attempt:
                await dependency.acall()

    with pytest.raises(ConnectionResetError):
        loop()
    with pytest.raises(ConnectionResetError):
        await aloop()

    assert dependency.calls == 4
    assert spent(guard) == pytest.approx(2 / RESERVE)


def test_no_retry_is_begun_that_would_wait_past_the_deadline() -> None:
    guard = a_guard()
    dependency = Dependency()
    call = retry(wait=wait_fixed(60.0), stop=stop_when_budget_is_spent(guard), reraise=True)(dependency.call)

    with deadline(30.0), pytest.raises(ConnectionResetError):
        call()

    assert dependency.calls == 1
    assert spent(guard) == 0.0
