"""Locking an account: validate the token, update the account's row. In wallet, or in a service of its own."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Header

from shoal.service import Service
from shoal_lab.company.answers import RefusedError, needing
from shoal_lab.company.database import own_database
from shoal_lab.company.identity import Identity
from shoal_lab.company.settings import PodSettings


class AccountLock:
    """The workflow, its database and its journey."""

    def __init__(self, service: Service, settings: PodSettings, identity: Identity) -> None:
        self._identity = identity
        self._db, database = own_database(service, settings, timeout=0.5)
        service.journey("lock-account", routes=["POST /account/lock"], needs=[*identity.needs, database])
        # Locking twice locks once, so a retry is safe.
        self._update = database.guard(self._lock)

    def mount(self, app: FastAPI) -> None:
        """Add the route."""

        @app.post("/account/lock")
        async def lock(authorization: str | None = Header(default=None)) -> dict[str, object]:
            user, stale = await self._identity.who(authorization)
            with needing("database"):
                row = await self._update(user)
            if row is None:
                raise RefusedError(404, f"no account of {user}")
            return {"user": user, "locked": True, "stale": stale}

    async def open(self) -> None:
        """Make ready to use the database."""
        await self._db.open()

    async def close(self) -> None:
        """Let go of the database."""
        await self._db.close()

    async def _lock(self, user: str) -> Any:
        return await self._db.one("UPDATE accounts SET locked = true WHERE owner = $1 RETURNING owner", user)
