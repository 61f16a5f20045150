"""One guard per dependency: all functions that call it share its budget, breaker, limit and health."""

from __future__ import annotations

import asyncio
import functools
import math
import random
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, overload

from shoal._clock import SYSTEM_CLOCK, Clock

from .backoff import Backoff
from .block import Block
from .breaker import Breaker, BreakerSettings
from .budget import BudgetSettings
from .bulkhead import Bulkhead
from .cells import Cells
from .counters import Counters, read_counters
from .deadlines import UNTIL
from .drivers import AsyncDriver, SyncDriver, acall, acall_in_time, call, call_in_time
from .fallback import MISSING, Fallback
from .fault import Fault
from .health import GuardHealth
from .kinds import is_async
from .outcome import Classifier, classify_default
from .pipeline import AsyncSleep, Pipeline, Sleep
from .retry import RetryPolicy
from .shedding import Shedding, SheddingSettings
from .stale import StaleAnswers
from .transition import BreakerState, Listener, log_transition

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

    Use it as a decorator of sync or async functions, through `run` and `arun`, or around a block with `call`; *name* is
    the dependency's. The policies, outermost first:
    fallback( retry( budget( breaker( bulkhead( deadline( call )))))).

    * *timeout*: seconds one attempt may take. Async attempts are cut there, even if their code resists being
      cancelled; sync ones cannot be, so hand `remaining` to the client's own timeout. `math.inf` leaves the time to the
      client, in async code too.
    * *deadline*: seconds the whole call may take, waits included. Guards inside inherit it. Default: what *attempts*
      timeouts and the longest waits between them amount to. A `shoal.deadline` around the call counts as well.
    * *attempts*: at most so many, the first one included, waiting *backoff* between them.
    * *idempotent*: False for calls that must not happen twice: then only what provably did nothing is repeated.
    * *budget*: how much load retries may add; None for any.
    * *breaker*: when to stop calling; None for never.
    * *limit*: calls in flight; None for any number.
    * *shedding*: leave out calls by chance while the dependency answers too few of them; None for never.
    * *classify*: what an exception says about the dependency.
    * *stale*: where functions with a `fallback` by key keep their last good answers.
    * *shadow*: True makes all calls and only counts those that would have been rejected, to try settings out.
    * *on_transition*: called with the name and a `Transition` when the breaker changes its state, in the thread that
      made it do so; the default writes to the logger `shoal.guard`.

    A call that fails for good raises the dependency's own exception, the one of its last attempt, or
    `DeadlineExceededError` where the guard ended the attempt; one that is not made raises a `CallRejectedError`. A
    final exception carries a mark, so that a guard around this one counts it and does not retry. Raises ValueError for
    settings out of range.

    >>> guard = Guard("fees", timeout=0.5)
    >>> @guard
    ... def fee(country: str) -> int:
    ...     return 5
    >>> fee("ch"), guard.counters.calls_success
    (5, 1)
    """

    __slots__ = ("__weakref__", "_acall", "_call", "_pipeline", "_stale")

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
        shedding: SheddingSettings | None = None,
        classify: Classifier = classify_default,
        stale: StaleAnswers | None = None,
        shadow: bool = False,
        on_transition: Listener = log_transition,
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
        slow_after = None if breaker is None else breaker.slow_after
        if slow_after is not None and slow_after >= timeout:
            raise ValueError(
                f"slow_after must be below the timeout, or nothing is slow; got {slow_after} and {timeout}"
            )
        cells = Cells()
        if slow_after is not None:
            cells.slow_after = slow_after
        rng = rng or _RNG
        self._pipeline = Pipeline(
            name,
            cells=cells,
            retry=RetryPolicy(attempts=attempts, idempotent=idempotent, backoff=backoff),
            budget=budget,
            breaker=Breaker(breaker or _NEVER_OPENS, cells, rng=rng, timeout=timeout, now=clock.now()),
            bulkhead=Bulkhead(cells, limit=limit),
            shedding=None if shedding is None else Shedding(shedding, cells),
            timeout=timeout,
            limit=math.inf if deadline is None else deadline,
            classify=classify,
            listener=on_transition,
            shadow=shadow,
            clock=clock,
            rng=rng,
            sleep=sleep,
            async_sleep=async_sleep,
        )
        self._stale = stale
        self._call: SyncDriver = call if deadline is None else call_in_time
        self._acall: AsyncDriver = acall if deadline is None else acall_in_time

    def __repr__(self) -> str:
        return f"<Guard {self.name!r}: breaker {self.breaker_state}, {self.in_flight} in flight>"

    @property
    def name(self) -> str:
        """The dependency's name."""
        return self._pipeline.name

    @property
    def timeout(self) -> float:
        """Seconds one attempt may take."""
        return self._pipeline.timeout

    @property
    def counters(self) -> Counters:
        """All counts as they are now."""
        pipeline = self._pipeline
        with pipeline.lock:
            return read_counters(pipeline.cells, pipeline.tally, changes=pipeline.breaker.changes)

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
        pipeline = self._pipeline
        now = pipeline.now()
        with pipeline.lock:
            budget = pipeline.budget(now)
            return 1.0 if budget is None else budget.remaining(now)

    def remaining(self) -> float:
        """Seconds that an attempt begun now may take: the timeout, or what the deadline leaves of it. Never negative.

        What to hand to a client's own timeout, which is all that can end a synchronous call.
        """
        pipeline = self._pipeline
        return min(pipeline.timeout, max(0.0, UNTIL.get() - pipeline.now()))

    def health(self) -> GuardHealth:
        """What the calls of late say about the dependency."""
        return self._pipeline.health(self._pipeline.now())

    def may_retry(self) -> bool:
        """For retry loops of other libraries: charge one retry to the budget, if it can pay for it."""
        return self._pipeline.may_retry(self._pipeline.now())

    def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `fn(*args, **kwargs)` under this guard.

        Raises what *fn* raised last, or CallRejectedError; TypeError if *fn* turns out to be async.
        """
        result: T = self._call(self._pipeline, fn, args, kwargs)
        return result

    async def arun(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await `fn(*args, **kwargs)` under this guard.

        Raises what *fn* raised last, DeadlineExceededError, or CallRejectedError.
        """
        result: T = await self._acall(self._pipeline, fn, args, kwargs)
        return result

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, T]], /) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> Callable[P, T]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Decorate a function, sync or async, so that every call of it is guarded. Its signature stays.

        Raises TypeError for a generator: guard the call that opens a stream, not the stream.
        """
        pipeline = self._pipeline
        if is_async(fn):
            acall = self._acall

            @functools.wraps(fn)
            async def guarded_async(*args: Any, **kwargs: Any) -> Any:
                return await acall(pipeline, fn, args, kwargs)

            return guarded_async

        call = self._call

        @functools.wraps(fn)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return call(pipeline, fn, args, kwargs)

        return guarded

    def call(self) -> Block:
        """A block that is one call of one attempt, for `with` and `async with`: see `Block`.

        >>> guard = Guard("fees", timeout=0.5)
        >>> with guard.call() as block:
        ...     block.remaining() <= 0.5
        True
        """
        return Block(self._pipeline)

    def fallback(
        self,
        *,
        key: Callable[..., Hashable] | None = None,
        value: Any = MISSING,
        function: Callable[..., Any] | None = None,
    ) -> Fallback:
        """Decorate a function so that a call that fails for good is answered all the same, with an `Answer`.

        *key* is called with the arguments and names the answer: a failed call gets the last good one, if *stale* of the
        guard still has it. While an answer is stale, one caller for each key asks the dependency again and the others
        get the stale one at once. Otherwise the answer is *value*, or what *function* returns for the exception and the
        arguments; if there is neither, the exception is raised. Any final failure may be answered so: an error, a
        timeout, a rejection; a 404 or a TypeError is raised as ever. Answers of different functions do not mix. Raises
        TypeError if there is nothing to fall back to, or too much.

        >>> guard = Guard("balance", timeout=0.5, attempts=1, stale=StaleAnswers(max_age=60.0))
        >>> balances = {"alice": 100}
        >>> @guard.fallback(key=lambda user: user, value=None)
        ... def balance(user: str) -> int:
        ...     if not balances:
        ...         raise ConnectionRefusedError
        ...     return balances[user]
        >>> balance("alice").value
        100
        >>> balances.clear()
        >>> balance("alice").stale, balance("alice").value, balance("bob")
        (True, 100, Answer(value=None, degraded=True, stale=False, age=0.0))
        """
        return Fallback(
            self._pipeline,
            call=self._call,
            acall=self._acall,
            store=self._stale,
            key=key,
            value=value,
            function=function,
        )

    @contextmanager
    def inject(self, fault: Fault) -> Iterator[None]:
        """Let *fault* befall the attempts of all callers while the block runs; for tests and drills.

        >>> guard = Guard("fees", timeout=0.5, attempts=1)
        >>> with guard.inject(Fault(error=ConnectionRefusedError)):
        ...     guard.run(int)
        Traceback (most recent call last):
        ConnectionRefusedError
        """
        before = self._pipeline.fault
        self._pipeline.inject(fault)
        try:
            yield
        finally:
            self._pipeline.inject(before)
