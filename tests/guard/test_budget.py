"""Retries are paid for."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shoal.guard import BudgetSettings, Cells, RetryBudget


def make(**settings: float) -> RetryBudget:
    return RetryBudget(BudgetSettings(**settings), Cells())


def call(budget: RetryBudget, many: int, *, now: float) -> None:
    """So many calls are made and have ended at once."""
    budget.advance(now)
    budget.cells.entered += many
    budget.cells.left += many


def granted(budget: RetryBudget, asked: int, *, now: float) -> int:
    return sum(budget.withdraw(now) for _ in range(asked))


def retry(budget: RetryBudget, *, now: float) -> None:
    """A retry that was granted is made and has ended at once."""
    call(budget, 1, now=now)
    budget.retry_ended()


def test_retries_are_a_fifth_of_the_calls_and_a_reserve() -> None:
    budget = make()
    call(budget, 100, now=1.0)

    assert granted(budget, 1000, now=1.0) == 20 + 30


def test_a_retry_is_charged_and_comes_back_with_time() -> None:
    budget = make(ratio=0.0, reserve=1.0)

    assert granted(budget, 100, now=0.0) == 10
    assert granted(budget, 100, now=8.9) == 0
    assert granted(budget, 100, now=10.0) == 10


def test_old_calls_pay_for_nothing() -> None:
    budget = make(reserve=0.0)
    call(budget, 100, now=0.0)

    assert granted(budget, 100, now=9.9) == 20
    assert granted(budget, 100, now=20.0) == 0


def test_what_remains_is_a_share_of_what_was_allowed() -> None:
    budget = make(ratio=0.5, reserve=0.0)
    assert budget.remaining(0.0) == 1.0
    call(budget, 8, now=0.0)

    budget.withdraw(0.0)

    assert budget.remaining(0.0) == 0.75
    assert granted(budget, 100, now=0.0) == 3
    assert budget.remaining(0.0) == 0.0


def test_an_empty_budget_stays_empty_when_its_calls_age_before_its_retries() -> None:
    budget = make(ratio=0.5, reserve=0.0)
    call(budget, 2, now=0.0)
    budget.withdraw(5.0)

    assert budget.remaining(12.0) == 0.0


def test_a_call_in_flight_counts_as_one_of_now() -> None:
    """However long ago it began: a thousand callers who all wait pay for two hundred retries."""
    budget = make(reserve=0.0)
    budget.cells.entered = 1000

    assert granted(budget, 1000, now=500.0) == 200


def test_retries_pay_for_no_retries() -> None:
    budget = make(ratio=0.5, reserve=0.0)
    call(budget, 8, now=0.0)
    for _ in range(4):
        assert budget.withdraw(0.0)
        retry(budget, now=0.0)

    assert not budget.withdraw(0.0)


def test_a_retry_that_still_waits_takes_no_original_away() -> None:
    budget = make(ratio=0.5, reserve=0.0)
    call(budget, 8, now=0.0)

    assert granted(budget, 100, now=0.0) == 4


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        pytest.param({"ratio": -0.1}, "must not be negative, got -0.1", id="ratio"),
        pytest.param({"reserve": float("nan")}, "must not be negative", id="reserve"),
        pytest.param({"window": 0.0}, "window must be above 0", id="window"),
    ],
)
def test_settings_that_cannot_work_are_refused(bad: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BudgetSettings(**bad)


class BudgetMachine(RuleBasedStateMachine):
    """Against an exact log. The buckets make the budget's window 9 to 10 s long, so it is checked from both sides."""

    RATIO, RESERVE, WINDOW, BUCKET = 0.2, 0.3, 10.0, 1.0

    def __init__(self) -> None:
        super().__init__()
        self.budget = make(ratio=self.RATIO, reserve=self.RESERVE, window=self.WINDOW)
        self.now = 50.0
        self.calls: list[float] = []
        self.retries: list[float] = []

    def within(self, times: list[float], seconds: float) -> int:
        return sum(self.now - time < seconds for time in times)

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0, 9.5, 25.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(many=st.integers(1, 20))
    def calls_are_made(self, many: int) -> None:
        call(self.budget, many, now=self.now)
        self.calls.extend([self.now] * many)

    @rule()
    def a_retry_is_wanted(self) -> None:
        reserve = self.RESERVE * self.WINDOW
        short, whole = self.WINDOW - self.BUCKET, self.WINDOW
        if self.budget.withdraw(self.now):
            # Never more than the ratio and the reserve pay for.
            self.retries.append(self.now)
            retry(self.budget, now=self.now)
            assert self.within(self.retries, short) <= self.RATIO * self.within(self.calls, whole) + reserve
        else:
            # Never refused while there is surely something left.
            assert self.within(self.retries, whole) + 1 > self.RATIO * self.within(self.calls, short) + reserve

    @invariant()
    def what_remains_is_a_ratio(self) -> None:
        assert 0.0 <= self.budget.remaining(self.now) <= 1.0


TestBudgetMachine = BudgetMachine.TestCase
TestBudgetMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
