"""Fixtures for tests of the fault proxies: proxies that are stopped and leave nothing behind, and real targets."""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import h11
import pytest

from shoal_lab.faults import FaultProxy, Protocol

Address = tuple[str, int]
Eventually = Callable[..., Awaitable[None]]
ProxyTo = Callable[..., Awaitable[FaultProxy]]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Server = Callable[[Serve], Awaitable[Address]]


@pytest.fixture
def eventually() -> Eventually:
    """`await eventually(condition, within=5.0)`: poll until it holds, fail the test if it does not in time."""

    async def wait(condition: Callable[[], object], *, within: float = 5.0) -> None:
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, f"not within {within} s"
            await asyncio.sleep(0.005)

    return wait


@pytest.fixture
async def nothing_leaks(eventually: Eventually) -> AsyncIterator[None]:
    """Fails a test that leaves a file descriptor or a task behind."""

    def descriptors() -> int:
        return sum(1 for _ in Path(f"/proc/{os.getpid()}/fd").iterdir())

    before = descriptors()
    yield
    await eventually(lambda: descriptors() <= before)
    await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})


@pytest.fixture
async def proxy_to(nothing_leaks: None) -> AsyncIterator[ProxyTo]:
    """`await proxy_to(target, protocol="tcp", seed=1)`: a started proxy, stopped within a second after the test."""
    proxies: list[FaultProxy] = []

    async def start(target: Address, *, protocol: Protocol = "tcp", seed: int = 1) -> FaultProxy:
        proxy = FaultProxy("wallet/0 -> auth", target, protocol=protocol, rng=random.Random(seed))
        proxies.append(proxy)
        await proxy.start()
        return proxy

    yield start
    async with asyncio.timeout(1.0):
        for proxy in proxies:
            await proxy.stop()
            assert proxy.connections == 0


@pytest.fixture
async def server(nothing_leaks: None) -> AsyncIterator[Server]:
    """`await server(serve)`: the address of a server that awaits `serve(reader, writer)` for each connection."""
    async with AsyncExitStack() as stack:
        open_now: set[asyncio.Task[None]] = set()

        async def listen(serve: Serve) -> Address:
            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    await serve(reader, writer)
                except (ConnectionError, asyncio.CancelledError):
                    pass
                finally:
                    writer.transport.abort()

            def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.create_task(connected(reader, writer))
                open_now.add(task)
                task.add_done_callback(open_now.discard)

            listener = await asyncio.start_server(accepted, "127.0.0.1", 0, backlog=512)
            stack.callback(listener.close)
            host, port = listener.sockets[0].getsockname()
            return host, port

        yield listen
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now)


@pytest.fixture
async def echo(server: Server) -> Address:
    """A server that sends back what it gets, then `bye` after the end of the stream."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.write(b"bye")
        writer.write_eof()
        await writer.drain()

    return await server(serve)


class HttpTarget:
    """What an HTTP server got, and how to reach it. It answers each body with itself; GET /SIZE with so many bytes."""

    def __init__(self) -> None:
        self.address: Address = ("", 0)
        self.requests: list[str] = []
        self.go_on = asyncio.Event()
        """Set from the beginning; while it is clear, requests are read and not answered."""
        self.go_on.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if connection.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    writer.write(connection.send(go_on) or b"")
                connection.receive_data(await reader.read(65_536))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                path = request.target.decode()
                self.requests.append(f"{request.method.decode()} {path}")
                await self.go_on.wait()
                answer = b"x" * int(path[1:]) if path[1:].isdigit() else bytes(body)
                headers = [("content-length", str(len(answer))), ("x-path", path)]
                for part in (h11.Response(status_code=200, headers=headers), h11.Data(answer), h11.EndOfMessage()):
                    if request.method != b"HEAD" or not isinstance(part, h11.Data):
                        writer.write(connection.send(part) or b"")
                await writer.drain()
                if connection.our_state is h11.MUST_CLOSE:
                    return
                body.clear()
                connection.start_next_cycle()
            else:
                return


@pytest.fixture
async def http_target(server: Server) -> HttpTarget:
    """A small HTTP server."""
    target = HttpTarget()
    target.address = await server(target.serve)
    return target
