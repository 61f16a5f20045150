"""Another service of the company, over HTTP."""

from __future__ import annotations

from typing import Any

import httpx

from shoal.guard import RETRY_HEADER, TIMEOUT_HEADER, do_not_retry, forbids_retry, timeout_header
from shoal.service import Dependency
from shoal_lab.company.answers import RefusedError
from shoal_lab.company.settings import UNGUARDED_TIMEOUT


class Peer:
    """Calls one service. Deadlines are the guard's business; the client's own is the careless default.

    Where calls are *guarded*, the other side is told how long the guard waits, so that it drops what is late, and when
    it says that it has retried already, the guard does not.
    """

    def __init__(self, dependency: Dependency, *, guarded: bool) -> None:
        # No limit on connections: it would queue calls before the guard can see them.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=16)
        target = dependency.target
        self._http = httpx.AsyncClient(base_url=target, timeout=UNGUARDED_TIMEOUT, limits=limits, trust_env=False)
        self._guard = dependency.guard if guarded else None

    async def get(self, path: str) -> Any:
        """The JSON at *path*. Raises RefusedError for 404, and httpx's errors."""
        return self._json(await self._http.get(path, headers=self._headers()))

    async def post(self, path: str, body: object) -> Any:
        """The JSON answered to *body*. Raises RefusedError for 404, and httpx's errors."""
        return self._json(await self._http.post(path, json=body, headers=self._headers()))

    async def ready(self) -> None:
        """Ask for its readiness, as the article's endpoint did. Raises unless it says 200."""
        (await self._http.get("/readyz")).raise_for_status()

    async def open(self) -> None:
        """Connections are made when they are needed."""

    async def close(self) -> None:
        """Drop the connections."""
        await self._http.aclose()

    def _headers(self) -> dict[str, str]:
        left = None if self._guard is None else timeout_header(self._guard.remaining())
        return {} if left is None else {TIMEOUT_HEADER: left}

    def _json(self, response: httpx.Response) -> Any:
        if response.status_code == 404:
            raise RefusedError(404, "not found")
        try:
            response.raise_for_status()
        except httpx.HTTPStatusError as error:
            if self._guard is not None and forbids_retry(response.headers.get(RETRY_HEADER)):
                do_not_retry(error)
            raise
        return response.json()
