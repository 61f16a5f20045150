"""A service's own PostgreSQL database."""

from __future__ import annotations

from typing import Any

import asyncpg

from shoal.service import Dependency, Service
from shoal_lab.company.settings import UNGUARDED_QUERY, PodSettings


class Database:
    """A pool that connects when first used, so that a pod can start while its database is away."""

    def __init__(self, dsn: str, *, size: int = 8) -> None:
        self._dsn = dsn
        self._size = size
        self._pool: Any = None

    async def open(self) -> None:
        """Make the pool; no connection yet."""
        self._pool = await asyncpg.create_pool(self._dsn, min_size=0, max_size=self._size, timeout=5.0)

    async def close(self) -> None:
        """Drop the pool without waiting for a server that may be gone."""
        if self._pool is not None:
            self._pool.terminate()

    async def one(self, query: str, *values: object) -> Any:
        """The first row of *query*, or `None`."""
        return await self._pool.fetchrow(query, *values)

    async def select_one(self) -> None:
        """Is the database there? On a connection of its own, never one of the pool's."""
        connection = await asyncpg.connect(self._dsn, timeout=5.0)
        try:
            await connection.fetchval("SELECT 1")
        finally:
            connection.terminate()


def own_database(service: Service, settings: PodSettings, *, timeout: float) -> tuple[Database, Dependency]:
    """The database of a service, declared as its dependency and checked; *timeout* is that of a guarded query.

    Where calls are guarded a new pod waits for it: deep at start, shallow in service.
    """
    target = settings.targets["database"]
    database = Database(target)
    dependency = service.dependency(
        "database",
        target=target,
        required_to_start=settings.remedies.guarded,
        **settings.policies(timeout=timeout, careless=UNGUARDED_QUERY),
    )
    dependency.check(every=5.0, timeout=1.0)(database.select_one)
    return database, dependency
