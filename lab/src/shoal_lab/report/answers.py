"""What customers read, sorted into kinds: forty balances are one kind, two error messages are two."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from shoal_lab.record import Sample

from .shape import Answer

KEPT = 4096
"""Characters of a body that are kept and compared; a megabyte of error page tells nobody more than its beginning."""

STALE = re.compile(r'"stale"\s*:\s*true')
"""How the company marks the last good answer that stands in for a new one."""

_FOLDS = (
    # A token: a JWT, or a long run with a digit in it. Long runs without one are words: error names must stay apart.
    (re.compile(r"\beyJ[\w-]+(?:\.[\w-]+)*"), "<token>"),
    (re.compile(r"(?<![\w-])(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{16,}(?![\w-])"), "<token>"),
    (re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{8,}\b"), "<token>"),
    (re.compile(r"\d+(?:\.\d+)?"), "0"),
)


def fold(body: str) -> str:
    """What is left of a body when everything that differs from customer to customer is taken out.

    Digits and tokens are replaced, and only the first `KEPT` characters count.

    >>> fold('{"balance": 12.50, "customer": "c-17"}')
    '{"balance": 0, "customer": "c-0"}'
    >>> fold("token 8f14e45f-ceea-467f-a0e6-1b2f3c4d5e6f expired")
    'token <token> expired'
    """
    body = body[:KEPT]
    for pattern, replacement in _FOLDS:
        body = pattern.sub(replacement, body)
    return body


def body_of(sample: Sample) -> str:
    """The body a customer read, or in brackets why there was none to read."""
    if sample.status is None:
        return f"(no answer: {sample.error or 'unknown'})"
    return sample.body


def served(answer: Answer) -> bool:
    """The customer got what was asked for: any 2xx, stale or not."""
    return answer["status"] is not None and 200 <= answer["status"] < 300


@dataclass(slots=True)
class _Kind:
    first: str
    count: int = 0


def kinds_of_answers(samples: Iterable[Sample]) -> list[Answer]:
    """The distinct answers in *samples*, most frequent first, each with the first body of its kind verbatim.

    Two answers are of one kind when their status is the same and their bodies are the same after `fold`.
    An error without an HTTP answer has the status `None` and a body like `(no answer: timeout)`.
    """
    kinds: dict[tuple[int | None, str], _Kind] = {}
    # Thousands of answers share a few dozen bodies; folding each body once keeps a long run cheap.
    folded: dict[str, str] = {}
    for sample in samples:
        body = body_of(sample)
        start = body[:KEPT]
        if start not in folded:
            folded[start] = fold(start)
        kinds.setdefault((sample.status, folded[start]), _Kind(body)).count += 1
    found = [
        Answer(status=status, body=kind.first[:KEPT], characters=len(kind.first), count=kind.count)
        for (status, _), kind in kinds.items()
    ]
    return sorted(found, key=lambda answer: (-answer["count"], answer["status"] or 0, answer["body"]))


def same_kind_together(answers: Iterable[Answer]) -> list[Answer]:
    """Answers of several journeys as one list: those of one kind are added up, most frequent first."""
    together: dict[tuple[int | None, str], Answer] = {}
    for answer in answers:
        key = (answer["status"], fold(answer["body"]))
        if key in together:
            together[key]["count"] += answer["count"]
        else:
            together[key] = answer.copy()
    return sorted(together.values(), key=lambda answer: (-answer["count"], answer["status"] or 0, answer["body"]))
