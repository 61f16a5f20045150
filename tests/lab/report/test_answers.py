"""What is one kind of answer, and what are two."""

from __future__ import annotations

import pytest

from shoal_lab.record import Sample
from shoal_lab.report.answers import KEPT, fold, kinds_of_answers, same_kind_together

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjdXN0b21lci0xNyJ9.Zm9vYmFy-_abc"


def answered(body: str, *, status: int | None = 200, error: str = "") -> Sample:
    return Sample("view-balance", 0.0, 0.1, status, body, error)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param('{"balance": 12.50}', '{"balance": 7}', id="amounts"),
        pytest.param("customer-17 is locked", "customer-4 is locked", id="customers"),
        pytest.param(f"token {JWT} expired", f"token {JWT}x expired", id="JSON web tokens"),
        pytest.param("id 8f14e45f-ceea-467f-a0e6-1b2f3c4d5e6f", "id 0cc175b9-c0f1-46a8-8f2c-9d8e7f6a5b4c", id="UUIDs"),
        pytest.param("request 9f86d081", "request deadbee1", id="short hexadecimal names"),
    ],
)
def test_what_differs_from_customer_to_customer_does_not_make_a_kind(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("no healthy upstream", "upstream request timeout", id="sentences"),
        pytest.param(
            "upstream_reset_before_response_started",
            "upstream_response_timeout_exceeded",
            id="long words with no digit",
        ),
        pytest.param('{"balance": 1, "stale": true}', '{"balance": 1}', id="a stale answer"),
        pytest.param("DeadlineExceededError", "ConnectionRefusedError", id="names of errors"),
    ],
)
def test_what_says_something_else_is_another_kind(one: str, other: str) -> None:
    assert fold(one) != fold(other)


def test_forty_balances_are_one_kind_shown_by_its_first() -> None:
    answers = kinds_of_answers(answered(f'{{"balance": {amount}.25}}') for amount in range(40))

    assert answers == [{"status": 200, "body": '{"balance": 0.25}', "characters": 17, "count": 40}]


def test_the_same_words_with_another_status_are_another_kind() -> None:
    answers = kinds_of_answers(
        [answered("sorry", status=503), answered("sorry", status=500), answered("sorry", status=503)]
    )

    assert [(answer["status"], answer["count"]) for answer in answers] == [(503, 2), (500, 1)]


def test_no_answer_is_told_apart_by_its_reason() -> None:
    answers = kinds_of_answers(
        [
            answered("", status=None, error="timeout"),
            answered("", status=None, error="reset"),
            answered("", status=None),
        ]
    )

    assert [(answer["status"], answer["body"]) for answer in answers] == [
        (None, "(no answer: reset)"),
        (None, "(no answer: timeout)"),
        (None, "(no answer: unknown)"),
    ]


def test_the_most_frequent_comes_first() -> None:
    answers = kinds_of_answers([answered("rare"), answered("frequent"), answered("frequent")])

    assert [answer["body"] for answer in answers] == ["frequent", "rare"]


def test_of_a_megabyte_only_the_beginning_is_kept_and_its_length_told() -> None:
    (answer,) = kinds_of_answers([answered("a" * 1_000_000)])

    assert answer["body"] == "a" * KEPT
    assert answer["characters"] == 1_000_000


def test_answers_of_several_journeys_are_added_up() -> None:
    wallet = kinds_of_answers([answered("gone in 1.5 s", status=503)] * 2)
    fees = kinds_of_answers([answered("gone in 9 s", status=503)] * 3 + [answered("fine")])

    together = same_kind_together([*wallet, *fees])

    assert [(answer["body"], answer["count"]) for answer in together] == [("gone in 1.5 s", 5), ("fine", 1)]
    assert wallet[0]["count"] == 2
