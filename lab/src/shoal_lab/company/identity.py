"""Who is asking? By auth's word, by its last word, or by its signature, depending on the remedies."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from shoal.service import Dependency, Service
from shoal_lab.company.answers import RefusedError, needing
from shoal_lab.company.http import Peer
from shoal_lab.company.settings import PodSettings
from shoal_lab.company.tokens import Verifier


class Identity:
    """Validates the bearer token of a request; one per service that has to know who asks."""

    def __init__(self, service: Service, settings: PodSettings) -> None:
        self._stateless = settings.remedies.stateless_auth
        self._verifier: Verifier | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self.auth: Dependency = service.dependency(
            "auth", target=settings.targets["auth"], **settings.policies(timeout=0.5, cached=True)
        )
        self._peer = Peer(self.auth, guarded=settings.remedies.guarded)
        self.auth.check(every=5.0, timeout=1.0)(self._peer.ready)
        self._introspect = self.auth.guard.fallback(key=lambda token: token)(self._ask)
        self._fetch_keys = self.auth.guard(self._get_keys)

    @property
    def needs(self) -> list[Dependency]:
        """What a journey needs that has to know who asks: nothing, once tokens are verified locally."""
        return [] if self._stateless else [self.auth]

    async def who(self, authorization: str | None) -> tuple[str, bool]:
        """The user, and whether that is an answer of earlier. Raises RefusedError (401) or UnavailableError."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise RefusedError(401, "a bearer token is needed")
        if self._verifier is not None:
            user, stale = self._verifier.user(token), False
        else:
            with needing("auth"):
                answer = await self._introspect(token)
            user, stale = answer.value, answer.stale
        if user is None:
            raise RefusedError(401, "this token is not valid")
        return user, stale

    async def open(self) -> None:
        """Begin to keep auth's keys fresh, where they are used."""
        if self._stateless:
            self._refreshing = asyncio.create_task(self._refresh())

    async def close(self) -> None:
        """Stop, and drop the connections."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._refreshing
        await self._peer.close()

    async def _refresh(self) -> None:
        while True:
            try:
                self._verifier = Verifier(await self._fetch_keys())
                pause = 30.0
            except Exception:  # noqa: BLE001  the guard has counted it; old keys stay good
                pause = 1.0
            await asyncio.sleep(pause)

    async def _get_keys(self) -> Any:
        return await self._peer.get("/jwks")

    async def _ask(self, token: str) -> str | None:
        body = await self._peer.post("/introspect", {"token": token})
        return body["user"] if body["active"] else None
