"""A service that runs on an event loop in a thread of its own, probed over HTTP from the test's thread."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from shoal import Service


class Running:
    """A running service: `get` probes it, `loop` is where it runs, `leave` ends it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.loop = asyncio.new_event_loop()
        self._sock = socket.socket()
        self._sock.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._sock.getsockname()
        self._up = threading.Event()
        self._leave = asyncio.Event()
        self._thread = threading.Thread(target=self.loop.run_until_complete, args=(self._run(),))
        self._thread.start()
        assert self._up.wait(5)

    async def _run(self) -> None:
        async with self.service.running(sock=self._sock):
            self._up.set()
            await self._leave.wait()

    def get(self, path: str) -> tuple[int, Any]:
        """Status and body of a probe; the body as JSON where it is JSON."""
        connection = HTTPConnection(*self.address, timeout=5)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, json.loads(body) if "json" in response.headers["Content-Type"] else body.decode()

    def leave(self) -> None:
        """End it, and wait for the end."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._leave.set)
            self._thread.join()
            self.loop.close()


@pytest.fixture
def run() -> Iterator[Callable[[Service], Running]]:
    """Runs services until the test is over."""
    running: list[Running] = []

    def start(service: Service) -> Running:
        running.append(Running(service))
        return running[-1]

    yield start
    for one in running:
        one.leave()
