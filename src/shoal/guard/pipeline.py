"""The policies around one dependency, composed in their one order. Decides; the drivers act."""

from __future__ import annotations

import random
from contextlib import suppress
from threading import RLock
from typing import Any

from shoal import _events
from shoal.errors import BreakerOpenError, BulkheadFullError

from .breaker import Breaker
from .budget import RetryBudget
from .bulkhead import Bulkhead
from .counters import Counters
from .health import GuardHealth, status_of
from .outcome import Classifier, ErrorType, Outcome, error_type, retry_after
from .retry import RetryPolicy
from .stale import Answer, Shelf

_LONGEST_ERROR = 200


class Pipeline:
    """fallback( retry( budget( breaker( bulkhead( deadline( call )))))), without the clock, the sleeping and the call.

    A driver asks `begin` or `resume` for a ticket, makes the attempt, gives the bulkhead's place back, and reports
    the end with `succeeded`, `failed` or `cancelled`. *total* is the number of seconds the whole call may take.
    """

    __slots__ = (
        "_classify",
        "_last_at",
        "_last_error",
        "_rng",
        "breaker",
        "budget",
        "bulkhead",
        "counters",
        "lock",
        "name",
        "retry",
        "total",
    )

    def __init__(
        self,
        name: str,
        *,
        retry: RetryPolicy,
        budget: RetryBudget | None,
        breaker: Breaker,
        bulkhead: Bulkhead,
        total: float,
        classify: Classifier,
        rng: random.Random,
    ) -> None:
        self.name = name
        self.retry = retry
        self.budget = budget
        self.breaker = breaker
        self.bulkhead = bulkhead
        self.total = total
        self.counters = Counters(breaker_transitions=breaker.transitions)
        # Taken on failures and changes of state only; where there is no GIL the drivers take it around each step.
        self.lock = RLock()
        self._classify = classify
        self._rng = rng
        self._last_at: float | None = None
        self._last_error: str | None = None

    def begin(self, now: float) -> int | None:
        """A ticket for the first attempt of a call, or None: see `reject`."""
        ticket = self._admit(now)
        if ticket is not None and self.budget is not None:
            self.budget.deposit(now)
        return ticket

    def resume(self, now: float, until: float) -> int | None:
        """A ticket for a further attempt, or None: see `give_up`."""
        # Sleeping may have taken longer than was asked for.
        return self._admit(now) if now < until else None

    def reject(self, now: float, shelf: Shelf | None) -> Answer[Any]:
        """The first attempt got no ticket: an old answer. Without one raises BreakerOpenError or BulkheadFullError."""
        self.counters.calls_rejected += 1
        answer = self._fall_back(shelf, now)
        if answer is not None:
            return answer
        breaker = self.breaker
        if breaker.closed_ticket is None:
            raise BreakerOpenError(self.name, retry_after=breaker.retry_after(now))
        raise BulkheadFullError(self.name, limit=self.bulkhead.full_at)

    def succeeded(self, ticket: int, attempt: int, now: float) -> None:
        """Attempt number *attempt*, the first being 1, returned; so does the call."""
        counters = self.counters
        if attempt == 1:
            counters.calls_success += 1
        else:
            counters.calls_success_after_retry += 1
        counters.attempts_ok += 1
        self._last_at = now
        breaker = self.breaker
        if ticket == breaker.closed_ticket:
            breaker.succeeded(ticket, now)
        else:
            with self.lock:
                breaker.succeeded(ticket, now)

    def failed(
        self,
        ticket: int,
        error: Exception,
        *,
        attempt: int,
        began: float,
        now: float,
        until: float,
        wall: float,
        shelf: Shelf | None,
    ) -> float | Answer[Any] | None:
        """Attempt number *attempt*, begun at *began*, raised: seconds to wait before the next, an old answer, or None.

        None means that the error is the caller's to see. *until* is when the call must be over.
        """
        outcome = self._judge(error)
        if outcome is Outcome.OK:
            with self.lock:
                self.succeeded(ticket, attempt, now)
            return None
        if outcome is Outcome.NEUTRAL:
            self.cancelled(ticket)
            return None
        kind = "throttled" if outcome is Outcome.THROTTLE else error_type(error)
        # What asks the error something comes before the lock: an error's properties are foreign code.
        repeatable = self.retry.allows(error, outcome, since=began)
        asked = retry_after(error, wall=wall) if outcome is Outcome.THROTTLE else None
        words = _in_words(error)
        with self.lock:
            self._record(ticket, outcome, kind, words, now)
            if repeatable and attempt < self.retry.attempts:
                wait = self._wait(outcome, attempt=attempt, asked=asked, now=now, until=until)
                if wait is not None:
                    self.counters.retries_by_error[kind] += 1
                    self.counters.backoff_seconds += wait
                    return wait
            if kind == "timeout":
                self.counters.calls_timeout += 1
            elif repeatable:
                self.counters.calls_exhausted += 1
            else:
                self.counters.calls_non_retryable += 1
        self.retry.mark(error, now)
        return self._fall_back(shelf, now)

    def give_up(self, error: Exception, now: float, shelf: Shelf | None) -> Answer[Any]:
        """A further attempt got no ticket: an old answer. Without one raises *error*, the dependency's last."""
        with self.lock:
            if error_type(error) == "timeout":
                self.counters.calls_timeout += 1
            else:
                self.counters.calls_exhausted += 1
        self.retry.mark(error, now)
        answer = self._fall_back(shelf, now)
        if answer is not None:
            return answer
        try:
            raise error
        finally:
            # Or this frame and the error's traceback would keep each other alive.
            del error

    def cancelled(self, ticket: int) -> None:
        """The call ended without a verdict on the dependency."""
        with self.lock:
            self.counters.calls_cancelled += 1
            self.breaker.abandoned(ticket)

    def health(self, now: float) -> GuardHealth:
        """What the calls of late say about the dependency."""
        with self.lock:
            good, bad = self.breaker.window.totals(now)
            state = self.breaker.state
            return GuardHealth(
                status=status_of(state, good=good, bad=bad),
                error_rate=bad / (good + bad) if bad else 0.0,
                in_flight=self.bulkhead.in_flight,
                breaker_state=state,
                last_error=self._last_error if bad or state != "closed" else None,
                age=None if self._last_at is None else max(0.0, now - self._last_at),
            )

    def _admit(self, now: float) -> int | None:
        breaker = self.breaker
        ticket = breaker.closed_ticket
        if ticket is None:
            with self.lock:
                ticket = breaker.admit(now)
            if ticket is None:
                return None
        if not self.bulkhead.enter():
            with self.lock:
                breaker.abandoned(ticket)
            return None
        return ticket

    def _judge(self, error: Exception) -> Outcome:
        try:
            return self._classify(error)
        except Exception as mistake:  # noqa: BLE001 -- whatever a classifier does, the dependency's own error survives
            error.add_note(f"shoal: classify= of guard {self.name!r} raised {mistake!r}; counted as a failure")
            return Outcome.FAIL

    def _record(self, ticket: int, outcome: Outcome, kind: ErrorType, words: str, now: float) -> None:
        if kind == "timeout":
            self.counters.attempts_timeout += 1
        else:
            self.counters.attempts_error += 1
        if outcome is Outcome.THROTTLE:
            self.breaker.abandoned(ticket)
        else:
            self.breaker.failed(ticket, now)
        self._last_at = now
        self._last_error = words

    def _wait(self, outcome: Outcome, *, attempt: int, asked: float | None, now: float, until: float) -> float | None:
        """Seconds to wait before the next attempt, or None: there will be none. Charges the budget last."""
        if self.breaker.closed_ticket is None:
            # Opened just now, or this was a trial: trials are there to find out, not to get one caller through.
            return None
        wait = self.retry.wait(attempt, outcome, rng=self._rng, at_least=asked or 0.0)
        if now + wait >= until:
            return None
        if self.budget is not None and not self.budget.withdraw(now):
            self.counters.retries_denied += 1
            return None
        return wait

    def _fall_back(self, shelf: Shelf | None, now: float) -> Answer[Any] | None:
        if shelf is not None and (answer := shelf.serve(now)) is not None:
            self.counters.stale_served += 1
            _events.note_degraded(self.name)
            return answer
        _events.note_failed(self.name)
        return None


def _in_words(error: Exception) -> str:
    """Kind and message on at most 200 characters. Text, not the error: that would keep every frame of it alive."""
    words = type(error).__name__
    # The message is foreign code.
    with suppress(Exception):
        message = str(error)
        if message:
            words = f"{words}: {message}"
    return words if len(words) <= _LONGEST_ERROR else words[: _LONGEST_ERROR - 1] + "…"
