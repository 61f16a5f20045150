"""As much of HTTP as a probe needs, as bytes on the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.health import Answers, ProbeAnswer, ProbeServer
from shoal.health.request import LONGEST_HEAD, Request, parse

Say = Callable[[ProbeServer, bytes], bytes]


@pytest.mark.parametrize(
    ("received", "path", "head_only"),
    [
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", "/livez", False, id="1.1"),
        pytest.param(b"GET /livez HTTP/1.0\r\n\r\n", "/livez", False, id="1.0 without headers"),
        pytest.param(b"HEAD /livez HTTP/1.1\r\n\r\n", "/livez", True, id="head"),
        pytest.param(b"GET /health?view=available HTTP/1.1\r\n\r\n", "/health?view=available", False, id="query"),
        pytest.param(b"GET /livez HTTP/1.1\nHost: x\n\n", "/livez", False, id="bare line feeds"),
        pytest.param(b"\r\n\r\nGET /livez HTTP/1.1\r\n\r\n", "/livez", False, id="empty lines first"),
        pytest.param(b"GET http://pod:8081/livez?a=b HTTP/1.1\r\n\r\n", "/livez?a=b", False, id="absolute form"),
        pytest.param(b"GET http://pod:8081 HTTP/1.1\r\n\r\n", "/", False, id="absolute form without a path"),
        pytest.param(b"GET /livez HTTP/1.1\r\n\r\nGARBAGE \x00\xff", "/livez", False, id="garbage behind it"),
        pytest.param(b"GET /caf\xe9 HTTP/1.1\r\n\r\n", "/caf\xe9", False, id="not ascii"),
    ],
)
def test_a_request_a_probe_may_send_is_understood(received: bytes, path: str, head_only: bool) -> None:
    assert parse(received) == Request(path=path, head_only=head_only)


@pytest.mark.parametrize(
    ("received", "status"),
    [
        pytest.param(b"nonsense\r\n\r\n", 400, id="one word"),
        pytest.param(b"GET /livez\r\n\r\n", 400, id="0.9"),
        pytest.param(b"GET  /livez HTTP/1.1\r\n\r\n", 400, id="two blanks"),
        pytest.param(b"GET livez HTTP/1.1\r\n\r\n", 400, id="not a path"),
        pytest.param(b"GET * HTTP/1.1\r\n\r\n", 400, id="asterisk"),
        pytest.param(b"GET http://[pod/livez HTTP/1.1\r\n\r\n", 400, id="broken address"),
        pytest.param(b"GET ftp://pod/livez HTTP/1.1\r\n\r\n", 400, id="another scheme"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00 \n\n", 400, id="tls"),
        pytest.param(b"POST /livez HTTP/1.1\r\n\r\n", 405, id="post"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="http/2"),
        pytest.param(b"GET /" + b"a" * LONGEST_HEAD, 431, id="endless line"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 2000, 431, id="endless headers"),
        pytest.param(b"\r\n" * LONGEST_HEAD, 431, id="endless nothing"),
    ],
)
def test_anything_else_is_refused_with_a_reason(received: bytes, status: int) -> None:
    answer = parse(received)

    assert isinstance(answer, ProbeAnswer)
    assert answer.status == status
    assert b'"error"' in answer.body


@given(st.binary(max_size=9000))
def test_no_bytes_break_the_parser(received: bytes) -> None:
    answer = parse(received)

    assert answer is not None or len(received) < LONGEST_HEAD


@given(st.integers(min_value=0, max_value=40))
def test_an_incomplete_request_is_waited_for(length: int) -> None:
    whole = b"GET /livez HTTP/1.1\r\nHost: pod.example\r\n\r\n"

    assert parse(whole[:length]) is None


def test_the_answer_says_everything_an_http_client_needs(
    serve: Callable[..., ProbeServer], say: Say, live: Answers
) -> None:
    answer = say(serve(live), b"GET /livez?a=b HTTP/1.1\r\n\r\n")

    assert answer == (
        b"HTTP/1.1 200 OK\r\n"
        b"Content-Type: application/json\r\n"
        b"Content-Length: 23\r\n"
        b"Cache-Control: no-store\r\n"
        b"Connection: close\r\n"
        b"\r\n"
        b'{"path": "/livez?a=b"}\n'
    )


def test_head_is_the_same_without_the_body(serve: Callable[..., ProbeServer], say: Say, live: Answers) -> None:
    server = serve(live)

    whole = say(server, b"GET /livez HTTP/1.1\r\n\r\n")
    head = say(server, b"HEAD /livez HTTP/1.1\r\n\r\n")

    assert head.endswith(b"\r\n\r\n")
    assert whole.startswith(head)
    assert len(whole) > len(head)


def test_a_method_that_is_not_allowed_is_told_which_are(
    serve: Callable[..., ProbeServer], say: Say, live: Answers
) -> None:
    assert b"\r\nAllow: GET, HEAD\r\n" in say(serve(live), b"DELETE /livez HTTP/1.1\r\n\r\n")


def test_a_status_nobody_registered_can_be_sent(serve: Callable[..., ProbeServer], say: Say) -> None:
    server = serve(lambda path: ProbeAnswer.of(299, {}))

    assert say(server, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 299 ")
