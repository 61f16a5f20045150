"""Declare once, derive everything: the wallet of the article, as a developer would write it."""

from __future__ import annotations

import asyncio
import json
import socket

import httpx
import pytest

import shoal
from shoal.integrations.asgi import ASGIApp, JourneyMiddleware, ProbeRoutes, Receive, Scope, Send


class Wallet:
    """The declaration, and an application of a few lines behind it."""

    def __init__(self) -> None:
        service = self.service = shoal.Service("wallet")

        auth = service.dependency("auth", target="http://auth", timeout=0.5, attempts=3)
        balance = service.dependency("balance", target="http://balance", timeout=0.5)
        events = service.dependency("kafka", target="kafka://broker:9092")
        db = service.dependency("database", target="postgres://wallet-db/wallet", required_to_start=True)

        service.journey("view-balance", routes=["GET /balance"], needs=[auth, balance], better_with=[events])
        service.journey("lock-account", routes=["POST /account/lock"], needs=[auth, db])
        service.journey("fees", routes=["GET /fees"], needs=[])

        self.auth_is_down = False
        self.database_is_up = asyncio.Event()

        @auth.guard
        async def introspect(token: str) -> str:
            if self.auth_is_down:
                raise ConnectionRefusedError
            return token.removeprefix("Bearer ")

        @db.check(every=5)
        async def select_one() -> None:
            await self.database_is_up.wait()

        self.introspect = introspect
        self.asgi: ASGIApp = ProbeRoutes(JourneyMiddleware(self.app, service), service)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, body = 200, b"{}"
        if scope["path"] == "/balance":
            try:
                body = json.dumps({"user": await self.introspect("Bearer ada")}).encode()
            except (ConnectionRefusedError, shoal.CallRejectedError):
                status, body = 503, b'{"error": "try again"}'
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})


async def test_the_declaration_of_the_article_is_all_it_takes() -> None:
    """Auth goes down: what needs it fails with its cause counted, the pod stays ready, the fee table is served."""
    wallet = Wallet()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        probes = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with (
            wallet.service.running(sock=sock),
            httpx.AsyncClient(base_url=probes) as kubelet,
            httpx.AsyncClient(transport=httpx.ASGITransport(app=wallet.asgi), base_url="http://wallet") as customer,
        ):
            waiting = await kubelet.get("/readyz")
            assert waiting.status_code == 503
            assert waiting.json()["reason"].startswith("starting: waiting for database (not yet sampled), 0 s of 60 s")

            wallet.database_is_up.set()
            async with asyncio.timeout(5):
                # Probes come when they come; the check has been waiting since the start.
                while (await kubelet.get("/readyz")).status_code != 200:
                    continue
            assert (await customer.get("/balance")).json() == {"user": "ada"}

            wallet.auth_is_down = True
            failed = await customer.get("/balance")
            fees = await customer.get("/fees")
            ready = await kubelet.get("/readyz")
            available = await kubelet.get("/health?view=available")
            document = (await kubelet.get("/health")).json()
            metrics = (await kubelet.get("/metrics")).text

    assert (failed.status_code, fees.status_code, ready.status_code) == (503, 200, 200)
    assert available.json() == {"available": {"auth": False, "balance": None, "kafka": None, "database": True}}
    assert document["checks"]["auth:errorRate"][0]["affectedEndpoints"] == ["/balance", "/account/lock"]
    assert 'shoal_journey_requests_total{journey="view-balance",outcome="failed",cause="auth"} 1\n' in metrics
    assert 'shoal_journey_requests_total{journey="fees",outcome="ok",cause="none"} 1\n' in metrics
    assert 'shoal_dependency_calls_total{dependency="auth",outcome="exhausted"} 1\n' in metrics
    assert 'shoal_dependency_retries_total{dependency="auth",error_type="connect"} 2\n' in metrics


def test_a_guard_keeps_the_signature_and_the_name() -> None:
    introspect = Wallet().introspect

    assert introspect.__name__ == "introspect"
    assert introspect.__annotations__ == {"token": "str", "return": "str"}


def test_settings_of_the_guard_are_checked_where_the_dependency_is_declared() -> None:
    with pytest.raises(ValueError, match="attempts"):
        shoal.Service("wallet").dependency("auth", target="http://auth", attempts=0)
