"""balance: what an account holds. Balances are in its own database."""

from __future__ import annotations

from typing import Any

from shoal_lab.company.answers import RefusedError, needing
from shoal_lab.company.app import App, counted, declare, web
from shoal_lab.company.database import own_database
from shoal_lab.company.settings import PodSettings


def create(settings: PodSettings) -> App:
    """The service, declared and wired."""
    service = declare(settings)
    db, database = own_database(service, settings, timeout=0.3)
    service.journey("read-balance", routes=["GET /balances/{user}"], needs=[database])

    @database.guard
    async def cents_of(user: str) -> Any:
        return await db.one("SELECT cents FROM balances WHERE owner = $1", user)

    app = web(settings, db)

    @app.get("/balances/{user}")
    async def read(user: str) -> dict[str, object]:
        with needing("database"):
            row = await cents_of(user)
        if row is None:
            raise RefusedError(404, f"no account of {user}")
        return {"user": user, "balance": f"{row['cents'] / 100:.2f}"}

    return App(service=service, asgi=counted(app, service))
