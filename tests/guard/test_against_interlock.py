"""The same calls at the same times through a guard and through interlock-cb, the other breaker that is nearly right.

Both are configured alike: a window of ten one-second buckets, half of at least six calls, a pause of 2 s that doubles
up to 8 s, three trials. After every event they must agree on who is admitted, on the state, on how long to wait and on
the rate of failures, except for the five differences named in `RULES`. Each has its condition, which is checked from
the events alone; then interlock is told what makes it agree, and the comparison goes on.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from interlock import CircuitBreaker, CircuitOpenError, Config, State, WindowType

from shoal.errors import BreakerOpenError
from shoal.guard import BreakerSettings, Guard, Outcome, classify_default
from shoal.testing import ManualClock

RULES = {
    "the verdict is early": "Two trials of a kind settle it here; interlock waits for the third, however long.",
    "closing remembers": "The two trials that closed it are in the new window here; interlock's begins empty.",
    "a success opens nothing": "Here a failure has to; interlock judges after each call, so a success may trip it.",
    "leases end": "A trial not heard of for 3 s is lent again here; interlock keeps its place for ever.",
    "no verdict": "Own mistakes and 429 count for nothing here; interlock knows success, failure and cancellation.",
}

TRIALS, LEASE = 3, 3.0

SETTINGS = BreakerSettings(
    window=10.0,
    buckets=10,
    failure_ratio=0.5,
    minimum_calls=6,
    consecutive=10**9,
    open_for=2.0,
    longest_open=8.0,
    trials=TRIALS,
    successes_to_close=2,
    lease=LEASE,
)

CONFIG = Config(
    window_type=WindowType.TIME_BASED,
    window_size=10,
    failure_rate_threshold=0.5,
    minimum_number_of_calls=6,
    slow_call_duration_threshold=1e9,
    wait_duration_in_open=2.0,
    wait_duration_backoff_multiplier=2.0,
    wait_duration_in_open_max=8.0,
    permitted_calls_in_half_open=TRIALS,
    max_concurrent_probes=TRIALS,
)

STATES = {State.CLOSED: "closed", State.OPEN: "open", State.HALF_OPEN: "half-open"}


class AnswerError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


ENDINGS: dict[str, Callable[[], BaseException | None]] = {
    "ok": lambda: None,
    "reset": ConnectionResetError,
    "timeout": TimeoutError,
    "500": lambda: AnswerError(500),
    "404": lambda: AnswerError(404),
    "429": lambda: AnswerError(429),
    "mistake": KeyError,
    "cancelled": asyncio.CancelledError,
}


def says(ending: str) -> str:
    """In the words of this module, not of the guard: what an ending says of the dependency."""
    if ending in {"ok", "404"}:
        return "good"
    return "bad" if ending in {"reset", "timeout", "500"} else "nothing"


class NoJitter(random.Random):
    """All of the pause."""

    def random(self) -> float:
        return 1.0


class InterlocksClock:
    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def monotonic(self) -> float:
        return self._clock.now()


class AsWeJudge:
    """Tells interlock which exceptions are failures."""

    def is_failure(self, *, result: object, exception: Exception | None) -> bool:
        return exception is not None and classify_default(exception) is Outcome.FAIL


class _Suspended:
    def __await__(self) -> Generator[None, None, None]:
        yield


async def wait_for_ending() -> None:
    await _Suspended()


@contextmanager
def that_is_the_end(error: BaseException | None) -> Iterator[None]:
    """The dependency's own error gets out, and no other; a rejection, which is one, is raised."""
    try:
        yield
    except BaseException as raised:
        if raised is not error:
            raise
    else:
        assert error is None, f"{error!r} was lost"


def end(error: BaseException | None) -> None:
    if error is not None:
        raise error


def call_at_once(
    call: Callable[[Callable[[BaseException | None], None], BaseException | None], None], ending: str
) -> None:
    """Through `Guard.run` or `CircuitBreaker.call_sync`."""
    error = ENDINGS[ending]()
    with that_is_the_end(error):
        call(end, error)


def finish(call: Coroutine[Any, Any, None], ending: str) -> None:
    """Let a call that waits end so."""
    error = ENDINGS[ending]()
    with that_is_the_end(error), suppress(StopIteration):
        if error is not None:
            call.throw(error)
        call.send(None)


@dataclass
class Call:
    """One that has begun on both sides, or only here: interlock may have been told how it ended."""

    ours: Coroutine[Any, Any, None]
    theirs: Coroutine[Any, Any, None] | None
    began: float
    spell: Counter[str] | None
    """For a trial, what the trials of its half-open spell have said so far."""


class Pair:
    """Both breakers. An event is a method; each ends with a comparison."""

    def __init__(self) -> None:
        self.clock = ManualClock(1000.0)
        self.ours = Guard(
            "auth",
            timeout=math.inf,
            attempts=1,
            limit=None,
            budget=None,
            breaker=SETTINGS,
            clock=self.clock,
            rng=NoJitter(),
            on_transition=lambda name, change: None,
        )
        self.theirs = CircuitBreaker(
            name="auth", config=CONFIG, clock=InterlocksClock(self.clock), classifier=AsWeJudge()
        )
        self.running: list[Call] = []
        self.spell: Counter[str] = Counter()
        self.used: Counter[str] = Counter()

    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def a_call_begins(self) -> None:
        ours: Coroutine[Any, Any, None] = self.ours.arun(wait_for_ending)
        theirs = in_their_breaker(self.theirs)
        if self._admit(lambda: ours.send(None), lambda: theirs.send(None)):
            spell = self.spell if self.ours.breaker_state == "half-open" else None
            self.running.append(Call(ours, theirs, self.clock.now(), spell))
        else:
            theirs.close()
        self._agree()

    def a_call_ends(self, place: int, ending: str) -> None:
        if not self.running:
            return
        call, before = self.running.pop(place % len(self.running)), self.ours.breaker_state
        if call.spell is self.spell and call.theirs is not None:
            self.spell[says(ending)] += 1
        finish(call.ours, ending)
        if call.theirs is not None:
            finish(call.theirs, self._in_their_words(ending))
        self._explain(before, ending)
        self._agree()

    def a_call_is_over_at_once(self, ending: str) -> None:
        """The other way to call, without `async`."""
        before = self.ours.breaker_state
        if self._admit(
            lambda: call_at_once(self.ours.run, ending),
            lambda: call_at_once(self.theirs.call_sync, self._in_their_words(ending)),
        ):
            if before != "closed":
                before = "half-open"
                self.spell[says(ending)] += 1
            self._explain(before, ending)
        self._agree()

    def _admit(self, ours: Callable[[], object], theirs: Callable[[], object]) -> bool:
        """Whether both let a call through."""
        before = self.ours.breaker_state
        if before == "half-open":
            self._end_leases()
        we_wait = they_wait = admitted = "admitted"
        try:
            ours()
        except BreakerOpenError as rejection:
            we_wait = f"{rejection.retry_after:.6f} s"
        if before == "open" and we_wait is admitted:
            self.spell = Counter()
        try:
            theirs()
        except CircuitOpenError as rejection:
            # In a half-open spell interlock cannot tell.
            they_wait = we_wait if rejection.retry_after is None else f"{rejection.retry_after:.6f} s"
            assert they_wait is not admitted
        assert we_wait == they_wait
        return we_wait is admitted

    def _in_their_words(self, ending: str) -> str:
        if says(ending) != "nothing":
            return ending
        self.used["no verdict"] += ending != "cancelled"
        return "cancelled"

    def _end_leases(self) -> None:
        for call in self.running:
            ended = call.began + LEASE <= self.clock.now()
            if call.spell is self.spell and call.theirs is not None and ended:
                call.theirs.close()
                call.theirs = None
                self.used["leases end"] += 1

    def _explain(self, before: str, ending: str) -> None:
        """Where a rule says that they differ after a call ended so, make interlock agree."""
        ours, theirs = self.ours.breaker_state, STATES[self.theirs.state]
        if ours != "half-open" and before == theirs == "half-open" and self.spell[settles(ours)] == 2:
            self.used["the verdict is early"] += 1
            self._let_interlock_hear_the_rest("ok" if ours == "closed" else "reset")
        elif (ours, theirs) == ("closed", "open") and before == "closed" and says(ending) == "good":
            self.used["a success opens nothing"] += 1
            assert self.ours.health().error_rate >= SETTINGS.failure_ratio
            call_at_once(self.ours.run, "reset")
        if (before, ours) == ("half-open", "closed"):
            self.used["closing remembers"] += 1
            for _ in range(SETTINGS.successes_to_close):
                call_at_once(self.theirs.call_sync, "ok")

    def _let_interlock_hear_the_rest(self, ending: str) -> None:
        for call in self.running:
            if call.spell is self.spell and call.theirs is not None and self.theirs.state is State.HALF_OPEN:
                finish(call.theirs, ending)
                call.theirs = None
        while self.theirs.state is State.HALF_OPEN:
            call_at_once(self.theirs.call_sync, ending)

    def _agree(self) -> None:
        assert self.ours.breaker_state == STATES[self.theirs.state]
        if self.ours.breaker_state == "closed":
            assert self.ours.health().error_rate == self.theirs.snapshot().failure_rate

    def stop(self) -> None:
        for call in self.running:
            finish(call.ours, "cancelled")
            if call.theirs is not None:
                call.theirs.close()
        assert self.ours.in_flight == 0


def settles(state: str) -> str:
    return "good" if state == "closed" else "bad"


async def in_their_breaker(breaker: CircuitBreaker) -> None:
    await breaker.call_async(wait_for_ending)


times = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0, 2.0, 2.9, 3.0, 4.0, 8.0, 11.0])
endings = st.sampled_from([*ENDINGS, "reset", "reset", "reset", "ok"])
events = st.one_of(
    st.tuples(st.just(Pair.time_passes), times),
    st.tuples(st.just(Pair.a_call_begins)),
    st.tuples(st.just(Pair.a_call_ends), st.integers(0, 9), endings),
    st.tuples(st.just(Pair.a_call_is_over_at_once), endings),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(events, max_size=60))
def test_any_events(story: list[tuple[Any, ...]]) -> None:
    pair = Pair()

    for event, *details in story:
        event(pair, *details)

    pair.stop()


def tell(pair: Pair, rng: random.Random, many: int) -> None:
    """Fair and foul weather by turns, some calls that take long, and now and then a silence."""
    foul = 0.0
    for number in range(many):
        if number % 40 == 0:
            foul = rng.choice([0.0, 0.3, 0.6, 1.0])
        ending = rng.choice(["reset", "timeout", "500"] if rng.random() < foul else ["ok", "ok", "404"])
        if rng.random() < 0.15:
            ending = rng.choice(["429", "mistake", "cancelled"])
        draw = rng.random()
        if draw < 0.4:
            pair.a_call_is_over_at_once(ending)
        elif draw < 0.6:
            pair.a_call_begins()
        elif draw < 0.75 or len(pair.running) > 8:
            pair.a_call_ends(rng.randrange(9), ending)
        else:
            pair.time_passes(rng.choice([0.1, 0.1, 0.3, 0.5, 1.0, 2.0, 3.0] + [12.0] * (draw > 0.98)))


def test_long_stories_in_which_every_rule_is_needed() -> None:
    used: Counter[str] = Counter()
    transitions: Counter[str] = Counter()

    for seed in range(60):
        pair = Pair()
        tell(pair, random.Random(seed), 400)
        pair.stop()
        used += pair.used
        transitions += Counter(pair.ours.counters.breaker_transitions)

    assert set(used) == set(RULES), "no rule is unknown, and none is there for nothing"
    assert min(used.values()) > 20
    assert min(transitions[state] for state in ("open", "half-open", "closed")) > 100
