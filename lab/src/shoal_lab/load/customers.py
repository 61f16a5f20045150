"""Who comes: customers the company knows, some more often than others, and now and then somebody new."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, count

from shoal_lab.load.arrivals import Arrival
from shoal_lab.load.journeys import JOURNEYS, Errand

NEWCOMERS = 400
"""How many newcomers the databases are seeded with."""

PASSWORD = "correct horse"  # noqa: S105 - everybody's, in a company that exists on loopback for a minute
"""The password of every customer."""

# Weight of the customer of rank r is r ** -0.5: of 60 customers the first sends 7 % of the requests, the last 1 %.
_SKEW = 0.5


def _known(number: int) -> str:
    return f"user-{number:04d}"


def _newcomer(number: int) -> str:
    return f"new-{number:04d}"


def all_names(known: int) -> list[str]:
    """Everybody that must have an account and a password before the load begins: *known* customers and all newcomers.

    >>> names = all_names(60)
    >>> names[0], names[59], names[60], len(names)
    ('user-0001', 'user-0060', 'new-0001', 460)
    """
    return [*map(_known, range(1, known + 1)), *map(_newcomer, range(1, NEWCOMERS + 1))]


@dataclass(frozen=True, kw_only=True, slots=True)
class Customers:
    """A population of *known* customers (1 or more), and a share of requests (0 to 1) sent by *newcomers*.

    A newcomer is somebody no cache can know yet, and each comes once; only when all `NEWCOMERS` have been here do
    they come round again, those first who were away longest (with 2 of them a second, after more than 3 minutes).

    >>> customers = Customers(known=60, newcomers=0.5, seed=5)
    >>> lock = Arrival(1.0, "lock-account")
    >>> [arrival.customer for arrival in customers.assign([lock, lock, lock, lock])]
    ['user-0058', 'user-0028', 'new-0001', 'user-0019']
    """

    known: int
    newcomers: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.known < 1:
            raise ValueError(f"known must be 1 customer or more, got {self.known}")
        if not 0 <= self.newcomers <= 1:
            raise ValueError(f"newcomers must be a share of the requests from 0 to 1, got {self.newcomers}")

    def assign(self, arrivals: Iterable[Arrival], *, journeys: Mapping[str, Errand] = JOURNEYS) -> list[Arrival]:
        """The same arrivals, each with the customer who sends it; journeys that need no token stay nameless.

        The same customers, arrivals and seed give the same answer in every process.
        """
        rng = random.Random(f"{self.seed} customers")
        named = {name for name, errand in journeys.items() if errand.needs_token}
        numbers = range(1, self.known + 1)
        weights = list(accumulate(rank**-_SKEW for rank in numbers))
        new = (1 + number % NEWCOMERS for number in count())

        def somebody() -> str:
            if rng.random() < self.newcomers:
                return _newcomer(next(new))
            return _known(rng.choices(numbers, cum_weights=weights)[0])

        return [replace(arrival, customer=somebody()) if arrival.journey in named else arrival for arrival in arrivals]
