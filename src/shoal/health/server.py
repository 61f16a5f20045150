"""The probe server: answers from memory on a thread of its own, so that a busy event loop cannot fail a probe."""

from __future__ import annotations

import socket
import threading

from shoal._clock import SYSTEM_CLOCK, Clock

from .serving import Answers, Serving

_BACKLOG = 128


class ProbeServer:
    """Serves *answers* over HTTP on its own thread: GET and HEAD, one answer per connection.

    *answers* is called on that thread and must not wait; an answer that takes time comes as a future, and others are
    served meanwhile. An exception it raises is logged and answered with 500. Listens on *host* and *port* (0 chooses
    one), or on *sock*, a bound socket, which is its own from then on. A client has *client_timeout* seconds from
    connecting to the end; above *max_clients* the one connected longest is dropped, so that slow or many clients do not
    keep a prompt one out. Only for probes: no TLS, no keep-alive, no bodies. Raises ValueError unless both limits are
    above 0.

    >>> from shoal.health import ProbeAnswer
    >>> server = ProbeServer(lambda path: ProbeAnswer.of(200, {"live": True}), host="127.0.0.1", port=0)
    >>> server.start()
    >>> with socket.create_connection(server.address) as client:
    ...     client.sendall(b"GET /livez HTTP/1.0\\r\\n\\r\\n")
    ...     client.makefile("rb").read().split(b"\\r\\n\\r\\n")[1]
    b'{"live": true}\\n'
    >>> server.stop()
    """

    def __init__(
        self,
        answers: Answers,
        *,
        host: str = "0.0.0.0",
        port: int = 8081,
        sock: socket.socket | None = None,
        client_timeout: float = 2.0,
        max_clients: int = 64,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if client_timeout <= 0 or max_clients < 1:
            raise ValueError(f"client_timeout and max_clients must be above 0, got {client_timeout} and {max_clients}")
        self._answers = answers
        self._host = host
        self._port = port
        self._sock = sock
        self._client_timeout = client_timeout
        self._max_clients = max_clients
        self._clock = clock
        self._serving: Serving | None = None
        self._thread: threading.Thread | None = None
        self._address: tuple[str, int] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on, or did last. Raises RuntimeError when it was never started."""
        if self._address is None:
            raise RuntimeError("the probe server has no address yet; call start() first")
        return self._address

    def start(self) -> None:
        """Listen; when it returns, connections are accepted.

        Raises OSError with the address in its message when that is not possible, and RuntimeError when the server runs
        already or the socket it was given has been closed by `stop`.
        """
        if self._thread is not None:
            raise RuntimeError("the probe server is running; call stop() before starting it again")
        listener = self._listen()
        self._address = listener.getsockname()[:2]
        self._serving = Serving(
            listener,
            self._answers,
            client_timeout=self._client_timeout,
            max_clients=self._max_clients,
            clock=self._clock,
        )
        # A daemon: a process that fails to stop it should still be able to end.
        self._thread = threading.Thread(target=self._serving.run, name="shoal-probes", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection, and wait for the thread to end. Does nothing when it does not run."""
        if self._serving is not None and self._thread is not None:
            self._serving.stop()
            self._thread.join()
            self._serving = self._thread = None

    def _listen(self) -> socket.socket:
        if self._sock is not None and self._sock.fileno() < 0:
            raise RuntimeError("the socket given as sock= is closed; make a new ProbeServer with a new one")
        try:
            if self._sock is not None:
                self._sock.listen(_BACKLOG)
                return self._sock
            return socket.create_server(
                (self._host, self._port),
                family=socket.AF_INET6 if ":" in self._host else socket.AF_INET,
                backlog=_BACKLOG,
                dualstack_ipv6=self._host == "::" and socket.has_dualstack_ipv6(),
            )
        except OSError as error:
            where = f"{self._host}:{self._port}" if self._sock is None else "the socket given as sock="
            # create_server appends the address in words of its own.
            why = str(error.strerror or error).partition(" (while")[0]
            raise OSError(
                error.errno, f"probes cannot be served on {where}: {why}; free the port, or choose another with port="
            ) from error
