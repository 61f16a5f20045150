"""The ladder of remedies: each step adds one thing to the step before, everything else equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

StepName = Literal["deep", "shallow", "guarded", "cached", "stateless-auth", "split"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Remedies:
    """What is switched on in every service of the company."""

    readiness: Literal["deep", "shallow"] = "shallow"
    """`deep` is the endpoint of the article: ready only if every dependency answers."""
    guarded: bool = False
    """Deadline, retries under a budget and breaker around every call; deep at start (required dependencies)."""
    cached: bool = False
    """The last good answer of auth and balance serves while they are away, marked as stale."""
    stateless_auth: bool = False
    """Tokens are verified locally against auth's public keys instead of asking auth each time."""
    split: bool = False
    """The account lock lives in a service of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One rung: its name, what it adds, and the flags that make it."""

    name: StepName
    adds: str
    remedies: Remedies


LADDER: tuple[Step, ...] = (
    Step(
        name="deep",
        adds="every readiness probe asks every dependency, as in the article",
        remedies=Remedies(readiness="deep"),
    ),
    Step(
        name="shallow",
        adds="ready if it can answer; a dependency's failure becomes a counted 5xx",
        remedies=Remedies(),
    ),
    Step(
        name="guarded",
        adds="deadline, retries under a budget and breaker around every call",
        remedies=Remedies(guarded=True),
    ),
    Step(
        name="cached",
        adds="the last good answer serves while auth or balance is away",
        remedies=Remedies(guarded=True, cached=True),
    ),
    Step(
        name="stateless-auth",
        adds="tokens are verified locally against cached keys",
        remedies=Remedies(guarded=True, cached=True, stateless_auth=True),
    ),
    Step(
        name="split",
        adds="the account lock lives in a service of its own",
        remedies=Remedies(guarded=True, cached=True, stateless_auth=True, split=True),
    ),
)

STEPS: dict[str, Step] = {step.name: step for step in LADDER}
