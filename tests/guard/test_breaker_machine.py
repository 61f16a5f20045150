"""The breaker under any sequence of events, against a model that only knows the rules."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shoal.guard import Breaker, BreakerSettings, Cells

SETTINGS = BreakerSettings(
    window=10.0,
    buckets=5,
    minimum_calls=6,
    consecutive=4,
    consecutive_over=1.0,
    open_for=2.0,
    longest_open=8.0,
    lease=3.0,
)


@dataclass
class Out:
    """A ticket that has not been reported with."""

    ticket: int
    since: float
    period: int
    trial: bool


class BreakerMachine(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 1000))
    def begin(self, seed: int) -> None:
        self.breaker = Breaker(SETTINGS, Cells(), rng=random.Random(seed))
        self.now = 10.0
        self.out: list[Out] = []
        # One more with every change of state; what was admitted in an earlier one is late.
        self.period = 0
        self.state = "closed"
        self.opened = 0.0
        self.successes = self.failures = 0

    def note(self) -> None:
        """What the state is after an event; only legal changes."""
        after = self.breaker.state
        if after != self.state:
            assert (self.state, after) in {
                ("closed", "open"),
                ("open", "half-open"),
                ("half-open", "open"),
                ("half-open", "closed"),
            }
            self.period += 1
            self.successes = self.failures = 0
            self.state = after
            if after == "open":
                self.opened = self.now

    def leased(self) -> list[Out]:
        return [out for out in self.out if out.trial and out.period == self.period and self.now - out.since < 3.0]

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 3.0, 8.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(many=st.integers(1, 6))
    def callers_come(self, many: int) -> None:
        for _ in range(many):
            ticket = self.breaker.admit(self.now)
            before = self.state
            self.note()
            if before == "closed":
                assert ticket is not None, "a closed breaker admits always"
                self.out.append(Out(ticket, self.now, self.period, trial=False))
                continue
            if before == "open" and self.now - self.opened < SETTINGS.open_for / 2:
                assert ticket is None, "an open breaker admits nobody before half of its pause is over"
            if before == "open" and self.now - self.opened >= SETTINGS.longest_open:
                assert ticket is not None, "no pause is longer than the longest"
            if self.state == "half-open":
                free = SETTINGS.trials - len(self.leased()) - self.successes - self.failures
                assert (ticket is not None) is (free > 0)
            if ticket is not None:
                assert ticket not in [out.ticket for out in self.out], "every trial has a ticket of its own"
                self.out.append(Out(ticket, self.now, self.period, trial=True))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), report=st.sampled_from(["succeeded", "failed", "abandoned"]))
    def somebody_reports(self, data: st.DataObject, report: str) -> None:
        out = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        late = out.period != self.period
        # A lease that ended, and may or may not have been lent again, makes the model unsure: whether the report
        # counts is then read off the breaker.
        expired = out.trial and self.now - out.since >= 3.0
        if report == "abandoned":
            self.breaker.abandoned(out.ticket)
        elif report == "succeeded":
            self.breaker.succeeded(out.ticket, self.now)
        else:
            self.breaker.failed(out.ticket, self.now)
        after = self.breaker.state
        if late or report == "abandoned":
            assert after == self.state, "a late or missing verdict changes nothing"
        elif out.trial and not expired:
            self.successes += report == "succeeded"
            self.failures += report == "failed"
            closes, opens = self.successes >= 2, self.failures >= 2
            assert after == ("closed" if closes else "open" if opens else "half-open")
        elif not out.trial:
            assert after != "half-open"
            assert report == "failed" or after == "closed", "a success opens nothing"
        if expired and not late:
            self.successes, self.failures = self.breaker._successes, self.breaker._failures
        self.note()

    @invariant()
    def never_more_than_three_trials_are_out(self) -> None:
        if hasattr(self, "breaker"):
            assert len(self.leased()) <= SETTINGS.trials
            assert (self.breaker.closed_ticket is not None) is (self.breaker.state == "closed")


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
