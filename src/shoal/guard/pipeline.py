"""The policies around one dependency, composed in their one order. Decides; the drivers act."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from threading import RLock
from typing import TypeAlias

from shoal import _events
from shoal._clock import Clock
from shoal.errors import BreakerOpenError, BulkheadFullError, CallRejectedError, CallShedError, TooLateError

from .breaker import Breaker
from .budget import BudgetSettings, RetryBudget
from .bulkhead import Bulkhead
from .cells import Cells
from .deadlines import UNTIL
from .dialects import ErrorType
from .fault import Fault
from .gil import gil_is_off
from .health import GuardHealth, status_of
from .outcome import Classifier, Outcome, error_type, retry_after
from .retry import RetryPolicy, was_retried
from .shedding import Shedding
from .tally import Refusal, Tally
from .transition import Listener

Sleep: TypeAlias = Callable[[float], None]
AsyncSleep: TypeAlias = Callable[[float], Awaitable[None]]

_LONGEST_ERROR = 200
_NEVER = -math.inf

_REASONS: dict[type[CallRejectedError], Refusal] = {
    BreakerOpenError: "breaker",
    BulkheadFullError: "bulkhead",
    CallShedError: "shed",
    TooLateError: "late",
}

# What an attempt is admitted with that the breaker would not have let through: it judges nothing.
_SHADOW_TICKET = -1


class Pipeline:
    """retry( budget( breaker( bulkhead( deadline( call ))))), without the clock, the sleeping and the call.

    A driver admits an attempt itself while the cells have a ticket, and counts its timely answer itself; for everything
    else it asks `begin` or `resume` and reports with `succeeded`, `failed` or `cancelled`, each of which gives the
    bulkhead's place back. *longest* is how many seconds all attempts and the longest waits between them amount to,
    *limit* how many the whole call may take.
    """

    __slots__ = (
        "_budget",
        "_budget_settings",
        "_careful",
        "_classify",
        "_failed_at",
        "_gil_is_off",
        "_last_error",
        "_listener",
        "_shadow",
        "_tally",
        "async_sleep",
        "breaker",
        "bulkhead",
        "cells",
        "clock",
        "fault",
        "limit",
        "lock",
        "longest",
        "name",
        "now",
        "retry",
        "rng",
        "shedding",
        "sleep",
        "timeout",
    )

    def __init__(
        self,
        name: str,
        *,
        cells: Cells,
        retry: RetryPolicy,
        budget: BudgetSettings | None,
        breaker: Breaker,
        bulkhead: Bulkhead,
        shedding: Shedding | None,
        timeout: float,
        classify: Classifier,
        listener: Listener,
        shadow: bool,
        limit: float,
        clock: Clock,
        rng: random.Random,
        sleep: Sleep,
        async_sleep: AsyncSleep,
    ) -> None:
        self.name = name
        self.cells = cells
        self.retry = retry
        self._budget_settings = budget
        # Most guards never see a failure, and guards are many: what only failures need is made by the first.
        self._budget: RetryBudget | None = None
        self._tally: Tally | None = None
        self.breaker = breaker
        self.bulkhead = bulkhead
        self.shedding = shedding
        self.timeout = timeout
        self.limit = limit
        self.sleep = sleep
        self.async_sleep = async_sleep
        self.longest = retry.attempts * timeout + retry.longest
        self.clock = clock
        self.now = clock.now
        self.rng = rng
        self.fault: Fault | None = None
        # Taken on the long way only.
        self.lock = RLock()
        self._classify = classify
        self._listener = listener
        self._shadow = shadow
        self._gil_is_off = gil_is_off()
        self._careful = shadow or self._gil_is_off
        self._failed_at = _NEVER
        self._last_error: str | None = None
        self._set_ticket(clock.now())

    @property
    def tally(self) -> Tally:
        """What is counted on the long way."""
        tally = self._tally
        if tally is None:
            with self.lock:
                tally = self._tally = self._tally or Tally()
        return tally

    def budget(self, now: float) -> RetryBudget | None:
        """What pays for retries; None if nothing needs to. To be called under the lock."""
        if self._budget is None and self._budget_settings is not None:
            self._budget = RetryBudget(self._budget_settings, self.cells)
            self._budget.assume(now, originals=self.breaker.heard_of(now, seconds=self._budget_settings.window))
            self.cells.turns_at = min(self.cells.turns_at, self._budget.window.turns_at)
        return self._budget

    def begin(self, now: float) -> int:
        """A ticket for the first attempt of a call. Raises the rejection if there is none."""
        breaker = self.breaker
        if now < breaker.opens_at and breaker.state == "open" and not self._careful:
            # While a dependency is down this is what all calls come to.
            self.tally.refused_by_breaker += 1
            _events.note_failed(self.name)
            raise BreakerOpenError(self.name, retry_after=breaker.opens_at - now)
        with self.lock:
            self._turn(now)
            ticket, refusal = self._admit(now)
            if refusal is not None:
                self.tally.refuse(_REASONS[type(refusal)], shadow=self._shadow)
                if self._shadow:
                    self.cells.entered += 1
                    refusal = None
            self._set_ticket(now)
        self._tell()
        if refusal is None:
            return ticket
        if isinstance(refusal, TooLateError):
            _events.note_late()
        else:
            _events.note_failed(self.name)
        try:
            raise refusal
        finally:
            # Or this frame and the error's traceback would keep each other alive.
            del refusal

    def resume(self, now: float, until: float) -> int | None:
        """A ticket for a further attempt, or None: see `give_up`."""
        # Sleeping may have taken longer than was asked for.
        if now >= until:
            return None
        with self.lock:
            self._turn(now)
            ticket, refusal = self._admit(now)
            self._set_ticket(now)
        self._tell()
        return ticket if refusal is None else None

    def succeeded(self, ticket: int, *, attempt: int, took: float, now: float) -> None:
        """Attempt number *attempt*, the first being 1, was answered after *took* seconds; so is the call."""
        with self.lock:
            self._leave(attempt, now)
            self._answered(ticket, attempt=attempt, took=took, now=now)
            self._set_ticket(now)
        self._tell()

    def failed(
        self,
        ticket: int,
        error: Exception,
        *,
        attempt: int,
        began: float,
        now: float,
        until: float,
        repeats: bool = True,
    ) -> float | None:
        """Attempt number *attempt*, begun at time *began*, raised: how long to wait before the next.

        None means that the error is the caller's to see. *until* is when the whole call must be over. With *repeats*
        False the attempt cannot be repeated here, and whether it may be is left to whoever is around.
        """
        outcome = self._judge(error)
        kind: ErrorType = "throttled" if outcome is Outcome.THROTTLE else error_type(error)
        # What asks the error something comes before the lock: an error's properties are foreign code.
        repeatable = repeats and outcome.is_bad and self.retry.allows(error, outcome, since=began)
        asked = retry_after(error, wall=self.clock.wall()) if outcome is Outcome.THROTTLE else None
        words = _in_words(error)
        with self.lock:
            self._leave(attempt, now)
            if outcome is Outcome.OK:
                self._answered(ticket, attempt=attempt, took=now - began, now=now)
                wait = None
            elif outcome is Outcome.NEUTRAL:
                self.tally.calls_cancelled += 1
                self.breaker.abandoned(ticket)
                wait = None
            else:
                # Cut short by the caller's deadline, after less time than answers take: no fault of the dependency's.
                # Compared as sums: of two differences of times, one may be rounded down.
                short = (
                    kind == "timeout"
                    and until < began + self.timeout
                    and until - began < (self.cells.quantile(0.95) or 0.0)
                )
                self._record(ticket, outcome, kind, words, took=now - began, now=now, short=short)
                wait = self._wait(outcome, attempt, asked, now=now, until=until) if repeatable else None
                if wait is None:
                    self._count_final(kind, exhausted=repeatable)
                else:
                    self.tally.retry(kind, wait)
            self._set_ticket(now)
        self._tell()
        if outcome.is_bad and wait is None:
            if repeats:
                self.retry.mark(error, now)
            self._note(error, late=short)
        return wait

    def give_up(self, error: Exception, now: float) -> None:
        """A further attempt got no ticket: *error*, the dependency's last, is the caller's to see."""
        with self.lock:
            self._count_final(error_type(error), exhausted=True)
        self.retry.mark(error, now)
        self._note(error, late=False)

    def cancelled(self, ticket: int, *, attempt: int) -> None:
        """The call ended without a verdict on the dependency."""
        now = self.now()
        with self.lock:
            self._leave(attempt, now)
            self.tally.calls_cancelled += 1
            self.breaker.abandoned(ticket)

    def interrupted(self) -> None:
        """The call ended between two attempts, cancelled."""
        with self.lock:
            self.tally.calls_cancelled += 1

    def may_be_excused(self, error: Exception) -> bool:
        """Whether a call that ended so may be answered otherwise: the dependency failed, or was not asked here."""
        if isinstance(error, CallRejectedError):
            return error.dependency == self.name
        return self._judge(error).is_bad

    def health(self, now: float) -> GuardHealth:
        """What the calls of late say about the dependency."""
        with self.lock:
            good, bad, _ = self.breaker.recent(now)
            state = self.breaker.state
            heard = max(self.cells.answered_at, self._failed_at)
            return GuardHealth(
                status=status_of(state, good=good, bad=bad),
                error_rate=bad / (good + bad) if bad else 0.0,
                p50=self.cells.quantile(0.5),
                p95=self.cells.quantile(0.95),
                in_flight=self.bulkhead.in_flight,
                breaker_state=state,
                since=max(0.0, now - self.breaker.since),
                last_error=self._last_error if bad or state != "closed" else None,
                age=None if heard == _NEVER else max(0.0, now - heard),
            )

    def may_retry(self, now: float) -> bool:
        """Charge a retry that is made elsewhere."""
        with self.lock:
            budget = self.budget(now)
            if budget is None:
                return True
            if budget.withdraw(now):
                budget.retry_ended()
                return True
            self.tally.retries_denied += 1
            return False

    def inject(self, fault: Fault | None) -> None:
        """Let *fault* befall the attempts from now on, or nothing any more."""
        with self.lock:
            self.fault = fault
            self._set_ticket(self.now())

    def orphaned(self) -> None:
        """An attempt goes on although nobody waits for it any more."""
        with self.lock:
            self.tally.orphans += 1
            self.bulkhead.abandon()

    def orphan_ended(self) -> None:
        """It has ended."""
        with self.lock:
            self.bulkhead.abandoned_ended()

    def _admit(self, now: float) -> tuple[int, CallRejectedError | None]:
        """A ticket, or the refusal and, for a shadow, what to admit the attempt with all the same."""
        until = UNTIL.get()
        if now >= until:
            return _SHADOW_TICKET, TooLateError(self.name, late=now - until)
        if self.shedding is not None and (share := self.shedding.share(now)) and self.rng.random() < share:
            self.shedding.left_out += 1
            return _SHADOW_TICKET, CallShedError(self.name, share=share)
        ticket = self.breaker.admit(now)
        if ticket is None:
            return _SHADOW_TICKET, BreakerOpenError(self.name, retry_after=self.breaker.retry_after(now))
        if not self.bulkhead.enter():
            if not self._shadow:
                self.breaker.abandoned(ticket)
            return ticket, BulkheadFullError(self.name, limit=self.bulkhead.full_at)
        return ticket, None

    def _set_ticket(self, now: float) -> None:
        """Let the drivers admit calls and count answers themselves, or not."""
        long_way = (
            self._gil_is_off or self.fault is not None or (self.shedding is not None and self.shedding.share(now))
        )
        self.cells.ticket = 0 if long_way else self.breaker.closed_ticket or 0

    def _turn(self, now: float) -> None:
        """Move the windows on, before more is counted."""
        if now < self.cells.turns_at:
            return
        turns = []
        for policy in (self.breaker, self._budget, self.shedding):
            if policy is not None:
                policy.advance(now)
                turns.append(policy.window.turns_at)
        self.cells.turns_at = min(turns)

    def _leave(self, attempt: int, now: float) -> None:
        self._turn(now)
        self.bulkhead.leave()
        if attempt > 1 and self._budget is not None:
            self._budget.retry_ended()

    def _tell(self) -> None:
        if not self.breaker.news:
            return
        with self.lock:
            news, self.breaker.news = self.breaker.news, ()
        for transition in news:
            # Foreign code, so not under the lock; and its mistakes are not the call's.
            with suppress(Exception):
                self._listener(self.name, transition)

    def _judge(self, error: Exception) -> Outcome:
        try:
            return self._classify(error)
        except Exception as mistake:  # noqa: BLE001 -- whatever a classifier does, the dependency's own error survives
            error.add_note(f"shoal: classify= of guard {self.name!r} raised {mistake!r}; counted as a failure")
            return Outcome.FAIL

    def _answered(self, ticket: int, *, attempt: int, took: float, now: float) -> None:
        if not self.breaker.succeeded(ticket, now, took=took):
            self.tally.answered_late += 1
        self.cells.answered_at = now
        if attempt > 1:
            self.tally.answers_after_retry += 1

    def _record(
        self, ticket: int, outcome: Outcome, kind: ErrorType, words: str, *, took: float, now: float, short: bool
    ) -> None:
        if kind == "timeout":
            self.tally.attempts_timeout += 1
        else:
            self.tally.attempts_error += 1
        if outcome is Outcome.THROTTLE or short:
            self.breaker.abandoned(ticket)
        else:
            self.breaker.failed(ticket, now, took=took)
        self._failed_at = now
        self._last_error = words

    def _wait(self, outcome: Outcome, attempt: int, asked: float | None, *, now: float, until: float) -> float | None:
        """Seconds to wait before the next attempt, or None: there will be none. Charges the budget last."""
        if attempt >= self.retry.attempts:
            return None
        if self.breaker.closed_ticket is None:
            # Opened just now, or this was a trial: trials are there to find out, not to get one caller through.
            return None
        wait = self.retry.wait(attempt, outcome, rng=self.rng, at_least=asked or 0.0)
        # An attempt that has less time than answers take is only more load.
        if now + wait + (self.cells.quantile(0.5) or 0.0) >= until:
            return None
        budget = self.budget(now)
        if budget is not None and not budget.withdraw(now):
            self.tally.retries_denied += 1
            return None
        return wait

    def _count_final(self, kind: ErrorType, *, exhausted: bool) -> None:
        if kind == "timeout":
            self.tally.calls_timeout += 1
        elif exhausted:
            self.tally.calls_exhausted += 1
        else:
            self.tally.calls_non_retryable += 1

    def _note(self, error: Exception, *, late: bool) -> None:
        if late:
            _events.note_late()
        else:
            _events.note_failed(self.name, retried=was_retried(error))


def _in_words(error: Exception) -> str:
    """Kind and message on at most 200 characters. Text, not the error: that would keep every frame of it alive."""
    words = type(error).__name__
    # The message is foreign code.
    with suppress(Exception):
        message = str(error)
        if message:
            words = f"{words}: {message}"
    return words if len(words) <= _LONGEST_ERROR else words[: _LONGEST_ERROR - 1] + "…"
