"""The article's endpoint, to the letter."""

from __future__ import annotations

import asyncio
import json

import pytest

from shoal.health import Check, available_answer, deep_answer


async def fine() -> None:
    """Works."""


async def refuse() -> None:
    raise ConnectionRefusedError


async def exits() -> None:
    raise SystemExit(1)


def says_false() -> bool:
    return False


async def test_all_available_is_200_with_the_map_of_the_article() -> None:
    answer = await deep_answer(Check(name=name, function=fine) for name in ("auth", "balance", "kafka", "database"))

    assert answer.status == 200
    assert answer.body == b'{"available": {"auth": true, "balance": true, "kafka": true, "database": true}}\n'
    assert answer.content_type == "application/json"


@pytest.mark.parametrize("function", [refuse, exits, says_false], ids=["raises", "exits", "says false"])
async def test_one_that_is_not_available_is_500(function: object) -> None:
    assert callable(function)
    answer = await deep_answer([Check(name="auth", function=function), Check(name="kafka", function=fine)])

    assert answer.status == 500
    assert json.loads(answer.body) == {"available": {"auth": False, "kafka": True}}


async def test_what_has_not_answered_in_time_is_not_available() -> None:
    """Also one whose own timeout is longer, and one that refuses to stop."""
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    checks = [
        Check(name="auth", function=asyncio.Event().wait, timeout=60.0),
        Check(name="balance", function=stubborn),
        Check(name="kafka", function=fine),
    ]
    answer = await deep_answer(checks, timeout=0.05)
    release.set()

    assert json.loads(answer.body) == {"available": {"auth": False, "balance": False, "kafka": True}}


async def test_all_are_asked_at_the_same_time() -> None:
    """Each waits for the other: one after the other, neither would return."""
    barrier = asyncio.Barrier(2)

    answer = await deep_answer([Check(name=name, function=barrier.wait) for name in ("auth", "kafka")], timeout=5.0)

    assert answer.status == 200


async def test_with_nothing_to_ask_it_is_available() -> None:
    assert (await deep_answer([])).body == b'{"available": {}}\n'


def test_the_map_alone_decides_the_status() -> None:
    assert available_answer({"auth": True}).status == 200
    assert available_answer({"auth": True, "kafka": False}).status == 500


def test_its_docstring_says_what_it_will_do_to_you() -> None:
    assert "What this will do to you" in (deep_answer.__doc__ or "")
