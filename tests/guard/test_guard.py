"""The guard as its users see it: decorators, health, what it leaves behind."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import sys
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, assert_type

import pytest

from shoal import _events
from shoal.errors import BreakerOpenError, BulkheadFullError
from shoal.guard import Answer, BreakerSettings, BudgetSettings, Guard, StaleAnswers
from shoal.guard.cells import Cells
from shoal.testing import ManualClock

MakeGuard = Callable[..., Guard]

TRIPS_AT_ONCE = BreakerSettings(consecutive=1, consecutive_over=0.0)


def occupied_by(guard: Guard) -> None:
    """Calls again from inside the only call that has a place."""
    with pytest.raises(BulkheadFullError):
        guard.run(refuse)
    raise KeyError


def refuse() -> str:
    raise ConnectionRefusedError("port 443")


async def test_a_decorated_function_keeps_its_kind_name_and_signature(make_guard: MakeGuard) -> None:
    guard = make_guard()

    @guard
    def sync(account: str, *, fresh: bool = False) -> int:
        """The balance."""
        return len(account)

    @guard
    async def asynchronous(account: str) -> int:
        return len(account)

    assert str(inspect.signature(sync)) == "(account: 'str', *, fresh: 'bool' = False) -> 'int'"
    assert sync.__doc__ == "The balance."
    assert inspect.iscoroutinefunction(asynchronous)
    assert not inspect.iscoroutinefunction(sync)
    assert_type(sync("four", fresh=True), int)
    assert_type(await asynchronous("four"), int)
    assert guard.counters.calls_success == 2


async def test_types_get_through_run_and_arun(make_guard: MakeGuard) -> None:
    guard = make_guard()

    async def double(number: int) -> int:
        return 2 * number

    assert_type(guard.run(len, "four"), int)
    assert_type(await guard.arun(double, 4), int)
    assert guard.run(len, "four") == 4
    assert await guard.arun(double, number=4) == 8


async def test_whatever_is_async_is_awaited(make_guard: MakeGuard) -> None:
    """Taken for a sync function, it would be a success each time it is called, and the breaker would never open."""
    guard = make_guard(attempts=1, breaker=TRIPS_AT_ONCE)

    class Client:
        async def __call__(self) -> None:
            raise ConnectionRefusedError

        async def get(self, path: str) -> None:
            raise ConnectionRefusedError

    for fn in (Client(), Client().get, functools.partial(Client().get, "/")):
        fresh = make_guard(attempts=1, breaker=TRIPS_AT_ONCE)
        decorated: Callable[..., Coroutine[Any, Any, None]] = fresh(fn)
        with pytest.raises(ConnectionRefusedError):
            await decorated(*(["/"] if inspect.ismethod(fn) else []))
        assert fresh.breaker_state == "open"
    assert guard.breaker_state == "closed"


def test_a_method_can_be_guarded(make_guard: MakeGuard) -> None:
    guard = make_guard()

    class Client:
        base = 40

        @guard
        def get(self, more: int) -> int:
            return self.base + more

    assert Client().get(2) == 42


@pytest.mark.parametrize("kind", ["coroutine", "future"])
def test_something_to_await_under_run_is_a_mistake_and_says_what_to_do(kind: str, make_guard: MakeGuard) -> None:
    guard = make_guard()
    loop = asyncio.new_event_loop()

    async def fetch() -> None: ...

    def submit() -> asyncio.Future[None]:
        return loop.create_future()

    with pytest.raises(TypeError, match=r"(fetch|submit) returned something to await; use arun\(\), or decorate"):
        _ = guard.run(fetch if kind == "coroutine" else submit)
    loop.close()

    assert guard.counters.calls_cancelled == 1
    assert guard.in_flight == 0


def test_a_stream_cannot_be_guarded(make_guard: MakeGuard) -> None:
    guard = make_guard()

    def rows() -> Iterator[int]:
        yield 1

    async def arows() -> AsyncIterator[int]:
        yield 1

    for fn in (rows, arows):
        with pytest.raises(TypeError, match="guard the call that opens the stream"):
            guard(fn)


def test_arguments_named_like_the_guards_own_get_through(make_guard: MakeGuard) -> None:
    def call(fn: str, *, self: str, timeout: float) -> tuple[str, str, float]:
        return fn, self, timeout

    guard = make_guard()

    assert guard.run(call, fn="f", self="s", timeout=9.0) == ("f", "s", 9.0)
    assert guard(call)(fn="f", self="s", timeout=9.0) == ("f", "s", 9.0)


def test_each_rejection_is_an_exception_of_its_own(make_guard: MakeGuard) -> None:
    """A shared one would grow a traceback for ever."""
    guard = make_guard(attempts=1, breaker=TRIPS_AT_ONCE)
    with pytest.raises(ConnectionRefusedError):
        guard.run(refuse)

    rejections = []
    for _ in range(50):
        with pytest.raises(BreakerOpenError) as caught:
            guard.run(refuse)
        rejections.append(caught.value)

    assert len({id(rejection) for rejection in rejections}) == 50
    assert len({len(traceback.extract_tb(rejection.__traceback__)) for rejection in rejections}) == 1
    assert all(0 < rejection.retry_after <= 5 for rejection in rejections if rejection.retry_after is not None)


def test_a_full_bulkhead_rejects(make_guard: MakeGuard) -> None:
    guard = make_guard(limit=1, attempts=3)

    with pytest.raises(BulkheadFullError, match="auth: 1 calls are in flight"):
        guard.run(guard.run, refuse)

    assert guard.in_flight == 0


def test_a_trial_that_finds_no_place_gives_its_permit_back(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(limit=1, attempts=1, breaker=TRIPS_AT_ONCE)

    with pytest.raises(ConnectionRefusedError):
        guard.run(refuse)
    clock.advance(5.0)
    for _ in range(5):
        with pytest.raises(KeyError):
            guard.run(occupied_by, guard)

    assert guard.run(lambda: "ok") == "ok"


@pytest.mark.parametrize("ending", ["retried", "failed", "rejected", "given-up"])
async def test_no_error_waits_for_the_garbage_collector(ending: str, make_guard: MakeGuard) -> None:
    """An error in a cycle with its own traceback keeps every frame of the request alive until a collection."""

    class MarkedError(ConnectionResetError):
        pass

    alive: list[weakref.ref[BaseException]] = []
    guard = make_guard(
        attempts=2,
        breaker=TRIPS_AT_ONCE if ending == "rejected" else None,
        budget=None,
        sleep=lambda _: None,
        deadline=1.0,
    )

    def call() -> str:
        if ending == "retried" and alive:
            return "ok"
        error = MarkedError()
        alive.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    async def acall() -> str:
        return call()

    def sync_once() -> None:
        try:
            guard.run(call)
        except (MarkedError, BreakerOpenError) as error:
            alive.append(weakref.ref(error))

    async def async_once() -> None:
        try:
            await guard.arun(acall)
        except (MarkedError, BreakerOpenError) as error:
            alive.append(weakref.ref(error))

    if ending == "given-up":
        clock: ManualClock = ManualClock()
        guard = make_guard(attempts=2, deadline=1.0, clock=clock, sleep=lambda _: clock.advance(2.0))
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            sync_once()
        alive_after_sync = [ref for ref in alive if ref() is not None]
        alive.clear()
        for _ in range(3):
            await async_once()
        for _ in range(5):
            await asyncio.sleep(0)
        alive_after_async = [ref for ref in alive if ref() is not None]
    finally:
        gc.enable()

    assert alive_after_sync == []
    assert alive_after_async == []


def test_health_follows_the_calls(clock: ManualClock, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1)
    assert guard.health().status == "unknown"
    assert guard.health().age is None

    for _ in range(9):
        guard.run(lambda: "ok")
    assert guard.health().status == "up"
    assert guard.health().last_error is None

    with pytest.raises(ConnectionRefusedError):
        guard.run(refuse)
    clock.advance(2.0)
    health = guard.health()
    assert (health.status, health.error_rate, health.age) == ("degraded", 0.1, 2.0)
    assert health.last_error == "ConnectionRefusedError: port 443"

    for _ in range(9):
        with pytest.raises(ConnectionRefusedError):
            guard.run(refuse)
    assert guard.health().status == "down"
    assert guard.health().breaker_state == "open"

    clock.advance(5.0)
    guard.run(lambda: "ok")
    assert guard.health().status == "degraded"
    guard.run(lambda: "ok")
    assert guard.health().status == "up"
    assert guard.health().error_rate == 0.0

    clock.advance(31.0)
    assert guard.health().status == "unknown", "stale is unknown, never up"
    assert guard.health().age == 31.0


def test_health_is_down_by_failures_alone_where_no_breaker_is(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, breaker=None)

    for _ in range(100):
        with pytest.raises(ConnectionRefusedError):
            guard.run(refuse)

    assert guard.breaker_state == "closed"
    assert guard.health().status == "down"


@pytest.mark.parametrize("message", ["x" * 100_000, "", "\N{SNOWMAN}" * 500])
def test_an_error_in_health_is_bounded(message: str, make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1)

    def call() -> None:
        raise RuntimeError(message)

    with pytest.raises(RuntimeError):
        guard.run(call)

    last_error = guard.health().last_error
    assert last_error is not None
    assert last_error.startswith("RuntimeError")
    assert len(last_error) <= 200


def test_an_error_that_cannot_be_put_in_words_is_still_the_one_that_is_raised(make_guard: MakeGuard) -> None:
    class MuteError(RuntimeError):
        def __str__(self) -> str:
            raise ZeroDivisionError

    def call() -> None:
        raise MuteError

    guard = make_guard(attempts=1)

    with pytest.raises(MuteError):
        guard.run(call)

    assert guard.health().last_error == "MuteError"


def test_the_trail_of_a_request_names_what_failed_and_nothing_else(make_guard: MakeGuard) -> None:
    auth, balance, fees = (make_guard(name, attempts=1) for name in ("auth", "balance", "fees"))
    trail, token = _events.begin_trail()

    fees.run(lambda: 5)
    with pytest.raises(ConnectionRefusedError):
        auth.run(refuse)
    with pytest.raises(KeyError):
        balance.run(dict[str, int]().__getitem__, "alice")
    _events.end_trail(token)

    assert trail.failed == ["auth"]
    assert trail.degraded == []


@pytest.mark.parametrize("how", ["error", "timeout", "rejected", "given-up", "throttled"])
def test_any_final_failure_is_answered_with_the_last_good_answer(
    how: str, clock: ManualClock, make_guard: MakeGuard
) -> None:
    guard = make_guard(
        attempts=2 if how == "given-up" else 1,
        deadline=10.0,
        sleep=lambda _: clock.advance(20.0),
        breaker=TRIPS_AT_ONCE if how == "rejected" else None,
        stale=StaleAnswers(max_age=60.0),
    )
    balances = {"alice": 100}

    @guard.fallback(key=lambda user: user)
    def balance(user: str) -> int:
        if not balances:
            raise TimeoutError if how == "timeout" else ConnectionResetError
        return balances[user]

    assert_type(balance("alice"), Answer[int])
    assert balance("alice") == Answer(100, stale=False, age=0.0)
    balances.clear()
    clock.advance(7.0)
    trail, token = _events.begin_trail()
    if how == "rejected":
        balance("alice")
        trail.degraded.clear()
    answer = balance("alice")
    _events.end_trail(token)

    assert answer == Answer(100, degraded=True, stale=True, age=27.0 if how == "given-up" else 7.0)
    assert (trail.failed, trail.degraded) == ([], ["auth"])
    assert guard.counters.stale_served == guard.counters.final_failures
    with pytest.raises((ConnectionResetError, TimeoutError, BreakerOpenError)):
        balance("bob")


async def test_an_async_answer_may_be_stale_too(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1, stale=StaleAnswers())
    balances = {"alice": 100}

    @guard.fallback(key=lambda user: user)
    async def balance(user: str) -> int:
        if not balances:
            raise ConnectionResetError
        return balances[user]

    assert_type(await balance("alice"), Answer[int])
    balances.clear()

    assert (await balance("alice")).stale


def test_a_no_and_a_mistake_are_not_answered_with_something_old(make_guard: MakeGuard) -> None:
    guard = make_guard(stale=StaleAnswers())
    balances = {"alice": 100}

    @guard.fallback(key=lambda user: user)
    def balance(user: str) -> int:
        return balances[user]

    balance("alice")
    balances.clear()

    with pytest.raises(KeyError):
        balance("alice")
    assert guard.counters.stale_served == 0


def test_answers_of_different_functions_do_not_mix(make_guard: MakeGuard) -> None:
    store = StaleAnswers()
    auth, profile = make_guard("auth", attempts=1, stale=store), make_guard("profile", attempts=1, stale=store)
    broken = False

    def answer(text: str) -> str:
        if broken:
            raise ConnectionResetError
        return text

    @auth.fallback(key=lambda user: user)
    def role(user: str) -> str:
        return answer("admin")

    @profile.fallback(key=lambda user: user)
    def city(user: str) -> str:
        return answer("Bern")

    @profile.fallback(key=lambda user: user)
    def street(user: str) -> str:
        return answer("Marktgasse")

    fresh = [role("alice"), city("alice"), street("alice")]
    broken = True

    assert [role("alice").value, city("alice").value, street("alice").value] == [answer.value for answer in fresh]


def test_keyed_without_a_store_returns_answers_that_are_always_fresh(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=1)

    @guard.fallback(key=lambda text: text)
    def length(text: str) -> int:
        if not text:
            raise ConnectionResetError
        return len(text)

    assert length("four") == Answer(4)
    with pytest.raises(ConnectionResetError):
        length("")


def test_a_key_that_cannot_be_hashed_is_refused_before_the_call(make_guard: MakeGuard) -> None:
    guard = make_guard(stale=StaleAnswers())
    made = []

    @guard.fallback(key=lambda users: users)
    def balances(users: list[str]) -> None:
        made.append(users)

    with pytest.raises(TypeError, match="unhashable"):
        balances(["alice"])

    assert made == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        pytest.param({"timeout": 0.0}, "timeout must be above 0 seconds, got 0.0", id="timeout"),
        pytest.param({"deadline": -1.0}, "deadline must be above 0 seconds, or None, got -1.0", id="deadline"),
        pytest.param({"attempts": 0}, "it must be at least 1, got 0", id="attempts"),
        pytest.param({"limit": 0}, "limit must be at least 1, or None for no limit, got 0", id="limit"),
    ],
)
def test_settings_that_cannot_work_are_refused(bad: dict[str, float], words: str, make_guard: MakeGuard) -> None:
    with pytest.raises(ValueError, match=words):
        make_guard(**bad)


def test_what_a_scrape_reads_is_there_from_the_start(make_guard: MakeGuard) -> None:
    guard = make_guard()

    assert guard.counters.breaker_transitions == {"closed": 0, "open": 0, "half-open": 0}
    assert set(guard.counters.retries_by_error) == {"timeout", "connect", "reset", "5xx", "throttled", "other"}
    assert (guard.in_flight, guard.limit, guard.budget_remaining, guard.breaker_state) == (0, 64, 1.0, "closed")
    assert make_guard(limit=None, budget=None, breaker=None).limit is None
    assert repr(guard) == "<Guard 'auth': breaker closed, 0 in flight>"


def test_the_budget_that_remains_is_what_retries_have_left(make_guard: MakeGuard) -> None:
    guard = make_guard(attempts=2, breaker=None, budget=BudgetSettings(ratio=0.0, reserve=1.0))

    for _ in range(4):
        with pytest.raises(ConnectionRefusedError):
            guard.run(refuse)

    assert guard.budget_remaining == pytest.approx(0.6)


def test_without_a_gil_every_step_is_locked(monkeypatch: pytest.MonkeyPatch, make_guard: MakeGuard) -> None:
    """The steps are the same; here they are only seen to work under the lock they would then need."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    guard = make_guard(attempts=2, stale=StaleAnswers())
    pipeline = guard._pipeline
    held: list[bool] = []

    class Watched(Cells):
        __slots__ = ()

        def __setattr__(self, name: str, value: Any) -> None:
            held.append(pipeline.lock._is_owned())  # type: ignore[attr-defined] # there is no public question for it
            super().__setattr__(name, value)

    pipeline.cells.__class__ = Watched
    results: Iterator[str | Exception] = iter([ConnectionResetError(), "ok", "ok"])

    def call() -> str:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    async def acall() -> str:
        return call()

    assert guard.run(call) == "ok"
    assert asyncio.run(guard.arun(acall)) == "ok"
    assert held
    assert all(held)
    assert guard.in_flight == 0


def test_calls_before_the_first_failure_pay_for_its_retries(clock: ManualClock, make_guard: MakeGuard) -> None:
    """The budget is made by the first failure, and knows what went before."""
    guard = make_guard(attempts=2, breaker=None, budget=BudgetSettings(ratio=0.2, reserve=0.0))
    for _ in range(99):
        guard.run(lambda: "ok")

    with pytest.raises(ConnectionRefusedError):
        guard.run(refuse)

    assert guard.counters.retries == 1
    assert guard.budget_remaining == pytest.approx(1 - 1 / 20)
    clock.advance(20.0)
    with pytest.raises(ConnectionRefusedError):
        guard.run(refuse)
    assert guard.counters.retries_denied == 1
