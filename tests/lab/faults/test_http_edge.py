"""HTTP edges with a real client and server."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from shoal_lab.faults import Fault, FaultProxy

ProxyTo = Callable[..., Awaitable[FaultProxy]]
Eventually = Callable[..., Awaitable[None]]
HttpTarget = Any
"""The server of conftest.py."""

ERRORS = Fault(kind="errors")
MEGABYTE = 2**20


@pytest.fixture
async def edge(proxy_to: ProxyTo, http_target: HttpTarget) -> FaultProxy:
    return await proxy_to(http_target.address, protocol="http")


@pytest.fixture
async def client(edge: FaultProxy) -> AsyncIterator[httpx.AsyncClient]:
    """Keeps its connections alive, and waits half a second."""
    address = f"http://{edge.address[0]}:{edge.address[1]}"
    async with httpx.AsyncClient(base_url=address, timeout=0.5, trust_env=False) as client:
        yield client


async def test_each_request_fails_and_none_reaches_the_target(
    edge: FaultProxy, client: httpx.AsyncClient, http_target: HttpTarget
) -> None:
    edge.inject(ERRORS)

    answers = [await client.get("/1"), await client.post("/2", content=b"body"), await client.head("/3")]

    assert [(answer.status_code, answer.reason_phrase) for answer in answers] == [(503, "Service Unavailable")] * 3
    assert answers[0].json() == answers[1].json() == {"error": "injected by the lab"}
    assert answers[0].headers["content-type"] == "application/json"
    assert answers[2].content == b""
    assert http_target.requests == []
    assert (edge.counters.connections, edge.counters.requests, edge.counters.injected) == (1, 3, 3)


async def test_a_connection_that_stands_suffers_and_recovers_with_the_edge(
    edge: FaultProxy, client: httpx.AsyncClient, http_target: HttpTarget
) -> None:
    statuses = []
    for change in (edge.clear, lambda: edge.inject(ERRORS), edge.clear):
        change()
        statuses.append((await client.get("/7")).status_code)

    assert statuses == [200, 503, 200]
    assert http_target.requests == ["GET /7", "GET /7"]
    assert edge.counters.connections == 1


async def test_a_share_of_requests_fails_and_the_others_on_the_same_connection_do_not(
    edge: FaultProxy, client: httpx.AsyncClient, http_target: HttpTarget
) -> None:
    edge.inject(Fault(kind="errors", share=0.3))

    answers = [await client.post(f"/path-{number}", content=b"%d" % number) for number in range(100)]

    chosen = random.Random(1)  # the seed of the fixture's proxies
    expected = [503 if chosen.random() < 0.3 else 200 for _ in range(100)]
    assert [answer.status_code for answer in answers] == expected
    passed = [number for number, status in enumerate(expected) if status == 200]
    assert http_target.requests == [f"POST /path-{number}" for number in passed]
    assert [answers[number].content for number in passed] == [b"%d" % number for number in passed]
    assert edge.counters.injected == expected.count(503)
    assert edge.counters.connections == 1


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
@pytest.mark.parametrize("failing", [False, True])
async def test_bodies_of_five_megabytes_pass_or_are_dropped_whole(
    edge: FaultProxy, client: httpx.AsyncClient, http_target: HttpTarget, framing: str, *, failing: bool
) -> None:
    body = random.Random(1).randbytes(5 * MEGABYTE)

    async def chunks() -> AsyncIterator[bytes]:
        for begin in range(0, len(body), 50_000):
            yield body[begin : begin + 50_000]

    if failing:
        edge.inject(ERRORS)
    answer = await client.post("/", content=chunks() if framing == "chunked" else body, timeout=10.0)

    assert answer.status_code == (503 if failing else 200)
    assert failing or answer.content == body
    assert len(http_target.requests) == (0 if failing else 1)
    edge.clear()
    assert len((await client.get(f"/{5 * MEGABYTE}", timeout=10.0)).content) == 5 * MEGABYTE
    assert edge.counters.connections == 1


async def test_pipelined_requests_are_answered_in_order_though_the_target_takes_its_time(
    edge: FaultProxy, http_target: HttpTarget, eventually: Eventually
) -> None:
    edge.inject(Fault(kind="errors", share=0.5))
    chosen = random.Random(1)
    expected = [b"HTTP/1.1 503 " if chosen.random() < 0.5 else b"HTTP/1.1 200 " for _ in range(8)]
    assert expected[:3] == [b"HTTP/1.1 503 ", b"HTTP/1.1 200 ", b"HTTP/1.1 200 "]
    http_target.go_on.clear()

    reader, writer = await asyncio.open_connection(*edge.address)
    for number in range(8):
        close = b"Connection: close\r\n" * (number == 7)
        writer.write(b"GET /%d HTTP/1.1\r\nHost: balance\r\n%s\r\n" % (number, close))
    await eventually(lambda: edge.counters.requests == 8)
    http_target.go_on.set()
    async with asyncio.timeout(2.0):
        answered = await reader.read()
    writer.close()
    await writer.wait_closed()

    statuses = [b"HTTP/1.1 " + part[:4] for part in answered.split(b"HTTP/1.1 ")[1:]]
    assert statuses == expected


async def test_who_asks_before_sending_a_body_can_go_on_using_the_connection(
    edge: FaultProxy, http_target: HttpTarget
) -> None:
    reader, writer = await asyncio.open_connection(*edge.address)

    async def post(body: bytes) -> tuple[bytes, bytes]:
        writer.write(b"POST /lock HTTP/1.1\r\nHost: wallet\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        async with asyncio.timeout(2.0):
            interim = await reader.readuntil(b"\r\n\r\n")
            writer.write(body)
            final = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(final.partition(b"content-length: ")[2].split(b"\r\n")[0]))
        return interim.split(b"\r\n")[0], final.split(b"\r\n")[0]

    edge.inject(ERRORS)
    assert await post(b"lock") == (b"HTTP/1.1 100 Continue", b"HTTP/1.1 503 Service Unavailable")
    edge.clear()
    interim, final = await post(b"lock")
    assert interim.startswith(b"HTTP/1.1 100")
    assert final.startswith(b"HTTP/1.1 200")
    assert http_target.requests == ["POST /lock"]
    writer.close()
    await writer.wait_closed()


async def test_who_wants_no_further_request_sees_the_connection_closed(
    edge: FaultProxy, client: httpx.AsyncClient, eventually: Eventually
) -> None:
    edge.inject(ERRORS)

    answer = await client.get("/", headers={"connection": "close"})

    assert (answer.status_code, answer.headers["connection"]) == (503, "close")
    await eventually(lambda: edge.connections == 0)


async def test_whoever_reads_the_connection_to_its_end_hears_a_last_refusal(edge: FaultProxy) -> None:
    edge.inject(ERRORS)
    with socket.create_connection(edge.address) as caller:
        caller.settimeout(2.0)
        caller.sendall(b"GET / HTTP/1.0\r\n\r\n")

        def read() -> bytes:
            return b"".join(iter(lambda: caller.recv(65_536), b""))

        assert (await asyncio.to_thread(read)).endswith(b'{"error": "injected by the lab"}')


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        pytest.param(Fault(kind="down"), httpx.NetworkError, id="down"),
        pytest.param(Fault(kind="hang"), httpx.ReadTimeout, id="hang"),
        pytest.param(Fault(kind="slow", latency=5.0), httpx.ReadTimeout, id="slow"),
    ],
)
@pytest.mark.parametrize("warm", [False, True], ids=["first connection", "connection that stands"])
async def test_a_client_fails_as_it_would_with_the_real_thing_and_recovers(
    edge: FaultProxy, client: httpx.AsyncClient, fault: Fault, failure: type[Exception], *, warm: bool
) -> None:
    if warm:
        assert (await client.get("/1")).status_code == 200

    edge.inject(fault)
    with pytest.raises(failure):
        await client.get("/2")
    edge.clear()

    assert (await client.get("/3")).status_code == 200


async def test_a_request_on_its_way_is_lost_when_the_edge_goes_down(
    edge: FaultProxy, client: httpx.AsyncClient, http_target: HttpTarget, eventually: Eventually
) -> None:
    http_target.go_on.clear()
    request = asyncio.create_task(client.get("/1", timeout=5.0))
    await eventually(lambda: http_target.requests)

    edge.inject(Fault(kind="down"))

    with pytest.raises(httpx.ReadError):
        await request
