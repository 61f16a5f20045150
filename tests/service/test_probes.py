"""What a probe is answered, over the wire, whatever happens to the dependencies and to the loop."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any, Protocol

import pytest

from shoal import Service
from shoal.testing import ManualClock


class Running(Protocol):
    service: Service
    loop: asyncio.AbstractEventLoop
    address: tuple[str, int]

    def get(self, path: str) -> tuple[int, Any]: ...

    def leave(self) -> None: ...


Run = Callable[[Service], Running]


class Switch:
    """A check that works or not, as told, and says when it has been asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked = threading.Semaphore(0)

    async def __call__(self) -> None:
        self.asked.release()
        if self.error is not None:
            raise self.error

    def wait(self) -> None:
        assert self.asked.acquire(timeout=5)


def eventually(ask: Callable[[], object], expected: object) -> None:
    """The checks run on their own time: ask until the answer is as expected."""
    deadline = time.monotonic() + 5
    while (got := ask()) != expected:
        assert time.monotonic() < deadline, got
        time.sleep(0.01)


def document(service: Service) -> Any:
    answer = service.answer("/health")
    assert answer is not None
    return json.loads(answer.body)


class TestReadiness:
    def test_a_service_without_requirements_is_ready_at_once(self, run: Run) -> None:
        assert run(Service("wallet")).get("/readyz") == (200, {"ready": True})

    def test_a_failing_dependency_does_not_unready_it(self, run: Run) -> None:
        service = Service("wallet")
        check = Switch(ConnectionRefusedError())
        service.dependency("auth", target="http://auth").check(every=0.01)(check)
        running = run(service)
        for _ in range(5):
            check.wait()

        assert document(service)["checks"]["auth:responseTime"][0]["status"] == "fail"
        assert running.get("/readyz") == (200, {"ready": True})
        assert running.get("/livez") == (200, {"live": True})

    def test_a_required_dependency_holds_readiness_back_until_it_has_answered_once(self, run: Run) -> None:
        clock = ManualClock()
        service = Service("wallet", clock=clock)
        check = Switch(ConnectionRefusedError())
        db = service.dependency("database", target="postgres://wallet-db/wallet", required_to_start=True)
        db.check(every=0.01)(check)
        running = run(service)
        clock.advance(12.0)
        waiting = {"ready": False, "reason": "starting: waiting for database (refused), 12 s of 60 s"}
        eventually(lambda: running.get("/readyz"), (503, waiting))
        assert running.get("/startupz") == (200, {"started": True})
        assert running.get("/livez") == (200, {"live": True})

        check.error = None
        eventually(lambda: running.get("/readyz"), (200, {"ready": True}))

        check.error = ConnectionRefusedError()
        for _ in range(10):
            check.wait()
        assert running.get("/readyz") == (200, {"ready": True})

    def test_after_the_budget_it_is_ready_without(self, run: Run) -> None:
        clock = ManualClock()
        service = Service("wallet", startup_budget=60.0, clock=clock)
        db = service.dependency("database", target="postgres://wallet-db/wallet", required_to_start=True)
        db.check()(Switch(ConnectionRefusedError()))
        running = run(service)
        assert running.get("/readyz")[0] == 503

        clock.advance(60.0)

        reason = "started without database: no answer within 60 s"
        assert running.get("/readyz") == (200, {"ready": True, "reason": reason})
        assert document(service)["notes"] == [reason]

    def test_draining_is_said_while_requests_are_still_served(self, run: Run) -> None:
        service = Service("wallet")
        service.journey("fees", routes=["GET /fees"], needs=[])
        running = run(service)
        service.drain()

        assert running.get("/readyz") == (503, {"ready": False, "reason": "draining"})
        assert running.get("/livez") == (200, {"live": True})
        assert document(service)["notes"] == ["not ready: draining"]
        request = service.begin("GET", "/fees")
        assert request is not None
        assert not request.shed
        request.end(status=200)

    def test_before_it_runs_it_has_not_started(self) -> None:
        service = Service("wallet")
        answers = [service.answer("/readyz"), service.answer("/startupz"), service.answer("/livez")]

        assert [(answer.status, json.loads(answer.body)) for answer in answers if answer] == [
            (503, {"ready": False, "reason": "not started"}),
            (503, {"started": False, "reason": "not started"}),
            (200, {"live": True}),
        ]

    def test_after_it_ran_it_is_draining_and_its_port_is_closed(self, run: Run) -> None:
        running = run(Service("wallet"))
        running.leave()

        answer = running.service.answer("/readyz")
        assert answer is not None
        assert (answer.status, json.loads(answer.body)["reason"]) == (503, "draining")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(running.address, timeout=5)

    def test_it_can_run_again(self, run: Run) -> None:
        service = Service("wallet")
        run(service).leave()

        assert run(service).get("/readyz") == (200, {"ready": True})

    async def test_it_runs_once_at_a_time(self) -> None:
        service = Service("wallet")
        async with service.running(host="127.0.0.1", port=0):
            with pytest.raises(RuntimeError, match="wallet is running already"):
                async with service.running(host="127.0.0.1", port=0):
                    pass

    async def test_a_port_in_use_is_reported_and_leaves_nothing_running(self) -> None:
        service = Service("wallet")
        before = asyncio.all_tasks()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(OSError, match=f"127.0.0.1:{port}: .*in use"):
                async with service.running(host="127.0.0.1", port=port):
                    pass

        assert asyncio.all_tasks() == before
        async with service.running(host="127.0.0.1", port=port):
            pass

    async def test_an_exception_inside_running_comes_out_as_it_is(self) -> None:
        before = asyncio.all_tasks()
        with pytest.raises(ValueError, match="mine"):
            async with Service("wallet").running(host="127.0.0.1", port=0):
                raise ValueError("mine")

        assert asyncio.all_tasks() == before


class TestLiveness:
    def test_probes_are_answered_while_the_loop_is_blocked(self, run: Run) -> None:
        """The event loop sleeps, really: every probe is answered meanwhile, and says who sleeps."""
        service = Service("wallet", stall_fails_after=1.3)
        running = run(service)
        began = threading.Event()

        def careless() -> None:
            began.set()
            time.sleep(2.0)

        running.loop.call_soon_threadsafe(careless)
        assert began.wait(5)
        at_once = time.monotonic()
        assert running.get("/livez") == (200, {"live": True})
        assert running.get("/readyz") == (200, {"ready": True})
        assert running.get("/health")[0] == 200
        assert running.get("/metrics")[0] == 200
        assert time.monotonic() - at_once < 0.5

        time.sleep(1.05)
        status, body = running.get("/livez")
        assert (status, body["live"]) == (200, True)
        assert body["reason"].startswith("event loop stalled for 1.")
        assert body["reason"].endswith(
            f" at {__file__}:{careless.__code__.co_firstlineno + 2} in {careless.__qualname__}"
        )

        time.sleep(0.4)
        status, body = running.get("/livez")
        assert (status, body["live"]) == (503, False)

        eventually(lambda: running.get("/livez"), (200, {"live": True}))

    def test_a_silent_worker_fails_liveness_and_nothing_else(self, run: Run) -> None:
        clock = ManualClock()
        service = Service("activity", clock=clock)
        heartbeat = service.heartbeat("consumer", stalled_after=5.0)
        running = run(service)
        clock.advance(5.0)
        assert running.get("/livez")[0] == 200

        clock.advance(0.5)
        status, body = running.get("/livez")
        assert (status, body["live"]) == (503, False)
        assert "heartbeat consumer silent for 5.5 s, more than 5 s" in body["reason"]
        assert running.get("/readyz")[0] == 200
        assert document(service)["status"] == "fail"
        assert document(service)["checks"]["consumer:heartbeat"][0] == {
            "componentType": "system",
            "observedValue": 5.5,
            "observedUnit": "s",
            "status": "fail",
            "time": "1970-01-01T00:00:00.000Z",
            "output": "silent for more than 5 s",
        }

        heartbeat.beat()
        assert running.get("/livez")[0] == 200

    def test_imports_and_warming_up_are_no_silence(self, run: Run) -> None:
        clock = ManualClock()
        service = Service("activity", clock=clock)
        service.heartbeat("consumer", stalled_after=5.0)
        clock.advance(60.0)

        assert run(service).get("/livez") == (200, {"live": True})


class TestDeepReadiness:
    def test_it_asks_every_dependency_that_has_a_check(self, run: Run) -> None:
        service = Service("wallet", readiness="deep")
        checks = {name: Switch() for name in ("auth", "balance", "kafka", "database")}
        for name, check in checks.items():
            service.dependency(name, target=f"http://{name}").check(every=3600.0)(check)
        service.dependency("unchecked", target="http://unchecked")
        running = run(service)

        assert running.get("/readyz") == (
            200,
            {"available": {"auth": True, "balance": True, "kafka": True, "database": True}},
        )
        checks["auth"].error = ConnectionRefusedError()
        assert running.get("/readyz") == (
            500,
            {"available": {"auth": False, "balance": True, "kafka": True, "database": True}},
        )

    def test_what_does_not_answer_in_time_is_not_available_and_liveness_is_answered_meanwhile(self, run: Run) -> None:
        service = Service("wallet", readiness="deep")
        asked = threading.Event()

        @service.dependency("auth", target="http://auth").check(every=3600.0, timeout=60.0)
        async def hangs() -> None:
            asked.set()
            await asyncio.Event().wait()

        running = run(service)
        connection = HTTPConnection(*running.address, timeout=5)
        began = time.monotonic()
        connection.request("GET", "/readyz")
        assert asked.wait(5)
        live = running.get("/livez")
        lived = time.monotonic() - began
        response = connection.getresponse()
        took = time.monotonic() - began

        assert live == (200, {"live": True})
        assert lived < 0.5
        assert (response.status, json.loads(response.read())) == (500, {"available": {"auth": False}})
        assert 0.85 < took < 1.5
        connection.close()

    def test_on_a_blocked_loop_nothing_is_available(self, run: Run) -> None:
        service = Service("wallet", readiness="deep")
        service.dependency("auth", target="http://auth").check()(Switch())
        running = run(service)
        release = threading.Event()
        running.loop.call_soon_threadsafe(release.wait, 10)

        answer = running.get("/readyz")
        release.set()

        assert answer == (500, {"available": {"auth": False}})

    async def test_on_its_own_loop_it_is_asked_without_blocking(self) -> None:
        service = Service("wallet", readiness="deep")
        service.dependency("auth", target="http://auth").check()(Switch())

        async with service.running(host="127.0.0.1", port=0):
            answer = await service.aanswer("/readyz")
            with pytest.raises(RuntimeError, match="aanswer"):
                service.answer("/readyz")

        assert answer is not None
        assert json.loads(answer.body) == {"available": {"auth": True}}

    def test_draining_goes_before_asking(self, run: Run) -> None:
        service = Service("wallet", readiness="deep")
        service.dependency("auth", target="http://auth").check()(Switch())
        running = run(service)
        service.drain()

        assert running.get("/readyz") == (503, {"ready": False, "reason": "draining"})

    def test_the_startup_gate_is_not_asked(self, run: Run) -> None:
        """The article's endpoint knows none; a required dependency counts like any other."""
        service = Service("wallet", readiness="deep")
        db = service.dependency("database", target="postgres://db", required_to_start=True)
        db.check()(Switch(ConnectionRefusedError()))

        assert run(service).get("/readyz") == (500, {"available": {"database": False}})

    def test_the_ready_gauge_repeats_what_was_said_last_and_asks_nobody(self, run: Run) -> None:
        service = Service("wallet", readiness="deep")
        check = Switch()
        service.dependency("auth", target="http://auth").check(every=3600.0)(check)
        running = run(service)
        check.wait()

        assert 'shoal_ready{workload="wallet"} 0\n' in running.get("/metrics")[1]
        running.get("/readyz")
        check.wait()
        assert 'shoal_ready{workload="wallet"} 1\n' in running.get("/metrics")[1]
        assert not check.asked.acquire(blocking=False)


def test_an_unknown_path_is_no_probe(run: Run) -> None:
    running = run(Service("wallet"))

    assert running.service.answer("/nothing") is None
    assert running.get("/nothing")[0] == 404


def test_a_query_does_not_change_which_probe_it_is(run: Run) -> None:
    assert run(Service("wallet")).get("/readyz?verbose") == (200, {"ready": True})
