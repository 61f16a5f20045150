from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal_lab.faults.counters import Counters
from shoal_lab.faults.http import HEAD_LIMIT, HttpWire
from shoal_lab.faults.wire import UnreadableError

REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 32\r\n\r\n"
    b'{"error": "injected by the lab"}'
)
GET = b"GET /balance HTTP/1.1\r\nHost: balance\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Connection:
    """An `HttpWire`, what it sent, and the script of which requests it refuses."""

    def __init__(self, *refused: bool) -> None:
        self.target = b""
        self.caller = b""
        self.finished = False
        self.counters = Counters()
        script = iter(refused)
        self.wire = HttpWire(self, refuses=lambda: next(script), counters=self.counters)

    def to_target(self, data: bytes) -> None:
        self.target += data

    def to_caller(self, data: bytes) -> None:
        assert not self.finished
        self.caller += data

    def finish_caller(self) -> None:
        self.finished = True


@dataclass(frozen=True, kw_only=True)
class Exchange:
    request: bytes
    answer: bytes
    refused: bool
    refusal: bytes


@st.composite
def messages(draw: st.DrawFn, start: bytes, *, has_body: bool = True) -> bytes:
    body = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=4))
    noise = b"X-Noise: " + draw(st.text("ab \t:", max_size=5)).encode() + b"\r\n"
    if draw(st.booleans()):
        framing = b"Transfer-Encoding: chunked\r\n"
        chunks = [b"%x%s\r\n%s\r\n" % (len(chunk), draw(st.sampled_from([b"", b";ext=1"])), chunk) for chunk in body]
        content = b"".join(chunks) + b"0\r\n" + draw(st.sampled_from([b"", b"X-Trailer: 1\r\n"])) + b"\r\n"
    else:
        content = b"".join(body)
        framing = b"content-length: %d\r\n" % len(content)
    return start + b"\r\nHost: balance\r\n" + noise + framing + b"\r\n" + (content if has_body else b"")


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD"]))
    plain = method + b" /balance HTTP/1.1\r\nHost: balance\r\n\r\n"
    early = draw(st.sampled_from([b"", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"]))
    empty = b"HTTP/1.1 204 No Content\r\n\r\n"
    return Exchange(
        request=draw(st.one_of(st.just(plain), messages(method + b" /balance HTTP/1.1"))),
        answer=early + draw(st.one_of(st.just(empty), messages(b"HTTP/1.1 200 OK", has_body=method != b"HEAD"))),
        refused=draw(st.booleans()),
        refusal=REFUSAL[: REFUSAL.index(b"{")] if method == b"HEAD" else REFUSAL,
    )


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


sizes = st.lists(st.integers(0, 60), max_size=20)


@given(many=st.lists(exchanges(), max_size=6), sizes=sizes)
def test_without_refusals_the_same_bytes_arrive_however_they_come(many: list[Exchange], sizes: list[int]) -> None:
    connection = Connection(*[False] * len(many))
    requests = b"".join(one.request for one in many)
    answers = b"".join(one.answer for one in many)

    for piece in pieces(requests, sizes):
        connection.wire.from_caller(piece)
    assert connection.target == requests

    for piece in pieces(answers, sizes):
        connection.wire.from_target(piece)
    assert connection.caller == answers
    assert (connection.counters.requests, connection.counters.unreadable) == (len(many), 0)


@given(many=st.lists(exchanges(), max_size=6), sizes=sizes, turns=st.lists(st.booleans(), max_size=30))
def test_answers_come_in_the_order_of_the_requests_whoever_gives_them(
    many: list[Exchange], sizes: list[int], turns: list[bool]
) -> None:
    """Requests come pipelined; the target answers those it has got, at any moment, in any pieces."""
    connection = Connection(*(one.refused for one in many))
    passed = [one for one in many if not one.refused]
    asking = pieces(b"".join(one.request for one in many), sizes)
    answered = 0

    def answer() -> None:
        nonlocal answered
        got, due = 0, b""
        for one in passed:
            got += len(one.request)
            if got <= len(connection.target):
                due += one.answer
        size = 7 if turns else len(due)
        piece = due[answered : answered + size]
        answered += len(piece)
        connection.wire.from_target(piece)

    for targets_turn in turns:
        if targets_turn:
            answer()
        else:
            connection.wire.from_caller(next(asking, b""))
    for piece in asking:
        connection.wire.from_caller(piece)
    while answered < sum(len(one.answer) for one in passed):
        answer()

    assert connection.target == b"".join(one.request for one in passed)
    assert connection.caller == b"".join(one.refusal if one.refused else one.answer for one in many)
    assert connection.counters.injected == len(many) - len(passed)


def test_a_refused_request_is_answered_when_all_of_it_has_come() -> None:
    connection = Connection(True)
    head = b"POST /lock HTTP/1.1\r\nHost: wallet\r\nContent-Length: 4\r\n\r\n"

    connection.wire.from_caller(head + b"ab")
    assert connection.caller == b""
    connection.wire.from_caller(b"cd")

    assert connection.caller == REFUSAL
    assert connection.target == b""


def test_who_asks_before_sending_a_body_is_told_to_send_it_and_then_refused() -> None:
    """The connection stays usable: after a final answer at once nobody would know whether a body follows."""
    connection = Connection(True, False)
    connection.wire.from_caller(
        b"POST /lock HTTP/1.1\r\nHost: wallet\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    )
    assert connection.caller == b"HTTP/1.1 100 Continue\r\n\r\n"

    connection.wire.from_caller(b"body" + GET)

    assert connection.caller == b"HTTP/1.1 100 Continue\r\n\r\n" + REFUSAL
    assert connection.target == GET


def test_the_target_may_ask_for_the_body_itself() -> None:
    connection = Connection(False, True)
    head = b"POST /lock HTTP/1.1\r\nHost: wallet\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    connection.wire.from_caller(head)
    connection.wire.from_target(b"HTTP/1.1 100 Continue\r\n\r\n")
    connection.wire.from_caller(b"body")
    connection.wire.from_target(OK)
    connection.wire.from_caller(GET)

    assert connection.target == head + b"body"
    assert connection.caller == b"HTTP/1.1 100 Continue\r\n\r\n" + OK + REFUSAL


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: balance\r\nConnection: close\r\n\r\n", id="Connection: close"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", id="HTTP/1.0"),
    ],
)
def test_who_wants_no_further_request_is_refused_and_the_connection_closed(request_: bytes) -> None:
    connection = Connection(True)

    connection.wire.from_caller(request_)

    assert b"\r\nconnection: close\r\n" in connection.caller
    assert connection.finished


def test_after_a_switch_of_protocols_bytes_pass_unread() -> None:
    connection = Connection(False, True)
    upgrade = b"GET /ws HTTP/1.1\r\nHost: balance\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"

    connection.wire.from_caller(upgrade + GET)
    connection.wire.from_target(switched + OK)
    connection.wire.from_caller(b"\x81\x05" + GET)

    assert connection.target == upgrade + GET + b"\x81\x05" + GET
    assert connection.caller == switched + OK
    assert (connection.counters.requests, connection.counters.unreadable) == (1, 0)


def test_an_answer_without_length_lasts_until_the_target_closes() -> None:
    connection = Connection(False)
    connection.wire.from_caller(GET)

    for piece in (b"HTTP/1.1 200 OK\r\n\r\n", b"one", OK):
        connection.wire.from_target(piece)

    assert connection.caller == b"HTTP/1.1 200 OK\r\n\r\none" + OK


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01", id="TLS"),
        pytest.param(b"GET / HTTP/1.1\r\nHost : balance\r\n\r\n", id="a bad header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: b\r\nX: " + b"x" * HEAD_LIMIT, id="a head without end"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="a bad chunk"),
    ],
)
def test_what_cannot_be_read_passes_and_so_does_everything_after_it(
    garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    connection = Connection(False)

    for piece in (GET, garbage, b"more", GET):
        connection.wire.from_caller(piece)
    connection.wire.from_target(OK + b"\x15\x03")

    assert connection.target == GET + garbage + b"more" + GET
    assert connection.caller == OK + b"\x15\x03"
    assert connection.counters.unreadable == 1
    assert "passed on unread" in caplog.text


def test_an_answer_that_cannot_be_read_passes(caplog: pytest.LogCaptureFixture) -> None:
    """And no request is refused after it, for it is not known when it would be the turn of our own answer."""
    connection = Connection(False, True)
    connection.wire.from_caller(GET)
    connection.wire.from_target(b"ICY 200 OK\r\n\r\nnoise")
    connection.wire.from_caller(GET)

    assert connection.caller == b"ICY 200 OK\r\n\r\nnoise"
    assert connection.target == GET + GET
    assert "an answer is passed on unread" in caplog.text


def test_when_our_own_answer_waits_behind_one_that_cannot_be_read_the_connection_is_given_up() -> None:
    connection = Connection(False, True)
    connection.wire.from_caller(GET + GET)

    with pytest.raises(UnreadableError, match="the end of an answer was not found"):
        connection.wire.from_target(b"ICY 200 OK\r\n\r\nnoise")


def test_when_the_body_of_a_refused_request_cannot_be_read_the_connection_is_given_up() -> None:
    connection = Connection(True)
    connection.wire.from_caller(b"POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n")

    with pytest.raises(UnreadableError, match="the end of a request was not found"):
        connection.wire.from_caller(b"zz\r\n")


def test_what_the_target_says_unasked_passes() -> None:
    """Such as 408 before it closes an idle connection."""
    connection = Connection()

    connection.wire.from_target(b"HTTP/1.1 408 Request Timeout\r\n\r\n")

    assert connection.caller == b"HTTP/1.1 408 Request Timeout\r\n\r\n"


def test_half_a_head_passes_when_the_caller_ends_there() -> None:
    connection = Connection()
    connection.wire.from_caller(GET[:10])
    assert connection.target == b""

    connection.wire.caller_ended()

    assert connection.target == GET[:10]
