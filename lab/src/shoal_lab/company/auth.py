"""auth: issues tokens, introspects them, serves the keys they are signed with. Users are in its own database."""

from __future__ import annotations

import hmac
from typing import Any

from fastapi import Body

from shoal_lab.company.answers import RefusedError, needing
from shoal_lab.company.app import App, counted, declare, web
from shoal_lab.company.database import own_database
from shoal_lab.company.passwords import password_hash
from shoal_lab.company.settings import PodSettings
from shoal_lab.company.tokens import Signer, Verifier


def create(settings: PodSettings) -> App:
    """The service, declared and wired."""
    service = declare(settings)
    db, database = own_database(service, settings, timeout=0.3)
    service.journey("issue-token", routes=["POST /token"], needs=[database])
    service.journey("introspect", routes=["POST /introspect"], needs=[database])
    service.journey("keys", routes=["GET /jwks"], needs=[])

    @database.guard
    async def one(query: str, *values: object) -> Any:
        return await db.one(query, *values)

    signer: Signer | None = None

    async def keys() -> Signer:
        # Read once and kept, so that keys are served while the database is away.
        nonlocal signer
        if signer is None:
            row = await one("SELECT id, pem FROM signing_keys ORDER BY id LIMIT 1")
            signer = Signer(row["id"], row["pem"])
        return signer

    app = web(settings, db)

    @app.post("/token")
    async def token(user: str = Body(), password: str = Body()) -> dict[str, str]:
        with needing("database"):
            row = await one("SELECT password FROM users WHERE name = $1 AND active", user)
            signing = await keys()
        if row is None or not hmac.compare_digest(row["password"], password_hash(user, password)):
            raise RefusedError(401, "unknown user or wrong password")
        return {"token": signing.sign(user)}

    @app.post("/introspect")
    async def introspect(token: str = Body(embed=True)) -> dict[str, object]:
        with needing("database"):
            user = Verifier((await keys()).jwks()).user(token)
            row = await one("SELECT active FROM users WHERE name = $1", user) if user else None
        if row is None or not row["active"]:
            return {"active": False}
        return {"active": True, "user": user}

    @app.get("/jwks")
    async def jwks() -> dict[str, Any]:
        with needing("database"):
            return (await keys()).jwks()

    return App(service=service, asgi=counted(app, service))
