"""Sends each request when it is due, whatever became of the ones before, and notes what came back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from yarl import URL

from shoal_lab.errors import UsageError
from shoal_lab.load.arrivals import Arrival
from shoal_lab.load.journeys import JOURNEYS, Errand
from shoal_lab.record import Sample

PATIENCE = 10.0
"""Real seconds after which a customer gives up."""

_BODY_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Lateness:
    """Seconds between the moment requests were due and the moment they were handed to the client.

    About a millisecond when all is well (timers of the event loop). If *p99* comes near the latencies that were
    measured, the generator was starved and its figures say more about the machine than about the company.
    """

    median: float
    p99: float
    worst: float

    @classmethod
    def of(cls, delays: Iterable[float]) -> Lateness:
        """The distribution of *delays* (nearest rank); zeros when there are none.

        >>> Lateness.of([0.25, 0.5, 1.0])
        Lateness(median=0.5, p99=1.0, worst=1.0)
        """
        ranked = sorted(delays) or [0.0]
        return cls(*(ranked[math.ceil(share * len(ranked)) - 1] for share in (0.5, 0.99, 1.0)))


class LoadGenerator:
    """The customers' apps: an open loop against *edge_url* (`http://127.0.0.1:8080`).

    *tokens* has the token of every customer by name. *patience* is in real seconds and counts, like every latency,
    from the moment a request was due: a request that could not be sent in time is not a fast one. One `run` at a
    time.
    """

    def __init__(
        self,
        edge_url: str,
        tokens: Mapping[str, str],
        *,
        patience: float = PATIENCE,
        journeys: Mapping[str, Errand] = JOURNEYS,
    ) -> None:
        if not patience > 0:
            raise ValueError(f"patience must be above 0 seconds, got {patience}")
        self._patience = patience
        self._journeys = journeys
        self._urls = {name: URL(edge_url.rstrip("/") + errand.path) for name, errand in journeys.items()}
        self._headers = {name: {"Authorization": f"Bearer {token}"} for name, token in tokens.items()}
        self._delays: list[float] = []
        self._samples: list[Sample] = []

    @property
    def lateness(self) -> Lateness:
        """How late the requests of the latest run were sent, so far."""
        return Lateness.of(self._delays)

    async def run(
        self,
        schedule: Sequence[Arrival],
        *,
        on_sample: Callable[[Sample], None] | None = None,
        start: float | None = None,
    ) -> list[Sample]:
        """Send everything in *schedule* and return one sample for each arrival, in the order they were due.

        Ends when the last request was answered or given up, so at most `patience` after the last one was due.
        *on_sample* is called with each sample as it comes. *start* is the moment all `at` count from, on the event
        loop's clock; now, if not given. When cancelled, every request in flight is cancelled with it.

        Raises UsageError for a journey the customers do not know, and for a customer without a token.
        """
        self._check(schedule)
        self._delays, self._samples = [], []
        loop = asyncio.get_running_loop()
        start = loop.time() if start is None else start
        async with self._session() as session, asyncio.TaskGroup() as group:
            for arrival in schedule:
                # Even when late: the requests that are due must get their turn on the loop.
                await asyncio.sleep(max(0.0, start + arrival.at - loop.time()))
                group.create_task(self._visit(session, arrival, start, on_sample))
        return sorted(self._samples, key=lambda sample: sample.at)

    def _check(self, schedule: Sequence[Arrival]) -> None:
        for journey in {arrival.journey for arrival in schedule}:
            if journey not in self._journeys:
                raise UsageError(f"unknown journey {journey!r}; the customers know {', '.join(self._journeys)}")
        for arrival in schedule:
            if self._journeys[arrival.journey].needs_token and arrival.customer not in self._headers:
                raise UsageError(f"no token for customer {arrival.customer!r}, who is to send {arrival.journey}")

    def _session(self) -> aiohttp.ClientSession:
        # No limit: a customer does not wait for another customer's connection.
        connector = aiohttp.TCPConnector(limit=0)
        # The one timeout is `_visit`'s: the client's own is rounded up to whole seconds above five.
        timeout = aiohttp.ClientTimeout()
        return aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())

    async def _visit(
        self,
        session: aiohttp.ClientSession,
        arrival: Arrival,
        start: float,
        on_sample: Callable[[Sample], None] | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        due = start + arrival.at
        self._delays.append(loop.time() - due)
        status: int | None = None
        body = error = ""
        try:
            async with asyncio.timeout_at(due + self._patience):
                status, body = await self._answer(session, arrival)
        except (aiohttp.ClientError, OSError) as failure:
            error = _word(failure)
        sample = Sample(arrival.journey, arrival.at, loop.time() - due, status, body, error)
        self._samples.append(sample)
        if on_sample is not None:
            on_sample(sample)

    async def _answer(self, session: aiohttp.ClientSession, arrival: Arrival) -> tuple[int, str]:
        """Status and beginning of the body. An answer that breaks off is none."""
        errand = self._journeys[arrival.journey]
        headers = self._headers[arrival.customer] if errand.needs_token else None
        url = self._urls[arrival.journey]
        async with session.request(errand.method, url, headers=headers, allow_redirects=False) as response:
            body = await response.read()
            return response.status, body[: 4 * _BODY_CHARACTERS].decode(errors="replace")[:_BODY_CHARACTERS]


def _word(failure: Exception) -> str:
    """What a customer would call it."""
    match failure:
        case TimeoutError():
            return "timeout"
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return "refused"
        case aiohttp.ClientConnectorError():
            return "unreachable"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError() | OSError():
            return "reset"
        case _:
            return "garbled"
