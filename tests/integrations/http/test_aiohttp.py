"""aiohttp's client through a guard, against a real server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

import shoal
from shoal import BreakerOpenError, DeadlineExceededError, Guard
from shoal.guard import BreakerSettings
from shoal.integrations.aiohttp import guard_middleware

MakeGuard = Callable[..., Guard]


@asynccontextmanager
async def session_with(
    guard: Guard, *others: aiohttp.ClientMiddlewareType, read_body: bool = True, **options: Any
) -> AsyncIterator[aiohttp.ClientSession]:
    # With one connection only, whoever does not give it back is found out.
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=1),
        middlewares=(*others, guard_middleware(guard, read_body=read_body)),
        **options,
    ) as session:
        yield session


async def finds_the_pool_free(session: aiohttp.ClientSession, url: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=3.0)
    async with session.get(url, middlewares=(), timeout=timeout) as response:
        return response.status == 200


class TestAnswers:
    @pytest.mark.parametrize("status", [200, 204, 404])
    async def test_an_answer_that_is_no_failure_is_not_asked_for_again(
        self, server: Any, make_guard: MakeGuard, status: int
    ) -> None:
        server.will(server.answer(status, b"" if status == 204 else b"hello"))
        guard = make_guard()

        async with session_with(guard) as session, session.get(server.url) as response:
            assert (response.status, await response.text()) == (status, "" if status == 204 else "hello")

        assert (len(server.seen), guard.counters.calls_success) == (1, 1)

    async def test_after_the_last_attempt_the_caller_gets_the_last_answer(
        self, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(*(server.answer(503, body) for body in (b"first", b"second", b"third")))
        guard = make_guard()

        async with session_with(guard) as session, session.get(server.url) as response:
            assert (response.status, await response.text()) == (503, "third")

        assert (len(server.seen), server.connections) == (3, 1)
        assert (guard.counters.attempts_error, guard.counters.calls_exhausted) == (3, 1)

    @pytest.mark.parametrize("where", ["session", "request"])
    async def test_raise_for_status_sees_the_last_answer_only(
        self, server: Any, make_guard: MakeGuard, where: str
    ) -> None:
        server.will(server.answer(503), server.answer(500), server.answer(502))
        guard = make_guard()

        async with session_with(guard, raise_for_status=where == "session") as session:
            with pytest.raises(aiohttp.ClientResponseError) as caught:
                await session.get(server.url, raise_for_status=True if where == "request" else None)
            server.will(server.answer(503), server.answer(200))
            async with session.get(server.url) as response:
                assert response.status == 200

        assert (caught.value.status, len(server.seen)) == (502, 5)

    @pytest.mark.parametrize("status", [500, 503, 408, 429])
    async def test_a_failure_is_followed_by_another_attempt(
        self, server: Any, make_guard: MakeGuard, status: int
    ) -> None:
        server.will(server.answer(status), server.answer(200, b"at last"))

        async with session_with(make_guard()) as session, session.get(server.url) as response:
            assert (response.status, await response.text(), len(server.seen)) == (200, "at last", 2)

    async def test_half_an_answer_is_a_failed_attempt(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.cut, server.drop, server.answer(200))

        async with session_with(make_guard()) as session, session.get(server.url) as response:
            assert (await response.text(), len(server.seen)) == ("hello", 3)

    async def test_the_server_says_how_long_to_wait(
        self, server: Any, make_guard: MakeGuard, waits: list[float]
    ) -> None:
        server.will(server.answer(503, Retry_After="7"), server.answer(429, Retry_After="3"), server.answer(200))

        async with session_with(make_guard()) as session, session.get(server.url) as response:
            assert response.status == 200

        assert 7 <= waits[0] < 10
        assert 3 <= waits[1] < 6

    async def test_a_server_that_has_retried_itself_is_not_asked_again(
        self, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.answer(503, Shoal_Retry="no"))

        async with session_with(make_guard()) as session, session.get(server.url) as response:
            assert (response.status, len(server.seen)) == (503, 1)

    async def test_the_client_decodes_the_body(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.zipped(503, b"no"), server.zipped(200, b"yes" * 10_000))

        async with session_with(make_guard()) as session, session.get(server.url) as response:
            assert await response.read() == b"yes" * 10_000

    async def test_a_body_that_was_read_ahead_can_be_read_in_parts_all_the_same(
        self, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.chunked(b"a" * 200_000, b"b\nc"))

        async with session_with(make_guard()) as session, session.get(server.url) as response:
            parts = [part async for part in response.content.iter_chunked(1024)]
            assert response.content.at_eof()

        assert b"".join(parts) == b"a" * 200_000 + b"b\nc"

    async def test_an_open_breaker_is_heard_of_through_the_session(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.answer(500))
        guard = make_guard(attempts=1, breaker=BreakerSettings(minimum_calls=1))

        async with session_with(guard) as session:
            await session.get(server.url)
            with pytest.raises(BreakerOpenError):
                await session.get(server.url)

        assert len(server.seen) == 1

    @pytest.mark.parametrize("attempts", [1, 3])
    async def test_a_session_does_not_go_another_round_by_itself(
        self, server: Any, make_guard: MakeGuard, attempts: int
    ) -> None:
        """Without a guard, it sends a GET once more when the server closes the connection."""
        server.will(server.drop)

        async with session_with(make_guard(attempts=attempts)) as session:
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await session.get(server.url)
            assert len(server.seen) == attempts
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await session.get(server.url)

        assert len(server.seen) == 2 * attempts

    async def test_what_retries_around_the_guard_is_let_do_so(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.drop, server.answer(200))

        async def twice(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            try:
                return await handler(request)
            except aiohttp.ClientError:
                return await handler(request)

        # A POST, which the session does not send once more by itself.
        async with session_with(make_guard(attempts=1), twice) as session, session.post(server.url) as response:
            assert (response.status, len(server.seen)) == (200, 2)

    async def test_a_guard_around_the_session_does_not_multiply_attempts(
        self, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.drop)
        outer = make_guard()

        async with session_with(make_guard()) as session:

            async def ask() -> None:
                await session.get(server.url)

            with pytest.raises(aiohttp.ServerDisconnectedError):
                await outer.arun(ask)

        assert len(server.seen) == 3


class TestRepeating:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_a_refused_connection_is_tried_again_whatever_the_method(
        self, refusing: str, make_guard: MakeGuard, method: str
    ) -> None:
        guard = make_guard()

        async with session_with(guard) as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.request(method, refusing, data=b"1")

        assert guard.counters.attempts == 3

    @pytest.mark.parametrize("method", ["POST", "PATCH", "FROB"])
    async def test_a_method_that_is_not_idempotent_is_not_repeated(
        self, server: Any, make_guard: MakeGuard, method: str
    ) -> None:
        server.will(server.answer(503, Retry_After="1"))

        async with session_with(make_guard()) as session, session.request(method, server.url, data=b"1") as response:
            assert (response.status, len(server.seen)) == (503, 1)

    @pytest.mark.parametrize("failure", ["drop", "cut", "hang", "trickle"])
    async def test_what_may_have_been_done_is_not_done_again(
        self, server: Any, make_guard: MakeGuard, failure: str
    ) -> None:
        server.will(getattr(server, failure))
        guard = make_guard(timeout=0.1) if failure in {"hang", "trickle"} else make_guard()

        async with session_with(guard) as session:
            with pytest.raises((aiohttp.ClientError, DeadlineExceededError)):
                await session.post(server.url, data=b"1")

        assert (len(server.seen), guard.counters.attempts) == (1, 1)

    async def test_an_idempotency_key_makes_it_repeatable(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.answer(503), server.drop, server.answer(200))

        async with (
            session_with(make_guard()) as session,
            session.post(server.url, json={"pay": 1}, headers={"idempotency-key": "7"}) as response,
        ):
            assert response.status == 200

        assert [seen.body for seen in server.seen] == [b'{"pay": 1}'] * 3

    async def test_a_guard_for_what_is_not_idempotent_has_its_way(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.answer(500))

        async with session_with(make_guard(idempotent=False)) as session:
            await session.get(server.url)

        assert len(server.seen) == 1

    @pytest.mark.parametrize("failure", ["answer", "hang"])
    @pytest.mark.parametrize("kind", ["generator", "pipe"])
    async def test_a_body_that_can_be_read_only_once_is_sent_once(
        self, server: Any, make_guard: MakeGuard, kind: str, failure: str
    ) -> None:
        server.will(server.answer(503) if failure == "answer" else server.hang)
        guard = make_guard(timeout=0.2) if failure == "hang" else make_guard()

        async def parts() -> AsyncIterator[bytes]:
            yield b"a"
            yield b"b"

        reader, writer = os.pipe()
        with os.fdopen(writer, "wb") as file:
            file.write(b"ab")
        with os.fdopen(reader, "rb") as pipe:
            body: Any = parts() if kind == "generator" else pipe
            async with session_with(guard) as session:
                with contextlib.suppress(DeadlineExceededError):
                    await session.put(server.url, data=body)

        assert [seen.body for seen in server.seen] == [b"ab"]
        assert guard.counters.attempts == 1

    async def test_a_file_is_sent_again_from_its_beginning(
        self, server: Any, make_guard: MakeGuard, tmp_path: Any
    ) -> None:
        server.will(server.answer(503), server.answer(200))
        path = tmp_path / "body"
        path.write_bytes(b"whole")

        async with session_with(make_guard()) as session:
            with path.open("rb") as file:
                await session.put(server.url, data=file)

        assert [seen.body for seen in server.seen] == [b"whole", b"whole"]


class TestTime:
    @pytest.mark.parametrize("failure", ["hang", "trickle", "stall", "flood"])
    async def test_whatever_the_server_does_it_is_over_in_time(
        self, server: Any, make_guard: MakeGuard, failure: str
    ) -> None:
        server.will(getattr(server, failure), server.answer(200))
        guard = make_guard(timeout=0.15, attempts=1)

        async with session_with(guard) as session:
            began = time.monotonic()
            with pytest.raises(DeadlineExceededError):
                await session.get(server.url)
            took = time.monotonic() - began
            free = await finds_the_pool_free(session, server.url)

        assert 0.1 < took < 2.0
        assert guard.counters.attempts_timeout == 1
        assert free

    async def test_the_sessions_own_timeout_counts_for_all_attempts(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.hang)
        guard = make_guard()

        async with session_with(guard, timeout=aiohttp.ClientTimeout(total=0.1)) as session:
            with pytest.raises(TimeoutError) as caught:
                await session.get(server.url)

        assert not isinstance(caught.value, DeadlineExceededError)
        assert (len(server.seen), guard.counters.calls_cancelled) == (1, 1)

    async def test_the_server_is_told_how_long_it_may_take(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.answer(503), server.answer(200))

        async with session_with(make_guard(timeout=2.0)) as session:
            await session.get(server.url)
            with shoal.deadline(0.8):
                await session.get(server.url)

        told = [int(seen.headers["Shoal-Timeout-Ms"]) for seen in server.seen]
        assert [1500 < told[0] <= 2000, 1500 < told[1] <= 2000, 300 < told[2] <= 800] == [True] * 3

    @pytest.mark.parametrize("own", [{}, {"Shoal-Timeout-Ms": "9"}], ids=["none", "the caller's own"])
    async def test_the_callers_request_stays_as_it_was(
        self, server: Any, make_guard: MakeGuard, own: dict[str, str]
    ) -> None:
        server.will(server.answer(503), server.answer(200))

        async with session_with(make_guard()) as session, session.get(server.url, headers=own) as response:
            headers = response.request_info.headers

        assert headers.getall("Shoal-Timeout-Ms", []) == list(own.values())
        assert [len(seen.headers.get_all("Shoal-Timeout-Ms")) for seen in server.seen] == [1, 1]


class TestStreaming:
    async def test_a_stream_begins_before_it_ends(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.stall, server.answer(200))

        async with session_with(make_guard(), read_body=False) as session:
            async with session.get(server.url) as response:
                assert await response.content.readany() == b"half"
            assert await finds_the_pool_free(session, server.url)

    async def test_the_body_of_a_stream_may_take_longer_than_the_attempt(
        self, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.late(0.4))

        async with (
            session_with(make_guard(timeout=0.2), read_body=False) as session,
            session.get(server.url) as response,
        ):
            assert await response.read() == b"late"

    async def test_a_failure_gives_its_connection_back_before_the_next_attempt(
        self, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.answer(503), server.answer(503), server.answer(503, b"third"))

        async with session_with(make_guard(), read_body=False) as session, session.get(server.url) as response:
            assert await response.read() == b"third"

        assert (len(server.seen), server.connections) == (3, 1)

    async def test_the_headers_of_a_stream_are_guarded(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.hang, server.answer(200))

        async with session_with(make_guard(timeout=0.15, attempts=1), read_body=False) as session:
            with pytest.raises(DeadlineExceededError):
                await session.get(server.url)
            assert await finds_the_pool_free(session, server.url)


class TestCancelling:
    @pytest.mark.parametrize("failure", ["hang", "trickle"])
    async def test_whoever_is_cancelled_gives_the_connection_back(
        self, server: Any, make_guard: MakeGuard, failure: str
    ) -> None:
        server.will(getattr(server, failure), server.answer(200))
        guard = make_guard()

        async with session_with(guard) as session:
            call = asyncio.ensure_future(session.get(server.url))
            await asyncio.to_thread(server.arrived.wait)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await finds_the_pool_free(session, server.url)

        assert (len(server.seen), guard.counters.retries) == (2, 0)


def test_what_is_no_guard_is_refused() -> None:
    auth = shoal.Service("wallet").dependency("auth", target="http://auth")

    with pytest.raises(TypeError, match=r"guard must be a shoal\.Guard, such as the \.guard of a dependency"):
        guard_middleware(auth)  # type: ignore[arg-type]
