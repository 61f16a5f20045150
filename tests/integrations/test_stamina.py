"""stamina's retries under a guard's budget."""

import asyncio
import datetime as dt
from collections.abc import Iterator
from typing import Any, cast

import pytest
import stamina

from shoal import Guard, deadline
from shoal.guard import Backoff, BudgetSettings
from shoal.integrations.stamina import BackoffHook, within_budget

CALLS = 200
RESERVE = 3
"""Retries that the budget allows whatever happens, in a window that no test outlasts."""


@pytest.fixture
def no_waits() -> Iterator[None]:
    """No waits, and no more than three attempts."""
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


@pytest.mark.usefixtures("no_waits")
def test_a_storm_of_failing_calls_stays_within_the_budget() -> None:
    guard = a_guard()
    dependency = Dependency(guard)
    call = stamina.retry(on=within_budget(guard, on=ConnectionError), attempts=3)(dependency.call)

    for _ in range(CALLS):
        with pytest.raises(ConnectionResetError):
            call()

    assert CALLS < dependency.calls <= CALLS * 1.2 + RESERVE
    assert guard.counters.retries_denied > 0


@pytest.mark.usefixtures("no_waits")
async def test_an_async_storm_of_failing_calls_stays_within_the_budget() -> None:
    guard = a_guard(limit=None)
    dependency = Dependency(guard)
    call = stamina.retry(on=within_budget(guard, on=ConnectionError), attempts=3)(dependency.acall)

    ends = await asyncio.gather(*(call() for _ in range(CALLS)), return_exceptions=True)

    assert {type(end) for end in ends} == {ConnectionResetError}
    assert CALLS < dependency.calls <= CALLS * 1.2 + RESERVE


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize(
    ("on", "attempts"),
    [
        (ConnectionError, 2),
        ((KeyError, ConnectionError), 2),
        (KeyError, 1),
        (lambda error: True, 2),
        (lambda error: False, 1),
        (lambda error: 0.0, 2),
        (lambda error: 0.01, 2),
        (lambda error: dt.timedelta(seconds=0.01), 2),
    ],
    ids=["type", "types", "other type", "true", "false", "no wait", "seconds", "timedelta"],
)
def test_what_it_retries_is_what_stamina_would(
    on: type[Exception] | tuple[type[Exception], ...] | BackoffHook, attempts: int
) -> None:
    guard = a_guard()
    dependency = Dependency()
    with stamina.set_testing(True, attempts=2):
        call = stamina.retry(on=within_budget(guard, on=on))(dependency.call)

        with pytest.raises(ConnectionResetError):
            call()

    assert dependency.calls == attempts
    assert (spent(guard) > 0.0) == (attempts > 1)


def test_the_wait_that_was_asked_for_is_waited() -> None:
    guard = a_guard()
    waits: list[float] = []
    stamina.instrumentation.set_on_retry_hooks([lambda details: waits.append(details.wait_for)])
    try:
        call = stamina.retry(on=within_budget(guard, on=lambda _: 0.005), attempts=2)(Dependency().call)
        with pytest.raises(ConnectionResetError):
            call()
    finally:
        stamina.instrumentation.set_on_retry_hooks(None)

    assert waits == [0.005]


@pytest.mark.usefixtures("no_waits")
def test_a_hook_that_forgets_to_answer_is_warned_of_and_costs_nothing() -> None:
    guard = a_guard()
    dependency = Dependency()
    forgetful = cast("BackoffHook", lambda error: None)
    call = stamina.retry(on=within_budget(guard, on=forgetful), attempts=3)(dependency.call)

    with pytest.warns(UserWarning, match="returned None"), pytest.raises(ConnectionResetError):
        call()

    assert dependency.calls == 1
    assert spent(guard) == 0.0


@pytest.mark.usefixtures("no_waits")
def test_an_exception_that_an_inner_guard_has_retried_is_not_repeated() -> None:
    """Three attempts of two layers are three, not nine."""
    guard = a_guard(attempts=3, backoff=Backoff(initial=0.001, maximum=0.001))
    outer = a_guard()
    dependency = Dependency()
    call = stamina.retry(on=within_budget(outer, on=ConnectionError), attempts=3)(guard(dependency.call))

    with pytest.raises(ConnectionResetError):
        call()

    assert dependency.calls == 3
    assert spent(outer) == 0.0


@pytest.mark.usefixtures("no_waits")
async def test_a_cancellation_is_never_repeated() -> None:
    guard = a_guard()
    entered = asyncio.Semaphore(0)

    @stamina.retry(on=within_budget(guard, on=lambda error: True), attempts=3)
    async def call() -> None:
        entered.release()
        await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await entered.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert entered.locked()
    assert spent(guard) == 0.0


@pytest.mark.usefixtures("no_waits")
async def test_context_blocks_pay_as_well() -> None:
    guard = a_guard()
    dependency = Dependency()
    on = within_budget(guard, on=ConnectionError)

    def loop() -> None:
        for attempt in stamina.retry_context(on=on, attempts=3):
            with attempt:
                dependency.call()

    async def aloop() -> None:
        async for attempt in stamina.retry_context(on=on, attempts=3):
            with attempt:
                await dependency.acall()

    with pytest.raises(ConnectionResetError):
        loop()
    with pytest.raises(ConnectionResetError):
        await aloop()

    assert dependency.calls == 2 + RESERVE - 1
    assert spent(guard) == pytest.approx(1.0)


@pytest.mark.usefixtures("no_waits")
def test_nothing_is_retried_after_the_deadline() -> None:
    guard = a_guard()
    dependency = Dependency()
    call = stamina.retry(on=within_budget(guard, on=ConnectionError), attempts=3)(dependency.call)

    with deadline(0.0), pytest.raises(ConnectionResetError):
        call()

    assert dependency.calls == 1
    assert spent(guard) == 0.0
