"""Any ASGI application: counted by journey, with probes mounted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from prometheus_client.parser import text_string_to_metric_families
from starlette.websockets import WebSocket

from shoal import DeadlineExceededError, Service, remaining
from shoal.integrations.asgi import ASGIApp, JourneyMiddleware, ProbeRoutes, Receive, Scope, Send


def counts(service: Service) -> dict[tuple[str, str, str], float]:
    """Requests so far by journey, outcome and cause; zeros left out."""
    answer = service.answer("/metrics")
    assert answer is not None
    return {
        (sample.labels["journey"], sample.labels["outcome"], sample.labels["cause"]): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
        if sample.name == "shoal_journey_requests_total" and sample.value
    }


def client(app: ASGIApp) -> httpx.AsyncClient:
    # What escapes from the application is answered 500, as a server would.
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://wallet")


async def refuse() -> None:
    raise ConnectionRefusedError


class Company:
    """A FastAPI wallet whose dependencies work or not, as told."""

    def __init__(self, *, limit: int | None = None, readiness: Any = "shallow") -> None:
        self.service = Service("wallet", limit=limit, readiness=readiness)
        self.auth = self.service.dependency("auth", target="http://auth", attempts=1, breaker=None)
        self.kafka = self.service.dependency("kafka", target="kafka://broker", attempts=1, breaker=None)
        self.service.journey(
            "view-balance", routes=["GET /balance/{user}"], needs=[self.auth], better_with=[self.kafka]
        )
        self.service.journey("fees", routes=["GET /fees"], needs=[])
        self.broken: set[str] = set()
        self.app = FastAPI()
        self.app.get("/balance/{user}")(self.balance)
        self.app.get("/fees")(self.fees)
        self.app.get("/uncounted")(self.fees)
        self.release = asyncio.Event()
        self.release.set()
        self.entered = asyncio.Semaphore(0)
        self.error: Exception | None = None

    @property
    def asgi(self) -> ASGIApp:
        return ProbeRoutes(JourneyMiddleware(self.app, self.service), self.service)

    async def call(self, name: str) -> None:
        if name in self.broken:
            await refuse()

    async def balance(self, user: str) -> dict[str, str]:
        try:
            await self.auth.guard.arun(self.call, "auth")
        except ConnectionRefusedError:
            raise HTTPException(503, "try again") from None
        with contextlib.suppress(ConnectionRefusedError):
            await self.kafka.guard.arun(self.call, "kafka")
        return {"user": user}

    def fees(self) -> dict[str, str]:
        return {}

    async def slow(self) -> dict[str, str]:
        self.entered.release()
        await self.release.wait()
        if self.error is not None:
            raise self.error
        return {}


class TestCounting:
    @pytest.mark.parametrize(
        ("broken", "path", "status", "counted"),
        [
            pytest.param([], "/balance/ada", 200, ("view-balance", "ok", "none"), id="ok"),
            pytest.param(["auth"], "/balance/ada", 503, ("view-balance", "failed", "auth"), id="failed"),
            pytest.param(["kafka"], "/balance/ada", 200, ("view-balance", "degraded", "kafka"), id="degraded"),
            pytest.param(["auth"], "/fees", 200, ("fees", "ok", "none"), id="a journey that does not need it"),
        ],
    )
    async def test_every_request_is_counted_with_its_outcome_and_cause(
        self, broken: list[str], path: str, status: int, counted: tuple[str, str, str]
    ) -> None:
        company = Company()
        company.broken.update(broken)
        async with client(company.asgi) as http:
            response = await http.get(path)

        assert response.status_code == status
        assert counts(company.service) == {counted: 1}

    async def test_a_clients_error_is_its_own(self) -> None:
        company = Company()
        company.service.journey("number", routes=["GET /number/{n}"], needs=[])

        @company.app.get("/number/{n}")
        def number(n: int) -> int:
            return n

        async with client(company.asgi) as http:
            assert (await http.get("/number/x")).status_code == 422

        assert counts(company.service) == {("number", "client_error", "none"): 1}

    async def test_what_belongs_to_no_journey_passes_uncounted(self) -> None:
        company = Company()
        async with client(company.asgi) as http:
            assert (await http.get("/uncounted")).status_code == 200
            assert (await http.get("/nothing")).status_code == 404
            assert (await http.post("/fees")).status_code == 405

        assert counts(company.service) == {}

    async def test_the_cause_does_not_leak_into_another_request(self) -> None:
        """Requests at the same time, one of which loses its dependency."""
        company = Company()
        company.broken.add("auth")
        async with client(company.asgi) as http:
            await asyncio.gather(*(http.get(path) for path in ("/fees", "/balance/ada") * 10))

        assert counts(company.service) == {("fees", "ok", "none"): 10, ("view-balance", "failed", "auth"): 10}

    async def test_a_call_in_a_task_of_the_request_counts_for_it(self) -> None:
        company = Company()
        company.service.journey("both", routes=["GET /both"], needs=[company.auth])

        @company.app.get("/both")
        async def both() -> dict[str, str]:
            results = await asyncio.gather(
                company.auth.guard.arun(refuse), company.kafka.guard.arun(refuse), return_exceptions=True
            )
            raise HTTPException(502, str(len(results)))

        async with client(company.asgi) as http:
            await http.get("/both")

        assert counts(company.service) == {("both", "failed", "auth"): 1}

    @pytest.mark.parametrize(
        ("error", "cause"),
        [
            pytest.param(ValueError("a bug"), "self", id="bug"),
            pytest.param(DeadlineExceededError("self", timeout=1.0), "deadline", id="deadline"),
        ],
    )
    async def test_an_exception_that_escapes_is_a_failure(self, error: Exception, cause: str) -> None:
        company = Company()
        company.service.journey("slow", routes=["GET /slow"], needs=[])
        company.app.get("/slow")(company.slow)
        company.error = error
        async with client(company.asgi) as http:
            assert (await http.get("/slow")).status_code == 500

        assert counts(company.service) == {("slow", "failed", cause): 1}


async def nothing_to_receive() -> MutableMapping[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def serve(app: Callable[[Scope, Receive, Send], Awaitable[None]], scope: Scope) -> list[MutableMapping[str, Any]]:
    """The messages that *app* sends."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, nothing_to_receive, send)
    return sent


def http_scope(path: str, method: str = "GET") -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "query_string": b"", "headers": []}


class TestWithoutAFramework:
    """Applications that no framework would let be."""

    def service(self, app: ASGIApp) -> tuple[Service, JourneyMiddleware]:
        service = Service("wallet")
        service.journey("fees", routes=["GET /fees"], needs=[])
        return service, JourneyMiddleware(app, service)

    async def test_an_application_that_sends_nothing_has_failed(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            """Forgets to answer."""

        service, middleware = self.service(app)
        assert await serve(middleware, http_scope("/fees")) == []
        assert counts(service) == {("fees", "failed", "self"): 1}

    async def test_breaking_off_in_the_middle_of_an_answer_is_a_failure(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise ValueError("halfway")

        service, middleware = self.service(app)
        with pytest.raises(ValueError, match="halfway"):
            await serve(middleware, http_scope("/fees"))
        assert counts(service) == {("fees", "failed", "self"): 1}

    @pytest.mark.parametrize(
        ("status", "counted"),
        [
            pytest.param(None, ("fees", "failed", "self"), id="before anything was sent"),
            pytest.param(200, ("fees", "ok", "none"), id="while it was answered"),
            pytest.param(500, ("fees", "failed", "self"), id="while it was told of a failure"),
        ],
    )
    async def test_a_client_that_goes_away_counts_by_what_was_sent(
        self, status: int | None, counted: tuple[str, str, str]
    ) -> None:
        """Servers cancel the application then."""
        began = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if status is not None:
                await send({"type": "http.response.start", "status": status, "headers": []})
            began.set()
            await asyncio.Event().wait()

        service, middleware = self.service(app)
        request = asyncio.create_task(serve(middleware, http_scope("/fees")))
        await began.wait()
        request.cancel()

        with pytest.raises(asyncio.CancelledError):
            await request
        assert counts(service) == {counted: 1}

    async def test_a_server_that_reports_the_client_gone_while_sending_makes_no_failure(self) -> None:
        """ASGI 2.4: send raises OSError; frameworks raise something of their own in turn."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            try:
                await send({"type": "http.response.body", "body": b"x"})
            except OSError as error:
                raise ValueError("client disconnected") from error

        async def gone(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.body":
                raise BrokenPipeError

        service, middleware = self.service(app)
        with pytest.raises(ValueError, match="client disconnected"):
            await middleware(http_scope("/fees"), nothing_to_receive, gone)
        assert counts(service) == {("fees", "ok", "none"): 1}

    @pytest.mark.parametrize(
        ("path", "root_path", "counted"),
        [
            ("/fees", "", True),
            ("/api/fees", "/api", True),
            ("/api/fees", "/api/", True),
            ("/fees", "/api", True),
            ("/apifees", "/api", False),
            ("/api/fees", "", False),
        ],
    )
    async def test_routes_are_matched_without_the_root_path(self, path: str, root_path: str, counted: bool) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})

        service, middleware = self.service(app)
        await serve(middleware, {**http_scope(path), "root_path": root_path})

        assert counts(service) == ({("fees", "ok", "none"): 1} if counted else {})

    @pytest.mark.parametrize("kind", ["lifespan", "websocket", "something new"])
    async def test_what_is_not_http_passes_untouched(self, kind: str) -> None:
        seen: list[Scope] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope)

        service, middleware = self.service(app)
        scope = {"type": kind, "path": "/fees"}
        await serve(ProbeRoutes(middleware, service), scope)

        assert seen == [scope]
        assert counts(service) == {}


class TestLimit:
    async def test_above_the_limit_requests_are_shed_and_told_when_to_return(self) -> None:
        company = Company(limit=2)
        company.service.journey("slow", routes=["GET /slow"], needs=[])
        company.app.get("/slow")(company.slow)
        company.release.clear()
        async with client(company.asgi) as http:
            served = [asyncio.create_task(http.get("/slow")) for _ in range(2)]
            for _ in served:
                await company.entered.acquire()
            shed = await http.get("/slow")
            uncounted = await http.get("/uncounted")
            live = await http.get("/livez")
            company.release.set()
            answers = await asyncio.gather(*served)
            afterwards = await http.get("/slow")

        assert shed.status_code == 503
        assert shed.headers["retry-after"] == "1"
        assert shed.json()["cause"] == "overload"
        assert (uncounted.status_code, live.status_code) == (200, 200)
        assert [answer.status_code for answer in answers] == [200, 200]
        assert afterwards.status_code == 200
        assert counts(company.service) == {("slow", "ok", "none"): 3, ("slow", "shed", "overload"): 1}

    async def test_a_place_is_given_back_however_the_request_ends(self) -> None:
        company = Company(limit=1)
        company.service.journey("slow", routes=["GET /slow"], needs=[])
        company.app.get("/slow")(company.slow)
        async with client(company.asgi) as http:
            company.error = ValueError("a bug")
            assert (await http.get("/slow")).status_code == 500
            company.error = None
            company.release.clear()
            while company.entered.locked() is False:
                await company.entered.acquire()
            waiting = asyncio.create_task(http.get("/slow"))
            await company.entered.acquire()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            company.release.set()

            assert (await http.get("/slow")).status_code == 200


class TestProbeRoutes:
    async def test_the_probes_are_answered_on_the_applications_port(self) -> None:
        company = Company()
        async with client(company.asgi) as http, company.service.running(host="127.0.0.1", port=0):
            answers = {path: await http.get(path) for path in ("/livez", "/readyz", "/startupz", "/health")}

        assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(answers, 200)
        assert answers["/readyz"].json() == {"ready": True}
        assert answers["/health"].headers["content-type"] == "application/health+json"
        assert answers["/health"].headers["cache-control"] == "no-store"
        assert counts(company.service) == {}

    async def test_a_query_reaches_the_document(self) -> None:
        company = Company()
        async with client(company.asgi) as http:
            answer = await http.get("/health?view=available")

        assert answer.json() == {"available": {"auth": None, "kafka": None}}

    async def test_head_has_no_body(self) -> None:
        company = Company()
        async with client(company.asgi) as http:
            answer = await http.head("/livez")

        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 0

    @pytest.mark.parametrize("path", ["/metrics", "/livez/more", "/"])
    async def test_other_paths_are_the_applications(self, path: str) -> None:
        company = Company()
        async with client(company.asgi) as http:
            assert (await http.get(path)).status_code == 404

    async def test_other_methods_are_the_applications(self) -> None:
        company = Company()
        async with client(company.asgi) as http:
            assert (await http.post("/livez")).status_code == 404

    async def test_deep_readiness_does_not_block_the_loop_it_is_asked_on(self) -> None:
        company = Company(readiness="deep")
        asked = asyncio.Event()

        @company.auth.check(every=3600.0, timeout=60.0)
        async def hangs() -> None:
            asked.set()
            await asyncio.Event().wait()

        async with client(company.asgi) as http, company.service.running(host="127.0.0.1", port=0):
            asked.clear()
            deep = asyncio.create_task(http.get("/readyz"))
            await asyncio.wait_for(asked.wait(), timeout=5)
            meanwhile = await http.get("/livez")
            assert not deep.done()
            answer = await deep

        assert meanwhile.status_code == 200
        assert (answer.status_code, answer.json()) == (500, {"available": {"auth": False}})


async def test_a_websocket_route_goes_on_working_under_both() -> None:
    company = Company()
    accepted = asyncio.Event()

    @company.app.websocket("/fees")
    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        accepted.set()
        await websocket.close()

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await company.asgi(
        {"type": "websocket", "path": "/fees", "query_string": b"", "headers": [], "subprotocols": []}, receive, send
    )

    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert json.dumps(list(counts(company.service))) == "[]"


class TestDeadlines:
    """What the sender of a request waits for travels with it."""

    async def test_a_request_is_served_under_the_time_its_sender_waits(self) -> None:
        company = Company()
        left: list[float] = []

        @company.app.get("/left")
        async def left_now() -> None:
            left.append(remaining())

        company.service.journey("left", routes=["GET /left"], needs=[])
        async with client(company.asgi) as http:
            await http.get("/left", headers={"Shoal-Timeout-Ms": "800"})
            await http.get("/left")
            await http.get("/left", headers={"Shoal-Timeout-Ms": "soon"})

        assert 0.5 < left[0] <= 0.8
        assert left[1:] == [math.inf, math.inf]

    async def test_work_that_is_late_is_refused_before_it_begins(self) -> None:
        company = Company()
        async with client(company.asgi) as http:
            response = await http.get("/fees", headers={"Shoal-Timeout-Ms": "0"})

        assert (response.status_code, response.json()["cause"]) == (504, "deadline")
        assert counts(company.service) == {("fees", "failed", "deadline"): 1}

    async def test_a_guard_that_has_no_time_left_makes_the_deadline_the_cause(self) -> None:
        company = Company()

        @company.app.get("/slow")
        async def slow() -> None:
            await asyncio.sleep(0.02)
            await company.auth.guard.arun(company.call, "auth")

        company.service.journey("slow", routes=["GET /slow"], needs=[company.auth])
        async with client(company.asgi) as http:
            response = await http.get("/slow", headers={"Shoal-Timeout-Ms": "10"})

        assert response.status_code == 500
        assert company.auth.guard.counters.rejected_by["late"] == 1
        assert counts(company.service) == {("slow", "failed", "deadline"): 1}

    async def test_a_request_of_no_journey_has_its_deadline_too(self) -> None:
        company = Company()
        left: list[float] = []

        @company.app.get("/left")
        async def left_now() -> None:
            left.append(remaining())

        async with client(company.asgi) as http:
            await http.get("/left", headers={"Shoal-Timeout-Ms": "800"})

        assert left[0] <= 0.8
        assert counts(company.service) == {}


class TestRetriesOfOthers:
    """Only the innermost guard retries, across processes too."""

    @pytest.mark.parametrize(
        ("attempts", "said"),
        [
            pytest.param(2, "no", id="it has been retried here"),
            pytest.param(1, None, id="it has not been retried here"),
        ],
    )
    async def test_a_failure_that_was_retried_says_that_it_must_not_be_repeated(
        self, attempts: int, said: str | None
    ) -> None:
        service = Service("wallet")
        auth = service.dependency("auth", target="http://auth", attempts=attempts, breaker=None)
        service.journey("balance", routes=["GET /balance"], needs=[auth])
        app = FastAPI()

        @app.get("/balance")
        async def balance() -> None:
            try:
                await auth.guard.arun(refuse)
            except ConnectionRefusedError:
                raise HTTPException(503) from None

        async with client(JourneyMiddleware(app, service)) as http:
            response = await http.get("/balance")

        assert response.status_code == 503
        assert response.headers.get("shoal-retry") == said

    async def test_a_failure_that_was_made_up_for_says_nothing(self) -> None:
        service = Service("wallet")
        kafka = service.dependency("kafka", target="kafka://broker", attempts=2, breaker=None)
        service.journey("fees", routes=["GET /fees"], needs=[], better_with=[kafka])
        app = FastAPI()

        @app.get("/fees")
        async def fees() -> dict[str, str]:
            with contextlib.suppress(ConnectionRefusedError):
                await kafka.guard.arun(refuse)
            return {}

        async with client(JourneyMiddleware(app, service)) as http:
            response = await http.get("/fees")

        assert response.status_code == 200
        assert "shoal-retry" not in response.headers
