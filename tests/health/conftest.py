"""A probe server on a free port, and a client that sends exactly the bytes it is given."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from shoal.health import Answers, ProbeAnswer, ProbeServer


class Serve(Protocol):
    """Starts a server with these answers and settings."""

    def __call__(self, answers: Answers, *, client_timeout: float = 2.0, max_clients: int = 64) -> ProbeServer: ...


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[ProbeServer] = []

    def start(answers: Answers, *, client_timeout: float = 2.0, max_clients: int = 64) -> ProbeServer:
        server = ProbeServer(answers, host="127.0.0.1", port=0, client_timeout=client_timeout, max_clients=max_clients)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def say() -> Callable[[ProbeServer, bytes], bytes]:
    """Connect, send, and read until the server closes."""

    def exchange(server: ProbeServer, request: bytes) -> bytes:
        with socket.create_connection(server.address, timeout=5) as client:
            client.sendall(request)
            return b"".join(iter(lambda: client.recv(65536), b""))

    return exchange


@pytest.fixture
def live() -> Answers:
    """Answers that know `/livez` and echo the path they were asked for."""

    def answers(path: str) -> ProbeAnswer | None:
        return ProbeAnswer.of(200, {"path": path}) if path.startswith("/livez") else None

    return answers
