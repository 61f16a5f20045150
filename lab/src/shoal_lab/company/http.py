"""Another service of the company, over HTTP."""

from __future__ import annotations

from typing import Any

import httpx

from shoal_lab.company.answers import RefusedError
from shoal_lab.company.settings import UNGUARDED_TIMEOUT


class Peer:
    """Calls one service. Deadlines are the guard's business; the client's own is the careless default."""

    def __init__(self, target: str) -> None:
        # No limit on connections: it would queue calls before the guard can see them.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=16)
        self._http = httpx.AsyncClient(base_url=target, timeout=UNGUARDED_TIMEOUT, limits=limits, trust_env=False)

    async def get(self, path: str) -> Any:
        """The JSON at *path*. Raises RefusedError for 404, and httpx's errors."""
        return _json(await self._http.get(path))

    async def post(self, path: str, body: object) -> Any:
        """The JSON answered to *body*. Raises RefusedError for 404, and httpx's errors."""
        return _json(await self._http.post(path, json=body))

    async def ready(self) -> None:
        """Ask for its readiness, as the article's endpoint did. Raises unless it says 200."""
        (await self._http.get("/readyz")).raise_for_status()

    async def open(self) -> None:
        """Connections are made when they are needed."""

    async def close(self) -> None:
        """Drop the connections."""
        await self._http.aclose()


def _json(response: httpx.Response) -> Any:
    if response.status_code == 404:
        raise RefusedError(404, "not found")
    response.raise_for_status()
    return response.json()
