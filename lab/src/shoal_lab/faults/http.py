"""Answers some HTTP requests in the target's stead, and passes on all others byte for byte.

h11 finds where requests and answers begin and end; what is passed on are the bytes that came, not h11's idea of them.
Answers are read along because an injected one must wait for those to earlier, pipelined requests.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

import h11

from .counters import Counters
from .wire import Outlets, UnreadableError

logger = logging.getLogger(__name__)

# What common servers take for a head; what is longer is passed on unread.
HEAD_LIMIT = 64 * 1024

_BODY = b'{"error": "injected by the lab"}'
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class HttpWire:
    """One connection. *refuses* is asked once per request, when its head is complete.

    The head of a request is held back until it is complete. After a request that asks to switch protocols (Upgrade,
    CONNECT), and after what is not HTTP/1, everything is passed on unread.
    """

    def __init__(self, outlets: Outlets, *, refuses: Callable[[], bool], counters: Counters) -> None:
        self._outlets = outlets
        self._refuses = refuses
        self._counters = counters
        self._request = _Message(h11.Connection(h11.SERVER, HEAD_LIMIT))
        self._refused: bool | None = None
        """What becomes of the request; None until its head is complete."""
        self._requests_unread = False
        self._answers_unread = False
        self._due: deque[_Message | bytes | None] = deque()
        """Answers in the order of their requests: the target's, our own, and None to close after them."""

    def from_caller(self, data: bytes) -> None:
        """Pass on requests, or see to it that they are answered."""
        while data and not self._requests_unread:
            data = self._read_request(data)
        if data:
            self._outlets.to_target(data)

    def caller_ended(self) -> None:
        """Pass on a head that will not be completed."""
        if self._refused is None:
            self._outlets.to_target(self._request.take())

    def from_target(self, data: bytes) -> None:
        """Pass on answers, and our own where it is their turn."""
        while data and not self._answers_unread and self._due:
            answer = self._due[0]
            assert isinstance(answer, _Message), "our own answers never wait for the target at the head of the queue"
            try:
                rest = answer.read(data)
            except h11.RemoteProtocolError as error:
                if not all(isinstance(due, _Message) for due in self._due):
                    raise UnreadableError(f"the end of an answer was not found: {error}") from error
                self._lose_the_thread("an answer", error)
                self._answers_unread = True
                rest = b""
            self._outlets.to_caller(answer.take())
            if answer.complete:
                self._due.popleft()
                self._answer()
            data = rest
        if data:
            self._outlets.to_caller(data)

    def _read_request(self, data: bytes) -> bytes:
        """Read up to the end of one request; the bytes after it."""
        request = self._request
        try:
            rest = request.read(data)
        except h11.RemoteProtocolError as error:
            if self._refused:
                raise UnreadableError(f"the end of a request was not found: {error}") from error
            self._lose_the_thread("a request", error)
            return request.take()
        if request.head is None:
            return b""
        if self._refused is None:
            self._refused = self._decide(request)
        piece = request.take()
        if not self._refused:
            self._outlets.to_target(piece)
        if request.complete:
            self._end_request(request)
        return rest

    def _decide(self, request: _Message) -> bool:
        assert isinstance(request.head, h11.Request)
        self._counters.requests += 1
        if self._refuses():
            self._counters.injected += 1
            if request.parser.they_are_waiting_for_100_continue:
                # The body is asked for and dropped: a final answer now would leave it open whether a body follows.
                self._due.append(_CONTINUE)
                self._answer()
            return True
        if not _switches(request.head):
            self._due.append(_answer_to(request.head.method))
        return False

    def _end_request(self, request: _Message) -> None:
        assert isinstance(request.head, h11.Request)
        if self._refused:
            closes = request.parser.their_state is h11.MUST_CLOSE
            self._due.append(_refusal(request.head.method, closes=closes))
            if closes:
                self._due.append(None)
            self._answer()
        elif _switches(request.head):
            self._requests_unread = True
        # One parser per request: none has to be told of answers it did not give.
        self._request = _Message(h11.Connection(h11.SERVER, HEAD_LIMIT))
        self._refused = None

    def _answer(self) -> None:
        """Send those of our own answers whose turn it is."""
        while self._due and not isinstance(answer := self._due[0], _Message):
            self._due.popleft()
            if answer is None:
                self._outlets.finish_caller()
            else:
                self._outlets.to_caller(answer)

    def _lose_the_thread(self, what: str, error: h11.RemoteProtocolError) -> None:
        self._requests_unread = True
        self._counters.unreadable += 1
        logger.warning("%s is passed on unread, and all requests after it: %s", what, error)


class _Message:
    """One request or answer, found in the bytes as they come."""

    __slots__ = ("_read", "complete", "head", "parser")

    def __init__(self, parser: h11.Connection) -> None:
        self.parser = parser
        self.head: h11.Request | h11.Response | None = None
        self.complete = False
        self._read = b""

    def read(self, data: bytes) -> bytes:
        """Read up to the end of the message; the bytes after it. Raises RemoteProtocolError, having read all."""
        self._read += data
        self.parser.receive_data(data)
        while not self.complete:
            event = self.parser.next_event()
            if isinstance(event, h11.Request | h11.Response):
                self.head = event
            elif isinstance(event, h11.EndOfMessage):
                self.complete = True
            elif not isinstance(event, h11.Data | h11.InformationalResponse):
                return b""
        rest, _closed = self.parser.trailing_data
        if rest:
            self._read = self._read[: -len(rest)]
        return rest

    def take(self) -> bytes:
        """The bytes of the message read since the last call."""
        taken, self._read = self._read, b""
        return taken


def _switches(request: h11.Request) -> bool:
    return request.method == b"CONNECT" or any(name == b"upgrade" for name, _ in request.headers)


def _answer_to(method: bytes) -> _Message:
    parser = h11.Connection(h11.CLIENT, HEAD_LIMIT)
    parser.send(h11.Request(method=method, target="/", headers=[("host", "lab")]))
    return _Message(parser)


def _refusal(method: bytes, *, closes: bool) -> bytes:
    return (
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
        + b"content-length: %d\r\n" % len(_BODY)
        + (b"connection: close\r\n" if closes else b"")
        + b"\r\n"
        + (b"" if method == b"HEAD" else _BODY)
    )
