"""A real HTTP server on loopback that answers as it is told, and guards that tell what they were asked to wait."""

from __future__ import annotations

import contextlib
import gzip
import random
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from shoal import Guard
from shoal.guard import Backoff


@dataclass
class Seen:
    """One request that arrived, and on which connection."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: tuple[str, int]


@dataclass
class Script:
    """What the server does: the next of *answers*, and the last one for ever."""

    answers: deque[Callable[[Handler], None]] = field(default_factory=deque)
    seen: list[Seen] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    # Ends whatever hangs or trickles.
    over: threading.Event = field(default_factory=threading.Event)

    def next(self) -> Callable[[Handler], None]:
        return self.answers.popleft() if len(self.answers) > 1 else self.answers[0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Else the body of an answer waits for the acknowledgement of its headers.
    disable_nagle_algorithm = True

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    @property
    def script(self) -> Script:
        assert isinstance(self.server, _HTTPServer)
        return self.server.script

    def _serve(self) -> None:
        script = self.script
        body = self._chunks() if self.headers.get("transfer-encoding") else self._body()
        seen = Seen(self.command, self.path, self.headers, body, self.client_address)  # type: ignore[arg-type]
        script.seen.append(seen)
        script.arrived.set()
        script.next()(self)

    def log_message(self, *args: Any) -> None:
        pass

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = Script()
        self._connections: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, client = super().get_request()
        self._connections.append(connection)
        return connection, client

    def hang_up(self) -> None:
        """The connections that clients keep alive: some close theirs only when they are collected."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *args: Any) -> None:
        """A client that goes away is what the tests are about."""


class Server:
    """`server.will(...)` says what it does from now on, `server.seen` what arrived."""

    def __init__(self) -> None:
        self._http = _HTTPServer()
        self.script = self._http.script
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def will(self, *answers: Callable[[Handler], None]) -> None:
        self.script.answers = deque(answers)

    @property
    def seen(self) -> list[Seen]:
        return self.script.seen

    @property
    def arrived(self) -> threading.Event:
        """Set by the first request."""
        return self.script.arrived

    @property
    def connections(self) -> int:
        """How many connections the requests came on."""
        return len({seen.connection for seen in self.seen})

    def close(self) -> None:
        self.script.over.set()
        self._http.shutdown()
        self._http.hang_up()
        self._http.server_close()
        self._thread.join()

    @staticmethod
    def answer(status: int, body: bytes = b"hello", **headers: str) -> Callable[[Handler], None]:
        def do(handler: Handler) -> None:
            handler.send_response(status)
            for name, value in {"Content_Length": str(len(body)), **headers}.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()
            if handler.command != "HEAD":
                handler.wfile.write(body)

        return do

    @classmethod
    def zipped(cls, status: int, body: bytes) -> Callable[[Handler], None]:
        return cls.answer(status, gzip.compress(body), Content_Encoding="gzip")

    @staticmethod
    def chunked(*parts: bytes) -> Callable[[Handler], None]:
        def do(handler: Handler) -> None:
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            for part in (*parts, b""):
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

        return do

    @staticmethod
    def hang(handler: Handler) -> None:
        """No answer."""
        handler.close_connection = True
        handler.script.over.wait()

    @staticmethod
    def drop(handler: Handler) -> None:
        """Take the request, and close the connection."""
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def cut(handler: Handler) -> None:
        """Half an answer, and close the connection."""
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"half")
        Server.drop(handler)

    @staticmethod
    def trickle(handler: Handler) -> None:
        """An answer that never ends, in parts that come faster than any read timeout."""
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        while not handler.script.over.wait(0.02):
            handler.wfile.write(b".")

    @staticmethod
    def flood(handler: Handler) -> None:
        """An answer that never ends, as fast as it can be read."""
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000000")
        handler.end_headers()
        while not handler.script.over.is_set():
            handler.wfile.write(b"." * 16)

    @staticmethod
    def stall_late(handler: Handler) -> None:
        """Half a body after 0.4 seconds, then nothing."""
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Length", "10")
        handler.end_headers()
        handler.script.over.wait(0.4)
        handler.wfile.write(b"half")
        handler.script.over.wait()

    @staticmethod
    def trickle_in_a_chunk(handler: Handler) -> None:
        """The same in a chunk that never ends, zipped: a reader of whole chunks or of whole blocks gets nothing."""
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(b"100000\r\n")
        for byte in gzip.compress(random.randbytes(100_000)):
            if handler.script.over.wait(0.02):
                return
            handler.wfile.write(bytes([byte]))

    @staticmethod
    def late(seconds: float, **headers: str) -> Callable[[Handler], None]:
        """Headers at once, the body after a while."""

        def do(handler: Handler) -> None:
            handler.send_response(200)
            for name, value in {"Content-Length": "4", **headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.script.over.wait(seconds)
            handler.wfile.write(b"late")

        return do

    @staticmethod
    def stall(handler: Handler) -> None:
        """Headers and half a body, then nothing."""
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Length", "10")
        handler.end_headers()
        handler.wfile.write(b"half")
        handler.script.over.wait()


class Waits(list[float]):
    """The waits that a guard was about to sleep, and did not."""

    def sync(self, seconds: float) -> None:
        self.append(seconds)

    async def asynchronous(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def refusing() -> Iterator[str]:
    """Where connections are refused: the port is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """Where connections are neither made nor refused: there is room for one, and it is taken."""
    with socket.socket() as listening, socket.socket() as first:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        first.connect(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def make_guard(waits: Waits) -> Callable[..., Guard]:
    """A guard of three attempts that does not sleep between them; anything can be said otherwise."""

    def make(**settings: Any) -> Guard:
        defaults: dict[str, Any] = {
            "timeout": 5.0,
            "budget": None,
            "breaker": None,
            "backoff": Backoff(initial=0.001),
            "sleep": waits.sync,
            "async_sleep": waits.asynchronous,
        }
        return Guard("auth", **{**defaults, **settings})

    return make
