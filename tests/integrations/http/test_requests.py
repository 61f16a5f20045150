"""requests through a guard, against a real server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Timeout

import shoal
from shoal import BreakerOpenError, Guard
from shoal.guard import BreakerSettings
from shoal.integrations.requests import GuardAdapter

MakeGuard = Callable[..., Guard]


@contextmanager
def session_with(guard: Guard, *, adapter: Callable[..., GuardAdapter] = GuardAdapter) -> Iterator[requests.Session]:
    # One connection, for which others would wait for ever: whoever does not give it back is found out.
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", adapter(guard=guard, pool_connections=1, pool_maxsize=1, pool_block=True))
        yield session


def pool_is_free(session: requests.Session, url: str) -> bool:
    adapter = session.get_adapter(url)
    assert isinstance(adapter, HTTPAdapter)
    (key,) = adapter.poolmanager.pools.keys()
    pool = adapter.poolmanager.pools[key]
    # The queue of urllib3: full of connections, or of places for them, when none is in use.
    return bool(pool.pool is not None and pool.pool.full())


class TestAnswers:
    @pytest.mark.parametrize("status", [200, 204, 404])
    def test_an_answer_that_is_no_failure_is_not_asked_for_again(
        self, server: Any, make_guard: MakeGuard, status: int
    ) -> None:
        server.will(server.answer(status, b"" if status == 204 else b"hello"))
        guard = make_guard()

        with session_with(guard) as session:
            response = session.get(server.url)

        assert (response.status_code, response.text) == (status, "" if status == 204 else "hello")
        assert (len(server.seen), guard.counters.calls_success) == (1, 1)

    def test_after_the_last_attempt_the_caller_gets_the_last_answer(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(*(server.answer(503, body) for body in (b"first", b"second", b"third")))
        guard = make_guard()

        with session_with(guard) as session:
            response = session.get(server.url)
            assert pool_is_free(session, server.url)

        assert (response.status_code, response.text) == (503, "third")
        assert (len(server.seen), server.connections) == (3, 1)
        assert (guard.counters.attempts_error, guard.counters.calls_exhausted) == (3, 1)

    @pytest.mark.parametrize("status", [500, 503, 408, 429])
    def test_a_failure_is_followed_by_another_attempt(self, server: Any, make_guard: MakeGuard, status: int) -> None:
        server.will(server.answer(status), server.answer(200, b"at last"))

        with session_with(make_guard()) as session:
            response = session.get(server.url)

        assert (response.status_code, response.text, len(server.seen)) == (200, "at last", 2)

    def test_half_an_answer_is_a_failed_attempt(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.cut, server.drop, server.answer(200))

        with session_with(make_guard()) as session:
            response = session.get(server.url)

        assert (response.text, len(server.seen)) == ("hello", 3)

    def test_half_an_answer_ends_as_it_does_without_a_guard(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.cut)

        with session_with(make_guard()) as session:
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                session.get(server.url)
            assert pool_is_free(session, server.url)

    def test_the_server_says_how_long_to_wait(self, server: Any, make_guard: MakeGuard, waits: list[float]) -> None:
        server.will(server.answer(503, Retry_After="7"), server.answer(429, Retry_After="3"), server.answer(200))

        with session_with(make_guard()) as session:
            response = session.get(server.url)

        assert response.status_code == 200
        assert 7 <= waits[0] < 10
        assert 3 <= waits[1] < 6

    def test_a_server_that_has_retried_itself_is_not_asked_again(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.answer(503, Shoal_Retry="no"))

        with session_with(make_guard()) as session:
            response = session.get(server.url)

        assert (response.status_code, len(server.seen)) == (503, 1)

    def test_the_client_decodes_the_body(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.zipped(503, b"no"), server.zipped(200, b"yes" * 10_000))

        with session_with(make_guard()) as session:
            response = session.get(server.url)

        assert response.content == b"yes" * 10_000

    def test_a_chunked_body_is_complete(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.chunked(b"a" * 70_000, b"b"))

        with session_with(make_guard()) as session:
            response = session.get(server.url)

        assert response.content == b"a" * 70_000 + b"b"

    def test_the_answer_to_head_has_no_body(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.answer(200))

        with session_with(make_guard()) as session:
            response = session.head(server.url)
            assert pool_is_free(session, server.url)

        assert (response.headers["Content-Length"], response.content) == ("5", b"")

    def test_cookies_reach_the_session(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.answer(200, Set_Cookie="token=7"))

        with session_with(make_guard()) as session:
            response = session.get(server.url)
            assert session.cookies["token"] == response.cookies["token"] == "7"

    def test_an_open_breaker_is_heard_of_through_the_session(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.answer(500))
        guard = make_guard(attempts=1, breaker=BreakerSettings(minimum_calls=1))

        with session_with(guard) as session:
            session.get(server.url)
            with pytest.raises(BreakerOpenError):
                session.get(server.url)

        assert len(server.seen) == 1

    def test_a_guard_around_the_session_does_not_multiply_attempts(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.drop)
        outer = make_guard()

        with session_with(make_guard()) as session, pytest.raises(requests.ConnectionError):
            outer.run(session.get, server.url)

        assert len(server.seen) == 3


class TestRepeating:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_refused_connection_is_tried_again_whatever_the_method(
        self, refusing: str, make_guard: MakeGuard, method: str
    ) -> None:
        guard = make_guard()

        with session_with(guard) as session, pytest.raises(requests.ConnectionError):
            session.request(method, refusing, data=b"1")

        assert guard.counters.attempts == 3

    def test_a_connection_that_is_not_made_in_time_is_tried_again_whatever_the_method(
        self, silent: str, make_guard: MakeGuard
    ) -> None:
        guard = make_guard(timeout=0.1)

        with session_with(guard) as session, pytest.raises(requests.ConnectTimeout):
            session.post(silent, data=b"1")

        assert (guard.counters.attempts_timeout, guard.counters.calls_timeout) == (3, 1)

    @pytest.mark.parametrize("method", ["POST", "PATCH", "FROB"])
    def test_a_method_that_is_not_idempotent_is_not_repeated(
        self, server: Any, make_guard: MakeGuard, method: str
    ) -> None:
        server.will(server.answer(503, Retry_After="1"))

        with session_with(make_guard()) as session:
            response = session.request(method, server.url, data=b"1")

        assert (response.status_code, len(server.seen)) == (503, 1)

    @pytest.mark.parametrize("failure", ["drop", "cut", "hang", "trickle"])
    def test_what_may_have_been_done_is_not_done_again(self, server: Any, make_guard: MakeGuard, failure: str) -> None:
        server.will(getattr(server, failure))
        guard = make_guard(timeout=0.1) if failure in {"hang", "trickle"} else make_guard()

        with session_with(guard) as session, pytest.raises(requests.RequestException):
            session.post(server.url, data=b"1")

        assert (len(server.seen), guard.counters.attempts) == (1, 1)

    def test_an_idempotency_key_makes_it_repeatable(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.answer(503), server.drop, server.answer(200))

        with session_with(make_guard()) as session:
            response = session.post(server.url, json={"pay": 1}, headers={"idempotency-key": "7"})

        assert response.status_code == 200
        assert [seen.body for seen in server.seen] == [b'{"pay": 1}'] * 3

    def test_a_guard_for_what_is_not_idempotent_has_its_way(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.answer(500))

        with session_with(make_guard(idempotent=False)) as session:
            session.get(server.url)

        assert len(server.seen) == 1

    def test_a_body_that_can_be_read_only_once_is_sent_once(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.answer(503))

        def parts() -> Iterator[bytes]:
            yield b"a"
            yield b"b"

        with session_with(make_guard()) as session:
            session.put(server.url, data=parts())

        assert [seen.body for seen in server.seen] == [b"ab"]


class TestTime:
    @pytest.mark.parametrize("failure", ["hang", "trickle", "stall", "flood", "trickle_in_a_chunk"])
    def test_whatever_the_server_does_it_is_over_in_time(
        self, server: Any, make_guard: MakeGuard, failure: str
    ) -> None:
        server.will(getattr(server, failure))
        guard = make_guard(timeout=0.15, attempts=1)

        with session_with(guard) as session:
            began = time.monotonic()
            with pytest.raises(requests.Timeout):
                session.get(server.url, timeout=3.0)
            took = time.monotonic() - began
            free = pool_is_free(session, server.url)

        assert 0.1 < took < 2.0
        assert guard.counters.attempts_timeout == 1
        assert free

    def test_a_part_that_comes_late_does_not_begin_the_time_anew(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.stall_late)

        with session_with(make_guard(timeout=0.5, attempts=1)) as session:
            began = time.monotonic()
            with pytest.raises(requests.ReadTimeout):
                session.get(server.url)
            took = time.monotonic() - began

        assert 0.45 < took < 0.8

    def test_the_callers_own_timeout_ends_a_body_that_stalls(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.stall)

        with session_with(make_guard(attempts=1)) as session:
            began = time.monotonic()
            with pytest.raises(requests.ReadTimeout):
                session.get(server.url, timeout=0.15)
            took = time.monotonic() - began

        assert 0.1 < took < 2.0

    @pytest.mark.parametrize(
        ("given", "connect", "read", "total"),
        [
            pytest.param(None, None, None, 2.0, id="none"),
            pytest.param(1.0, 1.0, 1.0, 2.0, id="shorter"),
            pytest.param(9.0, 9.0, 9.0, 2.0, id="longer"),
            pytest.param((1.0, None), 1.0, None, 2.0, id="a pair"),
            pytest.param(Timeout(total=1.0), ..., ..., 1.0, id="urllib3's, shorter"),
            pytest.param(Timeout(total=9.0, read=1.0), ..., 1.0, 2.0, id="urllib3's, longer"),
        ],
    )
    def test_no_timeout_is_longer_than_the_attempt(
        self, server: Any, make_guard: MakeGuard, given: Any, connect: Any, read: Any, total: float
    ) -> None:
        server.will(server.answer(200))
        with session_with(make_guard(timeout=2.0), adapter=Watched) as session:
            session.get(server.url, timeout=given)
            adapter: Any = session.get_adapter(server.url)

        (limited,) = adapter.timeouts
        expected = Timeout(**{key: value for key, value in (("connect", connect), ("read", read)) if value is not ...})
        assert (limited._connect, limited._read) == (expected._connect, expected._read)
        assert total - 0.5 < limited.total <= total

    def test_the_server_is_told_how_long_it_may_take(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.answer(503), server.answer(200))

        with session_with(make_guard(timeout=2.0)) as session:
            session.get(server.url)
            with shoal.deadline(0.8):
                session.get(server.url)

        told = [int(seen.headers["Shoal-Timeout-Ms"]) for seen in server.seen]
        assert [1500 < told[0] <= 2000, 1500 < told[1] <= 2000, 300 < told[2] <= 800] == [True] * 3

    def test_the_callers_request_stays_as_it_was(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.answer(503), server.answer(200))

        with session_with(make_guard()) as session:
            request = session.prepare_request(requests.Request("GET", server.url))
            headers = dict(request.headers)
            response = session.send(request)

        assert request.headers == headers
        assert response.request is request


class TestStreaming:
    def test_a_stream_begins_before_it_ends(self, server: Any, make_guard: MakeGuard) -> None:
        server.will(server.stall)

        with session_with(make_guard()) as session:
            with session.get(server.url, stream=True) as response:
                assert next(response.iter_content(4)) == b"half"
            assert pool_is_free(session, server.url)

    @pytest.mark.parametrize("headers", [{}, {"Connection": "close"}], ids=["keep-alive", "close"])
    def test_the_body_of_a_stream_is_under_the_callers_own_timeout(
        self, server: Any, make_guard: MakeGuard, headers: dict[str, str]
    ) -> None:
        server.will(server.late(0.4, **headers))

        with (
            session_with(make_guard(timeout=0.2)) as session,
            session.get(server.url, stream=True, timeout=3.0) as response,
        ):
            assert response.content == b"late"

    def test_a_failure_gives_its_connection_back_before_the_next_attempt(
        self, server: Any, make_guard: MakeGuard
    ) -> None:
        server.will(server.answer(503), server.answer(503), server.answer(503, b"third"))

        with session_with(make_guard()) as session, session.get(server.url, stream=True) as response:
            assert response.content == b"third"

        assert (len(server.seen), server.connections) == (3, 1)


class Watching(HTTPAdapter):
    """requests' own adapter, which tells what timeouts it was given."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.timeouts: list[Any] = []

    def send(self, *args: Any, **options: Any) -> requests.Response:
        self.timeouts.append(options["timeout"])
        return super().send(*args, **options)


class Watched(GuardAdapter, Watching):
    pass


def test_what_is_no_guard_is_refused() -> None:
    auth = shoal.Service("wallet").dependency("auth", target="http://auth")

    with pytest.raises(TypeError, match=r"guard must be a shoal\.Guard, such as the \.guard of a dependency"):
        GuardAdapter(guard=auth)  # type: ignore[arg-type]
