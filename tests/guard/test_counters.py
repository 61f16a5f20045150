"""What is counted adds up, whatever happens."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.errors import CallRejectedError, DeadlineExceededError
from shoal.guard import BreakerSettings, BudgetSettings, Guard, StaleAnswers
from shoal.testing import ManualClock

KINDS = ["ok", "refused", "timeout", "5xx", "404", "429", "mistake", "interrupt"]

ENDINGS = (OSError, httpx.HTTPError, TypeError, CallRejectedError, KeyboardInterrupt, asyncio.CancelledError)

scripts = st.lists(st.lists(st.sampled_from(KINDS), min_size=3, max_size=3), min_size=1, max_size=30)


def act(kind: str) -> str:
    match kind:
        case "ok":
            return "ok"
        case "refused":
            raise ConnectionRefusedError
        case "timeout":
            raise TimeoutError
        case "mistake":
            raise TypeError
        case "interrupt":
            raise KeyboardInterrupt
        case _:
            status = {"5xx": 502, "404": 404, "429": 429}[kind]
            request = httpx.Request("GET", "http://auth")
            raise httpx.HTTPStatusError(kind, request=request, response=httpx.Response(status))


def make(clock: ManualClock, *, keyed: bool, idempotent: bool) -> Guard:
    async def async_sleep(seconds: float) -> None:
        clock.advance(seconds)

    return Guard(
        "auth",
        timeout=1.0,
        idempotent=idempotent,
        budget=BudgetSettings(ratio=0.2, reserve=0.3),
        breaker=BreakerSettings(consecutive=4, consecutive_over=0.0, open_for=1.0),
        stale=StaleAnswers() if keyed else None,
        clock=clock,
        rng=random.Random(5),
        sleep=clock.advance,
        async_sleep=async_sleep,
    )


@given(script=scripts, keyed=st.booleans(), idempotent=st.booleans(), asynchronous=st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_call_is_counted_once_and_every_attempt_at_most_once(
    script: list[list[str]], keyed: bool, idempotent: bool, asynchronous: bool
) -> None:
    clock = ManualClock()
    guard = make(clock, keyed=keyed, idempotent=idempotent)
    made: list[str] = []
    results: Iterator[str]

    def call() -> str:
        kind = next(results)
        # In a task an interrupt would end the event loop; there it is a cancellation that does the same.
        if asynchronous and kind == "interrupt":
            made.append(kind)
            raise asyncio.CancelledError
        made.append(kind)
        return act(kind)

    async def acall() -> str:
        return call()

    run = guard.fallback(key=lambda: "key")(call) if keyed else guard(call)
    arun = guard.fallback(key=lambda: "key")(acall) if keyed else guard(acall)

    async def calls() -> None:
        nonlocal results
        for kinds in script:
            results = iter(kinds)
            clock.advance(0.3)
            with suppress(*ENDINGS):
                await arun() if asynchronous else run()

    asyncio.run(calls())

    counters = guard.counters
    assert counters.calls == len(script)
    without_verdict = sum(kind in ("mistake", "interrupt") for kind in made)
    assert counters.attempts == len(made) - without_verdict
    assert counters.attempts_ok == sum(kind in ("ok", "404") for kind in made)
    assert counters.attempts_timeout == sum(kind == "timeout" for kind in made)
    assert counters.calls_success + counters.calls_success_after_retry == counters.attempts_ok
    assert counters.calls_cancelled == without_verdict
    begun = counters.calls - counters.calls_rejected
    # A retry that was scheduled is made, except when the breaker opened during the wait; nobody else calls here.
    assert len(made) == begun + counters.retries
    assert counters.retries <= 0.2 * begun + 0.3 * (clock.now() + 10)
    assert 0 <= counters.stale_served <= counters.final_failures
    assert guard.in_flight == 0
    assert counters.orphans == 0


def test_a_deadline_is_a_timeout_like_the_clients() -> None:
    guard = Guard("auth", timeout=0.001, attempts=1)

    async def scenario() -> None:
        with suppress(DeadlineExceededError):
            await guard.arun(asyncio.Event().wait)

    asyncio.run(scenario())

    assert guard.counters.attempts_timeout == guard.counters.calls_timeout == guard.counters.final_failures == 1
