"""The health document of a service: calls first, checks second, and never a secret."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from shoal import Service
from shoal.testing import ManualClock


def health(service: Service, query: str = "") -> tuple[int, Any]:
    answer = service.answer(f"/health{query}")
    assert answer is not None
    return answer.status, json.loads(answer.body)


async def fine() -> None:
    """Works."""


async def refuse() -> None:
    raise ConnectionRefusedError


def test_nothing_known_is_unknown_and_said_to_be() -> None:
    service = Service("wallet", version="1.4.0")
    auth = service.dependency("auth", target="http://auth")
    db = service.dependency("database", target="postgres://db/wallet")
    db.check()(fine)
    service.journey("view-balance", routes=["GET /balance", "GET /accounts/{id}"], needs=[auth], better_with=[db])

    assert health(service) == (
        200,
        {
            "status": "warn",
            "version": "1.4.0",
            "serviceId": "wallet",
            "notes": ["not ready: not started"],
            "checks": {
                "auth:errorRate": [
                    {
                        "componentType": "component",
                        "status": "warn",
                        "output": "no call yet, and no check",
                        "affectedEndpoints": ["/balance", "/accounts/{id}"],
                        "links": {"self": "http://auth/health"},
                    }
                ],
                "database:responseTime": [
                    {"componentType": "datastore", "status": "warn", "output": "not yet sampled"}
                ],
            },
        },
    )


def test_it_is_served_as_what_it_is() -> None:
    answer = Service("wallet").answer("/health")

    assert answer is not None
    assert answer.content_type == "application/health+json"


async def test_calls_tell_first() -> None:
    """The check says the database is fine; the calls of customers say it is not, and they count."""
    clock = ManualClock(wall=1_777_593_600.0)
    service = Service("wallet", clock=clock)
    db = service.dependency("database", target="postgres://db/wallet", attempts=1, breaker=None)
    db.check(every=3600.0)(fine)
    async with service.running(host="127.0.0.1", port=0):
        await asyncio.sleep(0.01)
        assert health(service)[1]["checks"]["database:responseTime"][0]["status"] == "pass"

        with pytest.raises(ConnectionRefusedError):
            await db.guard.arun(refuse)
        clock.advance(2.0)

        (entry,) = health(service)[1]["checks"]["database:errorRate"]
        assert entry["status"] == "fail"
        assert (entry["observedValue"], entry["observedUnit"]) == (1.0, "ratio")
        assert entry["time"] == "2026-05-01T00:00:00.000Z"
        assert entry["output"].startswith("ConnectionRefusedError")


async def test_when_calls_have_stopped_the_check_tells() -> None:
    clock = ManualClock()
    service = Service("wallet", clock=clock)
    db = service.dependency("database", target="postgres://db/wallet", attempts=1, breaker=None)
    db.check(every=3600.0)(fine)
    async with service.running(host="127.0.0.1", port=0):
        await asyncio.sleep(0.01)
        with pytest.raises(ConnectionRefusedError):
            await db.guard.arun(refuse)
        clock.advance(30.1)

        assert list(health(service)[1]["checks"]) == ["database:responseTime"]


async def test_where_calls_tell_the_check_is_not_run() -> None:
    """After its first success; until then the startup gate may be waiting for it."""
    clock = ManualClock()
    service = Service("wallet", clock=clock)
    asked = {"database": 0, "kafka": 0}
    often, again = asyncio.Event(), asyncio.Event()
    db = service.dependency("database", target="postgres://db/wallet")

    @db.check(every=0.02)
    async def with_calls() -> None:
        asked["database"] += 1
        if asked["database"] == 2:
            again.set()

    @service.dependency("kafka", target="kafka://broker").check(every=0.02)
    async def without_calls() -> None:
        asked["kafka"] += 1
        if asked["kafka"] == 5:
            often.set()

    await db.guard.arun(fine)
    async with service.running(host="127.0.0.1", port=0):
        await asyncio.wait_for(often.wait(), timeout=5)
        assert asked["database"] == 1

        # The calls stop.
        clock.advance(1.0)
        await asyncio.wait_for(again.wait(), timeout=5)


async def test_an_old_reading_is_unknown_and_says_how_old() -> None:
    clock = ManualClock()
    service = Service("wallet", clock=clock)
    service.dependency("database", target="postgres://db/wallet").check(every=10.0)(fine)
    async with service.running(host="127.0.0.1", port=0):
        await asyncio.sleep(0.01)
        clock.advance(35.0)

        (entry,) = health(service)[1]["checks"]["database:responseTime"]
        assert (entry["status"], entry["output"]) == ("warn", "stale: sampled 35 s ago")
        assert health(service, "?view=available")[1] == {"available": {"database": None}}


async def test_the_map_of_the_article_comes_from_memory() -> None:
    service = Service("wallet")
    for name, check in (("auth", fine), ("balance", refuse)):
        service.dependency(name, target=f"http://{name}").check(every=3600.0)(check)
    service.dependency("kafka", target="kafka://broker:9092")
    async with service.running(host="127.0.0.1", port=0):
        await asyncio.sleep(0.01)

        assert health(service, "?view=available") == (
            200,
            {"available": {"auth": True, "balance": False, "kafka": None}},
        )


@pytest.mark.parametrize(
    ("auth", "balance", "status"),
    [
        pytest.param(fine, fine, "pass", id="all well"),
        pytest.param(refuse, fine, "warn", id="one journey broken, one left"),
        pytest.param(refuse, refuse, "fail", id="none left"),
    ],
)
async def test_it_fails_only_when_no_journey_is_left(auth: Any, balance: Any, status: str) -> None:
    service = Service("wallet")
    dependencies = []
    for name, check in (("auth", auth), ("balance", balance)):
        dependency = service.dependency(name, target=f"http://{name}")
        dependency.check(every=3600.0)(check)
        dependencies.append(dependency)
        service.journey(f"use-{name}", routes=[f"GET /{name}"], needs=[dependency])
    async with service.running(host="127.0.0.1", port=0):
        await asyncio.sleep(0.01)
        code, document = health(service)
        strict, _ = health(service, "?strict=1")

    assert (code, document["status"]) == (200, status)
    assert strict == (503 if status == "fail" else 200)


async def test_a_journey_that_needs_nothing_keeps_it_from_failing() -> None:
    service = Service("wallet")
    auth = service.dependency("auth", target="http://auth")
    auth.check(every=3600.0)(refuse)
    service.journey("view-balance", routes=["GET /balance"], needs=[auth])
    service.journey("fees", routes=["GET /fees"], needs=[])
    async with service.running(host="127.0.0.1", port=0):
        await asyncio.sleep(0.01)

        assert health(service)[1]["status"] == "warn"


async def test_no_secret_comes_through_whatever_its_way() -> None:
    service = Service("wallet", startup_budget=60.0)
    auth = service.dependency("auth", target="http://app:s3cr3t@auth:8080/?token=s3cr3t", attempts=1)
    db = service.dependency("database", target="postgres://app:s3cr3t@db/wallet", required_to_start=True)
    service.journey("view-balance", routes=["GET /balance"], needs=[auth, db])

    @db.check(every=3600.0)
    async def connect() -> None:
        raise OSError("cannot connect to postgres://app:s3cr3t@db/wallet with password=s3cr3t")

    async def call() -> None:
        raise OSError("GET http://app:s3cr3t@auth:8080/?token=s3cr3t: Authorization: Bearer s3cr3t")

    async with service.running(host="127.0.0.1", port=0):
        await asyncio.sleep(0.01)
        with pytest.raises(OSError, match="s3cr3t"):
            await auth.guard.arun(call)
        answers = [service.answer(path) for path in ("/health", "/readyz", "/livez", "/startupz", "/metrics")]

    bodies = b"".join(answer.body for answer in answers if answer is not None)
    assert b"s3cr3t" not in bodies
    assert b"cannot connect to postgres://***@db/wallet" in bodies
