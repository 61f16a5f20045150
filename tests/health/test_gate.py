"""The startup gate: closed until what is required has answered, or the budget is over, and then open for ever."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shoal.health import StartupGate


def test_a_gate_without_requirements_is_open_at_once() -> None:
    gate = StartupGate([], budget=60.0)

    assert gate.open(now=0.0)
    assert gate.reason is None
    assert not gate.degraded


def test_it_waits_for_all_and_says_for_which() -> None:
    gate = StartupGate(["auth", "database"], budget=60.0)
    gate.open(now=5.0)
    gate.failed("database", "refused")
    gate.answered("auth")

    assert not gate.open(now=17.4)
    assert gate.reason == "starting: waiting for database (refused), 12 s of 60 s"
    assert gate.missing == ("database",)


def test_what_was_never_asked_is_said_to_be() -> None:
    gate = StartupGate(["auth", "database"], budget=1.5)
    gate.open(now=0.0)

    assert gate.reason == "starting: waiting for auth (not yet sampled), database (not yet sampled), 0 s of 1.5 s"


def test_the_budget_runs_from_the_first_question() -> None:
    gate = StartupGate(["database"], budget=10.0)

    assert [gate.open(now=now) for now in (100.0, 109.9, 110.0)] == [False, False, True]


def test_after_the_budget_it_opens_degraded_and_names_what_is_missing() -> None:
    gate = StartupGate(["database"], budget=10.0)
    gate.open(now=0.0)

    assert gate.open(now=10.0)
    assert gate.degraded
    assert gate.reason == "started without database: no answer within 10 s"


def test_a_late_answer_ends_the_degradation() -> None:
    gate = StartupGate(["database"], budget=0.0)
    gate.open(now=0.0)
    gate.answered("database")

    assert not gate.degraded
    assert gate.reason is None


def test_a_failure_after_an_answer_closes_nothing() -> None:
    gate = StartupGate(["database"], budget=60.0)
    gate.answered("database")
    gate.failed("database", "refused")

    assert gate.open(now=0.0)


def test_names_that_are_not_required_are_ignored() -> None:
    gate = StartupGate(["database"], budget=60.0)
    gate.answered("kafka")
    gate.failed("kafka", "refused")

    assert not gate.open(now=0.0)
    assert "kafka" not in (gate.reason or "")


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="budget must be 0 or more seconds, got -1"):
        StartupGate([], budget=-1.0)


NAMES = ["auth", "balance", "database"]


class Gate(RuleBasedStateMachine):
    """Whatever happens in whatever order."""

    @initialize(required=st.sets(st.sampled_from(NAMES)), budget=st.floats(0, 20))
    def begin(self, required: set[str], budget: float) -> None:
        self.gate = StartupGate(sorted(required), budget=budget)
        self.waiting = set(required)
        self.budget = budget
        self.now = 100.0
        self.began = self.now
        self.was_open = self.gate.open(self.now)

    @rule(name=st.sampled_from(NAMES))
    def answer(self, name: str) -> None:
        self.gate.answered(name)
        self.waiting.discard(name)

    @rule(name=st.sampled_from(NAMES))
    def fail(self, name: str) -> None:
        self.gate.failed(name, "refused")

    @rule(seconds=st.floats(0, 5))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def once_open_it_stays_open_and_never_opens_early(self) -> None:
        is_open = self.gate.open(self.now)
        due = not self.waiting or self.now - self.began >= self.budget
        assert is_open == (self.was_open or due)
        assert is_open or self.gate.reason is not None
        self.was_open = is_open


TestGate = Gate.TestCase
