"""The probe server's loop: one thread, one selector, many clients, none of which can hold up another."""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Literal

from shoal._clock import Clock

from .answer import ProbeAnswer
from .request import Request, parse, response

log = logging.getLogger(__name__)

Answers = Callable[[str], "ProbeAnswer | Future[ProbeAnswer] | None"]
"""Given a path with its query: the answer, or one to come, or `None` for a path that is not known."""

_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE = 0.1
_ACCEPTS_IN_A_ROW = 32
_LONGEST_REST = 65536


class _Client:
    """One connection. It is read, perhaps waits for its answer, is written, and lingers until the other side closes."""

    __slots__ = ("deadline", "head_only", "received", "sock", "state", "unsent")

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.deadline = deadline
        self.state: Literal["reading", "waiting", "writing", "lingering"] = "reading"
        self.received = bytearray()
        self.head_only = False
        self.unsent = memoryview(b"")


class Serving:
    """Everything the thread of a `ProbeServer` works with; only `wake`, `stop` and the futures come from elsewhere."""

    def __init__(
        self, listener: socket.socket, answers: Answers, *, client_timeout: float, max_clients: int, clock: Clock
    ) -> None:
        self._listener = listener
        self._answers = answers
        self._client_timeout = client_timeout
        self._max_clients = max_clients
        self._clock = clock
        # In the order of connecting, and so of their deadlines.
        self._clients: dict[_Client, None] = {}
        self._settled: deque[tuple[_Client, Future[ProbeAnswer]]] = deque()
        self._paused_until: float | None = None
        self._stopping = False
        self._waker, self._wakened = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for sock in (listener, self._waker, self._wakened):
            sock.settimeout(0)
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._wakened, selectors.EVENT_READ)

    def stop(self) -> None:
        """Let `run` return soon."""
        self._stopping = True
        self._wake()

    def run(self) -> None:
        """Serve until `stop`, then close everything, the listener included."""
        try:
            while not self._stopping:
                self._turn()
        except BaseException:
            log.critical("the probe server stops answering", exc_info=True)
            raise
        finally:
            for client in list(self._clients):
                self._drop(client)
            self._selector.close()
            for sock in (self._listener, self._waker, self._wakened):
                sock.close()

    def _wake(self) -> None:
        # Full means it is about to wake anyway; closed means there is nobody to wake.
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._patience()):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._wakened:
                with contextlib.suppress(BlockingIOError):
                    self._wakened.recv(4096)
            elif key.data in self._clients:
                # Those dropped earlier in this turn are passed over.
                self._go_on(key.data)
        while self._settled:
            client, future = self._settled.popleft()
            if client in self._clients:
                self._reply(client, self._result(future))
        now = self._clock.now()
        for client in list(self._clients):
            if client.deadline > now:
                break
            self._drop(client)
        if self._paused_until is not None and self._paused_until <= now:
            self._paused_until = None
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _patience(self) -> float | None:
        moments = [client.deadline for client in self._clients][:1]
        if self._paused_until is not None:
            moments.append(self._paused_until)
        return max(0.0, min(moments) - self._clock.now()) if moments else None

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_IN_A_ROW):
            try:
                sock, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    self._make_room()
                    return
                # The client went away before it was accepted.
                continue
            sock.settimeout(0)
            if len(self._clients) >= self._max_clients:
                self._drop(next(iter(self._clients)))
            client = _Client(sock, self._clock.now() + self._client_timeout)
            self._clients[client] = None
            self._selector.register(sock, selectors.EVENT_READ, client)
            # A prompt client has sent its request by now, and is served before the next can push it out.
            self._go_on(client)

    def _make_room(self) -> None:
        if self._clients:
            self._drop(next(iter(self._clients)))
        else:
            # The descriptors are held by others; without a pause the waiting connection would keep this loop spinning.
            self._selector.unregister(self._listener)
            self._paused_until = self._clock.now() + _PAUSE

    def _go_on(self, client: _Client) -> None:
        try:
            if client.state == "reading":
                self._read(client)
            elif client.state == "writing":
                self._write(client)
            elif client.state == "lingering":
                self._discard(client)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
        except Exception:
            log.exception("a probe's connection is dropped")
            self._drop(client)

    def _read(self, client: _Client) -> None:
        chunk = client.sock.recv(4096)
        if not chunk:
            self._drop(client)
            return
        client.received += chunk
        request = parse(bytes(client.received))
        if isinstance(request, ProbeAnswer):
            self._reply(client, request)
        elif isinstance(request, Request):
            client.head_only = request.head_only
            self._ask(client, request.path)

    def _ask(self, client: _Client, path: str) -> None:
        try:
            answer = self._answers(path)
        except BaseException as error:
            # Not even SystemExit may end this thread: every probe after it would find nobody.
            log.exception("no answer to a probe of %s", path.partition("?")[0])
            answer = _failure(error)
        if answer is None:
            answer = ProbeAnswer.of(404, {"error": "there is no such probe"})
        if isinstance(answer, ProbeAnswer):
            self._reply(client, answer)
            return
        client.state = "waiting"
        self._selector.unregister(client.sock)

        def settle(future: Future[ProbeAnswer]) -> None:
            self._settled.append((client, future))
            self._wake()

        answer.add_done_callback(settle)

    @staticmethod
    def _result(future: Future[ProbeAnswer]) -> ProbeAnswer:
        try:
            return future.result(timeout=0)
        except BaseException as error:
            log.exception("no answer to a probe")
            return _failure(error)

    def _reply(self, client: _Client, answer: ProbeAnswer) -> None:
        client.unsent = memoryview(response(answer, head_only=client.head_only))
        if client.state == "waiting":
            self._selector.register(client.sock, selectors.EVENT_WRITE, client)
        else:
            self._selector.modify(client.sock, selectors.EVENT_WRITE, client)
        client.state = "writing"
        self._go_on(client)

    def _write(self, client: _Client) -> None:
        client.unsent = client.unsent[client.sock.send(client.unsent) :]
        if client.unsent:
            return
        # Closing now, with something of the client's unread, would reset the connection and lose the answer.
        client.sock.shutdown(socket.SHUT_WR)
        client.received.clear()
        client.state = "lingering"
        self._selector.modify(client.sock, selectors.EVENT_READ, client)

    def _discard(self, client: _Client) -> None:
        chunk = client.sock.recv(4096)
        client.received += chunk
        if not chunk or len(client.received) > _LONGEST_REST:
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        del self._clients[client]
        if client.state != "waiting":
            self._selector.unregister(client.sock)
        client.sock.close()


def _failure(error: BaseException) -> ProbeAnswer:
    return ProbeAnswer.of(500, {"error": f"the probe could not be answered: {type(error).__name__}"})
