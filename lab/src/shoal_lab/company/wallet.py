"""wallet: what the mobile app calls. Balance, account lock, and the public table of fees."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Header

from shoal.service import Service
from shoal_lab.company.answers import UnavailableError, needing
from shoal_lab.company.app import App, counted, declare, web
from shoal_lab.company.events import BALANCE_VIEWED, HEALTHCHECK, Events
from shoal_lab.company.http import Peer
from shoal_lab.company.identity import Identity
from shoal_lab.company.lock import AccountLock
from shoal_lab.company.settings import PodSettings

FEES = {"transfer": "0.20", "card": "0.00", "cash": "1.50"}


class BalanceView:
    """Looking at a balance: who asks, what the account holds, and an event that it was looked at."""

    def __init__(self, service: Service, settings: PodSettings, identity: Identity) -> None:
        self._identity = identity
        self._event_may_fail = settings.remedies.guarded
        self._pod = settings.pod
        self._events = Events(settings.targets["kafka"])
        balance = service.dependency(
            "balance", target=settings.targets["balance"], **settings.policies(timeout=0.5, cached=True)
        )
        self._peer = Peer(balance, guarded=settings.remedies.guarded)
        kafka = service.dependency(
            "kafka", target=f"kafka://{settings.targets['kafka']}", **settings.policies(timeout=0.5)
        )
        service.journey("view-balance", routes=["GET /balance"], needs=[*identity.needs, balance], better_with=[kafka])
        balance.check(every=5.0, timeout=1.0)(self._peer.ready)
        kafka.check(every=5.0, timeout=1.0)(self._emit_healthcheck)
        self._balance_of = balance.guard.fallback(key=lambda user: user)(self._ask)
        self._emit = kafka.guard(self._emit_viewed)

    def mount(self, app: FastAPI) -> None:
        """Add the route."""

        @app.get("/balance")
        async def view(authorization: str | None = Header(default=None)) -> dict[str, object]:
            user, stale = await self._identity.who(authorization)
            with needing("balance"):
                answer = await self._balance_of(user)
            try:
                await self._emit(user)
            except Exception as error:
                # Where calls are guarded somebody has thought about it: a lost event does not cost the answer.
                if not self._event_may_fail:
                    raise UnavailableError("kafka") from error
            return {"user": user, "balance": answer.value, "stale": answer.stale or stale}

    async def open(self) -> None:
        """Connections are made when they are needed."""

    async def close(self) -> None:
        """Drop the connections."""
        await self._events.close()
        await self._peer.close()

    async def _ask(self, user: str) -> Any:
        return (await self._peer.get(f"/balances/{user}"))["balance"]

    async def _emit_viewed(self, user: str) -> None:
        await self._events.emit(BALANCE_VIEWED, {"user": user})

    async def _emit_healthcheck(self) -> None:
        await self._events.emit(HEALTHCHECK, {"from": self._pod})


def create(settings: PodSettings) -> App:
    """The service, declared and wired."""
    service = declare(settings)
    identity = Identity(service, settings)
    parts: list[BalanceView | AccountLock] = [BalanceView(service, settings, identity)]
    if not settings.remedies.split:
        parts.append(AccountLock(service, settings, identity))
    service.journey("fees", routes=["GET /fees"], needs=[])

    app = web(settings, identity, *parts)
    for part in parts:
        part.mount(app)

    @app.get("/fees")
    async def fees() -> dict[str, str]:
        return FEES

    return App(service=service, asgi=counted(app, service))
