"""One guard per dependency: all functions that call it share its budget, breaker, limit and health."""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, Generic, ParamSpec, TypeVar, overload

from shoal._clock import SYSTEM_CLOCK, Clock

from .backoff import Backoff
from .breaker import Breaker, BreakerSettings, BreakerState
from .budget import BudgetSettings, RetryBudget
from .bulkhead import Bulkhead
from .counters import Counters
from .drivers import AsyncCall, AsyncSleep, Sleep, SyncCall, async_driver, sync_driver
from .health import GuardHealth
from .outcome import Classifier, classify_default
from .pipeline import Pipeline
from .retry import RetryPolicy
from .stale import Answer, Shelf, StaleAnswers

P = ParamSpec("P")
T = TypeVar("T")

_BACKOFF = Backoff()
_BUDGET = BudgetSettings()
_BREAKER = BreakerSettings()
_NEVER_OPENS = BreakerSettings(minimum_calls=sys.maxsize, consecutive=sys.maxsize)

# No state to share between forked workers, whose jitter must differ, and none to keep in memory for each guard.
_RNG = random.SystemRandom()


class Guard:
    """Calls one dependency the way it should be called: in time, a few times, not too often, and counted.

    Use it as a decorator of sync or async functions, or through `run` and `arun`; *name* is the dependency's. The
    policies, outermost first: fallback( retry( budget( breaker( bulkhead( deadline( call )))))).

    * *timeout*: seconds one attempt may take. Async attempts are cut there, even if their code resists being
      cancelled; sync ones cannot be, so give the client the same timeout.
    * *deadline*: seconds the whole call may take, waits included; no retry is begun that would end its wait after it.
      Default: what *attempts* timeouts and the longest waits between them amount to.
    * *attempts*: at most so many, the first one included, waiting *backoff* between them.
    * *idempotent*: False for calls that must not happen twice: then only what provably did nothing is repeated.
    * *budget*: how much load retries may add; None for any.
    * *breaker*: when to stop calling; None for never.
    * *limit*: calls in flight; None for any number.
    * *classify*: what an exception says about the dependency.
    * *stale*: where `keyed` functions keep their last good answers.

    A call that fails for good raises the dependency's own exception, the one of its last attempt, or
    `DeadlineExceededError` where the guard ended the attempt; one that is not made raises `BreakerOpenError` or
    `BulkheadFullError`. Such an exception carries a mark, so that a guard around this one counts it and does not retry.
    Raises ValueError for settings out of range.

    >>> guard = Guard("fees", timeout=0.5)
    >>> @guard
    ... def fee(country: str) -> int:
    ...     return 5
    >>> fee("ch"), guard.counters.calls_success
    (5, 1)
    """

    __slots__ = ("__weakref__", "_acall", "_call", "_clock", "_pipeline", "_stale", "counters", "name")

    def __init__(
        self,
        name: str,
        *,
        timeout: float,
        deadline: float | None = None,
        attempts: int = 3,
        idempotent: bool = True,
        backoff: Backoff = _BACKOFF,
        budget: BudgetSettings | None = _BUDGET,
        breaker: BreakerSettings | None = _BREAKER,
        limit: int | None = 64,
        classify: Classifier = classify_default,
        stale: StaleAnswers | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
        sleep: Sleep = time.sleep,
        async_sleep: AsyncSleep = asyncio.sleep,
    ) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout must be above 0 seconds, got {timeout}")
        if deadline is not None and not deadline > 0:
            raise ValueError(f"deadline must be above 0 seconds, or None, got {deadline}")
        if attempts < 1:
            raise ValueError(f"attempts counts the first one, so it must be at least 1, got {attempts}")
        rng = rng or _RNG
        retry = RetryPolicy(attempts=attempts, idempotent=idempotent, backoff=backoff)
        self._pipeline = pipeline = Pipeline(
            name,
            retry=retry,
            budget=None if budget is None else RetryBudget(budget),
            breaker=Breaker(breaker or _NEVER_OPENS, rng=rng, timeout=timeout),
            bulkhead=Bulkhead(limit=limit),
            total=attempts * timeout + retry.longest if deadline is None else deadline,
            classify=classify,
            rng=rng,
        )
        self.name = name
        self.counters: Counters = pipeline.counters
        self._clock = clock
        self._stale = stale
        self._call: SyncCall = sync_driver(pipeline, clock=clock, sleep=sleep)
        self._acall: AsyncCall = async_driver(pipeline, timeout=timeout, clock=clock, sleep=async_sleep)

    def __repr__(self) -> str:
        return f"<Guard {self.name!r}: breaker {self.breaker_state}, {self.in_flight} in flight>"

    @property
    def breaker_state(self) -> BreakerState:
        """`closed`, `open` or `half-open`. An open breaker becomes half-open with the first call after its pause."""
        return self._pipeline.breaker.state

    @property
    def in_flight(self) -> int:
        """Attempts being made now, those included that went on after their deadline."""
        return self._pipeline.bulkhead.in_flight

    @property
    def limit(self) -> int | None:
        """How many attempts may be in flight, None for any number."""
        return self._pipeline.bulkhead.limit

    @property
    def budget_remaining(self) -> float:
        """The share of the retry budget that is left, 0 to 1; 1 without a budget."""
        budget = self._pipeline.budget
        if budget is None:
            return 1.0
        with self._pipeline.lock:
            return budget.remaining(self._clock.now())

    def health(self) -> GuardHealth:
        """What the calls of late say about the dependency."""
        return self._pipeline.health(self._clock.now())

    def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `fn(*args, **kwargs)` under this guard.

        Raises what *fn* raised last, or CallRejectedError; TypeError if *fn* turns out to be async.
        """
        result: T = self._call(fn, args, kwargs, None)
        return result

    async def arun(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await `fn(*args, **kwargs)` under this guard.

        Each attempt runs in a task of its own: context variables that *fn* sets are not seen by the caller. Raises what
        *fn* raised last, DeadlineExceededError, or CallRejectedError.
        """
        result: T = await self._acall(fn, args, kwargs, None)
        return result

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, T]], /) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> Callable[P, T]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Decorate a function, sync or async, so that every call of it is guarded. Its signature stays.

        Raises TypeError for a generator: guard the call that opens a stream, not the stream.
        """
        if _is_async(fn):
            acall = self._acall

            @functools.wraps(fn)
            async def guarded_async(*args: Any, **kwargs: Any) -> Any:
                return await acall(fn, args, kwargs, None)

            return guarded_async

        call = self._call

        @functools.wraps(fn)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return call(fn, args, kwargs, None)

        return guarded

    def keyed(self, key: Callable[P, Hashable]) -> Keyed[P]:
        """Decorate a function so that a failed call is answered with the last good answer, if there is one.

        *key* is called with the arguments and names the answer; keys of different functions do not mix. The
        decorated function returns an `Answer`: its *value*, whether it is *stale*, and its *age* in seconds. Any final
        failure may be answered so: an error, a timeout, a rejection; a 404 or a TypeError is raised as ever. Without
        *stale* in the guard the answers are always fresh.

        >>> guard = Guard("balance", timeout=0.5, attempts=1, stale=StaleAnswers(max_age=60.0))
        >>> balances = {"alice": 100}
        >>> @guard.keyed(lambda user: user)
        ... def balance(user: str) -> int:
        ...     if not balances:
        ...         raise ConnectionRefusedError
        ...     return balances[user]
        >>> balance("alice")
        Answer(value=100, stale=False, age=0.0)
        >>> balances.clear()
        >>> balance("alice").stale
        True
        """
        return Keyed(self._call, self._acall, self._stale, key)


class Keyed(Generic[P]):
    """The decorator that `Guard.keyed` returns."""

    __slots__ = ("_acall", "_call", "_key", "_stale")

    def __init__(
        self, call: SyncCall, acall: AsyncCall, stale: StaleAnswers | None, key: Callable[P, Hashable]
    ) -> None:
        self._call = call
        self._acall = acall
        self._stale = stale
        self._key = key

    # A coroutine function is a function too; the overloads overlap, and the narrower one comes first.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, fn: Callable[P, Coroutine[Any, Any, T]], /
    ) -> Callable[P, Coroutine[Any, Any, Answer[T]]]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> Callable[P, Answer[T]]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Decorate one function."""
        stale, key = self._stale, self._key
        function = object()

        def shelf(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Shelf:
            place = (function, key(*args, **kwargs))
            # A key that cannot be hashed is to be heard of now, not after a good answer came.
            hash(place)
            return Shelf(stale, place)

        if _is_async(fn):
            acall = self._acall

            @functools.wraps(fn)
            async def guarded_async(*args: Any, **kwargs: Any) -> Any:
                return await acall(fn, args, kwargs, shelf(args, kwargs))

            return guarded_async

        call = self._call

        @functools.wraps(fn)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return call(fn, args, kwargs, shelf(args, kwargs))

        return guarded


def _is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling *fn* gives something to await, for functions, partials, methods and objects with `__call__`."""
    candidates = (fn, getattr(fn, "__call__", None))  # noqa: B004 -- the method itself is wanted, not whether there is one
    if any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in candidates):
        raise TypeError(f"{fn!r} is a generator; guard the call that opens the stream, not the stream")
    return any(inspect.iscoroutinefunction(one) for one in candidates)
