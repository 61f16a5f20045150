"""Places for calls in flight."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shoal.guard import Bulkhead, Cells


def test_whoever_finds_no_place_is_turned_away_at_once() -> None:
    bulkhead = Bulkhead(Cells(), limit=2)

    assert [bulkhead.enter() for _ in range(3)] == [True, True, False]
    bulkhead.leave()
    assert bulkhead.enter()


def test_an_abandoned_attempt_keeps_its_place_until_it_ends() -> None:
    bulkhead = Bulkhead(Cells(), limit=1)
    bulkhead.enter()

    bulkhead.abandon()
    bulkhead.leave()
    assert not bulkhead.enter()

    bulkhead.abandoned_ended()
    assert bulkhead.enter()


def test_without_a_limit_abandoned_attempts_are_limited_all_the_same() -> None:
    bulkhead = Bulkhead(Cells(), limit=None, most_abandoned=2)
    for _ in range(1000):
        assert bulkhead.enter()

    bulkhead.abandon()
    assert bulkhead.enter()
    bulkhead.abandon()
    assert not bulkhead.enter()

    bulkhead.abandoned_ended()
    assert bulkhead.enter()


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="limit must be at least 1, or None for no limit, got 0"):
        Bulkhead(Cells(), limit=0)


class BulkheadMachine(RuleBasedStateMachine):
    LIMIT: int | None = 3
    MOST_ABANDONED = 3

    def __init__(self) -> None:
        super().__init__()
        self.bulkhead = Bulkhead(Cells(), limit=self.LIMIT, most_abandoned=self.MOST_ABANDONED)
        self.waited_for = 0
        self.abandoned = 0

    @rule()
    def somebody_comes(self) -> None:
        full = self.LIMIT is not None and self.waited_for + self.abandoned >= self.LIMIT
        choked = self.abandoned >= self.MOST_ABANDONED
        assert self.bulkhead.enter() is not (full or choked)
        self.waited_for += not (full or choked)

    @precondition(lambda self: self.waited_for > 0)
    @rule()
    def an_attempt_ends(self) -> None:
        self.bulkhead.leave()
        self.waited_for -= 1

    @precondition(lambda self: self.waited_for > 0)
    @rule()
    def an_attempt_is_abandoned(self) -> None:
        self.bulkhead.abandon()
        self.bulkhead.leave()
        self.waited_for -= 1
        self.abandoned += 1

    @precondition(lambda self: self.abandoned > 0)
    @rule()
    def an_abandoned_attempt_ends(self) -> None:
        self.bulkhead.abandoned_ended()
        self.abandoned -= 1

    @invariant()
    def every_place_is_accounted_for(self) -> None:
        assert self.bulkhead.in_flight == self.waited_for + self.abandoned
        assert self.bulkhead.abandoned == self.abandoned


class UnlimitedMachine(BulkheadMachine):
    LIMIT = None


TestBulkheadMachine = BulkheadMachine.TestCase
TestBulkheadMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestUnlimitedMachine = UnlimitedMachine.TestCase
TestUnlimitedMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
