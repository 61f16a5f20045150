"""Customers log in before anything is measured, as people who have the app open already."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

import aiohttp

from shoal_lab.errors import PlatformError
from shoal_lab.load.customers import PASSWORD

_PATIENCE = 5.0
"""Seconds one login may take before it is tried again."""
_PAUSE = 0.2
"""Seconds between two tries."""


async def fetch_tokens(
    edge_url: str, names: Iterable[str], *, within: float = 30.0, at_once: int = 8
) -> dict[str, str]:
    """The token of each customer in *names*, by name, from `POST /token` at *edge_url*.

    At most *at_once* logins are under way together; one that is not answered, or answered with a 5xx, is tried again
    until *within* seconds have passed for all of them. Raises PlatformError, naming a customer and the last answer,
    when that is not enough, and at once when a login is refused (4xx), which no waiting changes.
    """
    tokens: dict[str, str] = {}
    waiting = iter(dict.fromkeys(names))
    timeout = aiohttp.ClientTimeout(total=_PATIENCE)
    deadline = asyncio.get_running_loop().time() + within
    try:
        async with aiohttp.ClientSession(edge_url, timeout=timeout) as session, asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(_log_in(session, waiting, tokens, deadline=deadline))
    except* PlatformError as failures:
        raise _first(failures) from None
    return tokens


def _first(failures: BaseExceptionGroup[PlatformError]) -> PlatformError:
    first = failures.exceptions[0]
    return first if isinstance(first, PlatformError) else _first(first)


async def _log_in(
    session: aiohttp.ClientSession, waiting: Iterator[str], tokens: dict[str, str], *, deadline: float
) -> None:
    """One of the workers: takes the next name until there is none."""
    for name in waiting:
        tokens[name] = await _token(session, name, deadline=deadline)


async def _token(session: aiohttp.ClientSession, name: str, *, deadline: float) -> str:
    loop = asyncio.get_running_loop()
    last = "no answer"
    while loop.time() < deadline:
        try:
            async with (
                asyncio.timeout_at(deadline),
                session.post("/token", json={"user": name, "password": PASSWORD}) as response,
            ):
                if response.status == 200:
                    return _read(await response.json(), name)
                last = f"{response.status} {(await response.text())[:200]!r}"
                if 400 <= response.status < 500:
                    raise PlatformError(f"no token for {name}: {last}; is it among the seeded customers?")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            last = str(error) or type(error).__name__
        await asyncio.sleep(_PAUSE)
    raise PlatformError(f"no token for {name} before the load was to begin, last answer: {last}; is auth running?")


def _read(answer: object, name: str) -> str:
    match answer:
        case {"token": str(token)}:
            return token
    raise PlatformError(f'no token for {name}: expected {{"token": "..."}}, got {str(answer)[:200]}')
