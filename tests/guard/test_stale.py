"""The last good answers."""

from __future__ import annotations

import pytest

from shoal.guard import StaleAnswers


def test_the_last_good_answer_comes_back_with_its_age() -> None:
    store = StaleAnswers(max_age=60.0)
    store.put("alice", 100, now=0.0)
    store.put("alice", 120, now=10.0)

    assert store.get("alice", now=15.0) == (120, 5.0)
    assert store.get("bob", now=15.0) is None


def test_an_answer_too_old_is_not_served_and_not_kept() -> None:
    store = StaleAnswers(max_age=60.0)
    store.put("alice", 100, now=0.0)

    assert store.get("alice", now=60.0) is not None
    assert store.get("alice", now=60.1) is None
    assert len(store) == 0


def test_what_was_used_longest_ago_makes_room() -> None:
    store = StaleAnswers(max_entries=2)
    store.put("alice", 1, now=0.0)
    store.put("bob", 2, now=1.0)
    store.get("alice", now=2.0)

    store.put("carol", 3, now=3.0)

    assert store.get("bob", now=3.0) is None
    assert store.get("alice", now=3.0) is not None
    assert len(store) == 2


def test_an_answer_of_none_is_an_answer() -> None:
    store = StaleAnswers()
    store.put("alice", None, now=0.0)

    assert store.get("alice", now=1.0) == (None, 1.0)


def test_while_a_dependency_answers_everybody_asks_for_himself() -> None:
    store = StaleAnswers()
    store.put("alice", 100, now=0.0)

    assert [store.claim("alice", now=1.0, until=9.0) for _ in range(2)] == [None, None]


def test_after_a_failure_one_asks_and_the_others_get_the_old_answer() -> None:
    store = StaleAnswers()
    store.put("alice", 100, now=0.0)
    store.failed("alice")

    claims = [store.claim("alice", now=2.0, until=9.0) for _ in range(3)]

    assert claims == [None, (100, 2.0), (100, 2.0)]


@pytest.mark.parametrize("report", ["failed", "unclaim"])
def test_when_it_has_reported_the_next_one_asks(report: str) -> None:
    store = StaleAnswers()
    store.put("alice", 100, now=0.0)
    store.failed("alice")
    store.claim("alice", now=2.0, until=9.0)

    getattr(store, report)("alice")

    assert store.claim("alice", now=3.0, until=9.0) is None
    assert store.claim("alice", now=3.0, until=9.0) == (100, 3.0)


def test_who_never_reports_is_not_waited_for() -> None:
    store = StaleAnswers()
    store.put("alice", 100, now=0.0)
    store.failed("alice")
    store.claim("alice", now=2.0, until=9.0)

    assert store.claim("alice", now=9.0, until=12.0) is None


def test_a_new_answer_ends_the_queueing() -> None:
    store = StaleAnswers()
    store.put("alice", 100, now=0.0)
    store.failed("alice")
    store.claim("alice", now=2.0, until=9.0)

    store.put("alice", 120, now=3.0)

    assert [store.claim("alice", now=3.0, until=9.0) for _ in range(2)] == [None, None]


def test_of_an_answer_too_old_there_is_nothing_to_claim() -> None:
    store = StaleAnswers(max_age=10.0)
    store.put("alice", 100, now=0.0)
    store.failed("alice")

    assert [store.claim("alice", now=11.0, until=12.0) for _ in range(2)] == [None, None]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        pytest.param({"max_age": 0.0}, "max_age must be above 0 seconds", id="age"),
        pytest.param({"max_entries": 0}, "max_entries must be at least 1", id="entries"),
    ],
)
def test_settings_that_cannot_work_are_refused(bad: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        StaleAnswers(**bad)
