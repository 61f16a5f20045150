"""httpx and httpx2, sync and async, through a guard, against a real server."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest

import shoal
from shoal import BreakerOpenError, DeadlineExceededError, Guard
from shoal.guard import BreakerSettings
from shoal.integrations import httpx as guarded_httpx
from shoal.integrations import httpx2 as guarded_httpx2

MakeGuard = Callable[..., Guard]


@dataclass
class Flavour:
    """One of the libraries, used synchronously or not, behind one interface."""

    library: ModuleType
    integration: ModuleType
    is_async: bool

    @asynccontextmanager
    async def client(
        self, guard: Guard, *, inner: Any = None, read_body: bool = True, **options: Any
    ) -> AsyncIterator[Caller]:
        # With one connection only, whoever does not give it back is found out.
        library, limits = self.library, self.library.Limits(max_connections=1)
        if self.is_async:
            transport = library.AsyncHTTPTransport(limits=limits, verify=TLS)
            wrapped = inner(transport) if inner else transport
            guarded = self.integration.AsyncGuardTransport(wrapped, guard=guard, read_body=read_body)
            async with library.AsyncClient(transport=guarded, **options) as client:
                yield Caller(client, library.AsyncClient(transport=transport), is_async=True)
        else:
            transport = library.HTTPTransport(limits=limits, verify=TLS)
            wrapped = inner(transport) if inner else transport
            guarded = self.integration.GuardTransport(wrapped, guard=guard, read_body=read_body)
            with library.Client(transport=guarded, **options) as client:
                yield Caller(client, library.Client(transport=transport), is_async=False)

    @property
    def timeouts(self) -> tuple[type[Exception], ...]:
        """Whoever is first: the guard or the client."""
        return (DeadlineExceededError, self.library.TimeoutException)


@dataclass
class Caller:
    client: Any
    # On the same connection pool.
    unguarded: Any
    is_async: bool

    async def finds_the_pool_free(self, url: str) -> bool:
        answer = self.unguarded.get(url, timeout=3.0)
        return bool((await answer if self.is_async else answer).status_code == 200)

    async def request(self, method: str, url: str, **options: Any) -> Any:
        answer = self.client.request(method, url, **options)
        return await answer if self.is_async else answer

    async def get(self, url: str, **options: Any) -> Any:
        return await self.request("GET", url, **options)

    async def send(self, request: Any, **options: Any) -> Any:
        answer = self.client.send(request, **options)
        return await answer if self.is_async else answer

    async def first_part(self, url: str) -> bytes:
        """The first part of a body, read as it comes; what follows is not waited for."""
        if self.is_async:
            async with self.client.stream("GET", url) as response:
                async for part in response.aiter_raw():
                    return bytes(part)
        else:
            with self.client.stream("GET", url) as response:
                for part in response.iter_raw():
                    return bytes(part)
        raise AssertionError("no body")


# Made once: reading the certificates takes longer than any test.
TLS = ssl.create_default_context()

LIBRARIES = {"httpx": (httpx, guarded_httpx), "httpx2": (httpx2, guarded_httpx2)}


@pytest.fixture(params=["httpx-sync", "httpx-async", "httpx2-sync", "httpx2-async"])
def flavour(request: pytest.FixtureRequest) -> Flavour:
    name, _, kind = request.param.partition("-")
    return Flavour(*LIBRARIES[name], is_async=kind == "async")


@pytest.fixture(params=["httpx", "httpx2"])
def async_flavour(request: pytest.FixtureRequest) -> Flavour:
    return Flavour(*LIBRARIES[request.param], is_async=True)


@pytest.fixture(params=["httpx", "httpx2"])
def sync_flavour(request: pytest.FixtureRequest) -> Flavour:
    return Flavour(*LIBRARIES[request.param], is_async=False)


class TestAnswers:
    @pytest.mark.parametrize("status", [200, 204, 404])
    async def test_an_answer_that_is_no_failure_is_not_asked_for_again(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard, status: int
    ) -> None:
        server.will(server.answer(status, b"" if status == 204 else b"hello"))
        guard = make_guard()

        async with flavour.client(guard) as client:
            response = await client.get(server.url)

        assert (response.status_code, response.text) == (status, "" if status == 204 else "hello")
        assert (len(server.seen), guard.counters.calls_success) == (1, 1)

    async def test_after_the_last_attempt_the_caller_gets_the_last_answer(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(*(server.answer(503, body) for body in (b"first", b"second", b"third")))
        guard = make_guard()

        async with flavour.client(guard) as client:
            response = await client.get(server.url)

        assert (response.status_code, response.text) == (503, "third")
        assert (len(server.seen), server.connections) == (3, 1)
        assert (guard.counters.attempts_error, guard.counters.calls_exhausted) == (3, 1)
        assert guard.health().last_error == "StatusError: HTTP 503"

    @pytest.mark.parametrize("status", [500, 503, 408, 429])
    async def test_a_failure_is_followed_by_another_attempt(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard, status: int
    ) -> None:
        server.will(server.answer(status), server.answer(200, b"at last"))

        async with flavour.client(make_guard()) as client:
            response = await client.get(server.url)

        assert (response.status_code, response.text, len(server.seen)) == (200, "at last", 2)

    async def test_half_an_answer_is_a_failed_attempt(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.cut, server.drop, server.answer(200))

        async with flavour.client(make_guard()) as client:
            response = await client.get(server.url)

        assert (response.text, len(server.seen)) == ("hello", 3)

    async def test_the_server_says_how_long_to_wait(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard, waits: list[float]
    ) -> None:
        server.will(server.answer(503, Retry_After="7"), server.answer(429, Retry_After="3"), server.answer(200))

        async with flavour.client(make_guard()) as client:
            response = await client.get(server.url)

        assert response.status_code == 200
        assert 7 <= waits[0] < 10
        assert 3 <= waits[1] < 6

    async def test_a_server_that_has_retried_itself_is_not_asked_again(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.answer(503, Shoal_Retry="no"))

        async with flavour.client(make_guard()) as client:
            response = await client.get(server.url)

        assert (response.status_code, len(server.seen)) == (503, 1)

    async def test_the_client_decodes_the_body(self, flavour: Flavour, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.zipped(503, b"no"), server.zipped(200, b"yes" * 10_000))

        async with flavour.client(make_guard()) as client:
            response = await client.get(server.url)

        assert response.content == b"yes" * 10_000

    async def test_a_chunked_body_is_complete(self, flavour: Flavour, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.chunked(b"a" * 70_000, b"b"))

        async with flavour.client(make_guard()) as client:
            response = await client.get(server.url)

        assert response.content == b"a" * 70_000 + b"b"

    async def test_an_open_breaker_is_heard_of_through_the_client(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.answer(500))
        guard = make_guard(attempts=1, breaker=BreakerSettings(minimum_calls=1))

        async with flavour.client(guard) as client:
            await client.get(server.url)
            with pytest.raises(BreakerOpenError):
                await client.get(server.url)

        assert len(server.seen) == 1

    async def test_a_guard_around_the_client_does_not_multiply_attempts(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.drop)
        outer = make_guard()

        async with flavour.client(make_guard()) as client:
            with pytest.raises(flavour.library.RemoteProtocolError):
                await outer.arun(client.get, server.url)

        assert len(server.seen) == 3


class TestRepeating:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_a_refused_connection_is_tried_again_whatever_the_method(
        self, flavour: Flavour, refusing: str, make_guard: MakeGuard, method: str
    ) -> None:
        guard = make_guard()

        async with flavour.client(guard) as client:
            with pytest.raises(flavour.library.ConnectError):
                await client.request(method, refusing, content=b"1")

        assert guard.counters.attempts == 3

    async def test_a_connection_that_is_not_made_in_time_is_tried_again_whatever_the_method(
        self, sync_flavour: Flavour, silent: str, make_guard: MakeGuard
    ) -> None:
        guard = make_guard(timeout=0.1)

        async with sync_flavour.client(guard) as client:
            with pytest.raises(sync_flavour.library.ConnectTimeout):
                await client.request("POST", silent, content=b"1")

        assert (guard.counters.attempts_timeout, guard.counters.calls_timeout) == (3, 1)

    @pytest.mark.parametrize("method", ["POST", "PATCH", "FROB"])
    async def test_a_method_that_is_not_idempotent_is_not_repeated(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard, method: str
    ) -> None:
        server.will(server.answer(503, Retry_After="1"))

        async with flavour.client(make_guard()) as client:
            response = await client.request(method, server.url, content=b"1")

        assert (response.status_code, len(server.seen)) == (503, 1)

    @pytest.mark.parametrize("failure", ["drop", "cut", "hang", "trickle"])
    async def test_what_may_have_been_done_is_not_done_again(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard, failure: str
    ) -> None:
        server.will(getattr(server, failure))
        guard = make_guard(timeout=0.1) if failure in {"hang", "trickle"} else make_guard()

        async with flavour.client(guard) as client:
            with pytest.raises((flavour.library.TransportError, DeadlineExceededError)):
                await client.request("POST", server.url, content=b"1")

        assert (len(server.seen), guard.counters.attempts) == (1, 1)

    async def test_what_may_have_been_done_is_not_done_again_even_if_the_guard_wants_to(
        self, async_flavour: Flavour, server: Any, make_guard: MakeGuard
    ) -> None:
        """The clock of the guard says that there is time left."""
        server.will(server.trickle)
        guard = make_guard(timeout=0.1, clock=StoppedClock())

        async with async_flavour.client(guard) as client:
            with pytest.raises(DeadlineExceededError):
                await client.request("POST", server.url, content=b"1")

        assert (len(server.seen), guard.counters.attempts) == (1, 2)

    async def test_an_idempotency_key_makes_it_repeatable(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.answer(503), server.drop, server.answer(200))

        async with flavour.client(make_guard()) as client:
            response = await client.request("POST", server.url, json={"pay": 1}, headers={"idempotency-key": "7"})

        assert response.status_code == 200
        assert [seen.body for seen in server.seen] == [b'{"pay":1}'] * 3

    async def test_a_guard_for_what_is_not_idempotent_has_its_way(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.answer(500))

        async with flavour.client(make_guard(idempotent=False)) as client:
            await client.get(server.url)

        assert len(server.seen) == 1

    @pytest.mark.parametrize("failure", ["answer", "hang", "trickle"])
    async def test_a_body_that_can_be_read_only_once_is_sent_once(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard, failure: str
    ) -> None:
        server.will(server.answer(503) if failure == "answer" else getattr(server, failure))
        guard = make_guard(timeout=0.1) if failure in {"hang", "trickle"} else make_guard()

        def parts() -> Iterator[bytes]:
            yield b"a"
            yield b"b"

        async def aparts() -> AsyncIterator[bytes]:
            for part in parts():
                yield part

        async with flavour.client(guard) as client:
            with contextlib.suppress(*flavour.timeouts):
                await client.request("PUT", server.url, content=aparts() if flavour.is_async else parts())

        assert [seen.body for seen in server.seen] == [b"ab"]
        assert guard.counters.attempts == 1


class TestTime:
    @pytest.mark.parametrize("failure", ["hang", "trickle", "stall", "flood"])
    async def test_whatever_the_server_does_it_is_over_in_time(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard, failure: str
    ) -> None:
        server.will(getattr(server, failure), server.answer(200))
        guard = make_guard(timeout=0.15, attempts=1)

        async with flavour.client(guard, timeout=3.0) as client:
            began = time.monotonic()
            with pytest.raises(flavour.timeouts):
                await client.get(server.url)
            took = time.monotonic() - began
            free = await client.finds_the_pool_free(server.url)

        assert 0.1 < took < 2.0
        assert guard.counters.attempts_timeout == 1
        assert free

    async def test_the_phases_of_an_attempt_share_its_time(
        self, sync_flavour: Flavour, server: Any, make_guard: MakeGuard
    ) -> None:
        """A connection that took long to make leaves less time to read from it."""
        server.will(server.answer(200))
        inner = Watching(pause=0.05)

        async with sync_flavour.client(make_guard(timeout=2.0), inner=inner, timeout=3.0) as client:
            await client.get(server.url)

        before, after = inner.looked_up
        assert before["connect"] <= 2.0
        assert after["read"] <= before["read"] - 0.05

    async def test_a_shorter_timeout_of_the_callers_stays(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.answer(200))
        inner = Watching()
        timeout = flavour.library.Timeout(None, read=1.0, pool=9.0)

        async with flavour.client(make_guard(timeout=2.0), inner=inner, timeout=timeout) as client:
            await client.get(server.url)

        looked_up = inner.looked_up[0]
        assert looked_up["read"] == 1.0
        assert [1.0 < looked_up[phase] <= 2.0 for phase in ("connect", "write", "pool")] == [True] * 3

    async def test_the_server_is_told_how_long_it_may_take(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.answer(503), server.answer(200))

        async with flavour.client(make_guard(timeout=2.0)) as client:
            await client.get(server.url)
            with shoal.deadline(0.8):
                await client.get(server.url)

        told = [int(seen.headers["Shoal-Timeout-Ms"]) for seen in server.seen]
        assert [1500 < told[0] <= 2000, 1500 < told[1] <= 2000, 300 < told[2] <= 800] == [True] * 3

    async def test_the_callers_request_stays_as_it_was(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.answer(503), server.answer(200))

        async with flavour.client(make_guard(timeout=2.0), timeout=3.0) as client:
            request = client.client.build_request("GET", server.url)
            headers, extensions = list(request.headers.raw), dict(request.extensions)
            response = await client.send(request)

        assert (request.headers.raw, request.extensions) == (headers, extensions)
        assert response.request is request


class TestStreaming:
    async def test_a_stream_begins_before_it_ends(self, flavour: Flavour, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.stall, server.answer(200))

        async with flavour.client(make_guard(), read_body=False) as client:
            assert await client.first_part(server.url) == b"half"
            assert await client.finds_the_pool_free(server.url)

    async def test_the_body_of_a_stream_is_under_the_callers_own_timeouts(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.late(0.4))

        async with flavour.client(make_guard(timeout=0.2), read_body=False, timeout=3.0) as client:
            assert await client.first_part(server.url) == b"late"

    async def test_a_failure_gives_its_connection_back_before_the_next_attempt(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.answer(503), server.answer(503), server.answer(503, b"third"))

        async with flavour.client(make_guard(), read_body=False) as client:
            assert await client.first_part(server.url) == b"third"

        assert (len(server.seen), server.connections) == (3, 1)

    async def test_the_headers_of_a_stream_are_guarded(
        self, flavour: Flavour, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.hang, server.answer(200))

        async with flavour.client(make_guard(timeout=0.15, attempts=1), read_body=False, timeout=3.0) as client:
            with pytest.raises(flavour.timeouts):
                await client.get(server.url)
            assert await client.finds_the_pool_free(server.url)


class TestCancelling:
    @pytest.mark.parametrize("failure", ["hang", "trickle"])
    async def test_whoever_is_cancelled_gives_the_connection_back(
        self, async_flavour: Flavour, server: Any, make_guard: MakeGuard, failure: str
    ) -> None:
        server.will(getattr(server, failure), server.answer(200))
        guard = make_guard()

        async with async_flavour.client(guard) as client:
            call = asyncio.create_task(client.get(server.url))
            await asyncio.to_thread(server.arrived.wait)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await client.finds_the_pool_free(server.url)

        assert (len(server.seen), guard.counters.retries) == (2, 0)


@pytest.mark.parametrize("name", ["GuardTransport", "AsyncGuardTransport"])
@pytest.mark.parametrize("library", list(LIBRARIES))
def test_what_is_no_guard_is_refused(library: str, name: str) -> None:
    module, integration = LIBRARIES[library]
    auth = shoal.Service("wallet").dependency("auth", target="http://auth")

    with pytest.raises(TypeError, match=r"guard must be a shoal\.Guard, such as the \.guard of a dependency"):
        getattr(integration, name)(module.HTTPTransport(), guard=auth)


class Watching:
    """A transport between the guard and the real one that looks at the timeouts, and again after *pause* seconds."""

    def __init__(self, *, pause: float = 0.0) -> None:
        self.looked_up: list[dict[str, float]] = []
        self._pause = pause

    def __call__(self, transport: Any) -> Watching:
        self._transport = transport
        return self

    def handle_request(self, request: Any) -> Any:
        self.looked_up.append(dict(request.extensions["timeout"]))
        time.sleep(self._pause)
        self.looked_up.append(dict(request.extensions["timeout"]))
        return self._transport.handle_request(request)

    async def handle_async_request(self, request: Any) -> Any:
        self.looked_up.append(dict(request.extensions["timeout"]))
        return await self._transport.handle_async_request(request)

    def close(self) -> None:
        self._transport.close()

    async def aclose(self) -> None:
        await self._transport.aclose()


class StoppedClock:
    def now(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 0.0
