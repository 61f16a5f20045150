"""When customers come: an open loop, so nobody waits for the answer of somebody else before sending."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Arrival:
    """One request that is due *at* seconds after the load began, by *customer* (empty: somebody without a name)."""

    at: float
    journey: str
    customer: str = ""


def poisson_arrivals(rate: float, duration: float, rng: random.Random) -> Iterator[float]:
    """Moments, in seconds from 0 up to but without *duration*, at which independent customers come.

    *rate* is their mean number per second. The gaps between them are exponentially distributed, which is what makes
    the arrivals a Poisson process: bunches and pauses, as with real customers. Raises ValueError for a rate or
    duration that is negative or not finite.

    >>> [round(at, 2) for at in poisson_arrivals(2.0, 2.0, random.Random(4))]
    [0.13, 0.19, 0.44, 0.53, 0.56, 0.82]
    """
    if not (math.isfinite(rate) and rate >= 0):
        raise ValueError(f"rate must be a number of arrivals per second, 0 or more, got {rate}")
    if not (math.isfinite(duration) and duration >= 0):
        raise ValueError(f"duration must be a number of seconds, 0 or more, got {duration}")
    return _moments(rate, duration, rng)


def _moments(rate: float, duration: float, rng: random.Random) -> Iterator[float]:
    if rate == 0:
        return
    at = rng.expovariate(rate)
    while at < duration:
        yield at
        at += rng.expovariate(rate)


def schedule(rates: Mapping[str, float], duration: float, *, seed: int) -> list[Arrival]:
    """All arrivals of all journeys in the order they are due; *rates* are arrivals per second of each journey.

    The same arguments give the same list in every process. Each journey draws from a source of its own: adding or
    removing a journey, or lengthening *duration*, moves no arrival of another. Raises ValueError as
    `poisson_arrivals` does.

    >>> alone = schedule({"fees": 2.0}, 10.0, seed=1)
    >>> both = schedule({"fees": 2.0, "view-balance": 3.0}, 10.0, seed=1)
    >>> [arrival for arrival in both if arrival.journey == "fees"] == alone
    True
    """
    # A string seeds by its SHA-512 and not by `hash`, which differs from process to process.
    return list(
        heapq.merge(
            *(
                [Arrival(at, journey) for at in poisson_arrivals(rate, duration, random.Random(f"{seed} {journey}"))]
                for journey, rate in rates.items()
            )
        )
    )
