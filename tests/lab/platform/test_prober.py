import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from shoal.kubernetes import ProbeOutcome
from shoal_lab.platform.ports import reserve
from shoal_lab.platform.prober import ProbeReport, http_probe

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]


@asynccontextmanager
async def server(handle: Handle) -> AsyncIterator[str]:
    """A raw server that hands each connection's request head to *handle*; yields its URL."""
    open_connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_connections.add(task)
        try:
            await handle(reader, writer, await reader.readuntil(b"\r\n\r\n"))
            await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            open_connections.discard(task)

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = running.sockets[0].getsockname()
    yield f"http://{host}:{port}"
    running.close()
    for task in list(open_connections):
        task.cancel()
    await asyncio.gather(*open_connections, return_exceptions=True)
    await running.wait_closed()


def answering(status: int, *headers: str, body: bytes = b"ok") -> Handle:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)

    return handle


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, ProbeOutcome.SUCCESS),
        (204, ProbeOutcome.SUCCESS),
        (299, ProbeOutcome.SUCCESS),
        (304, ProbeOutcome.WARNING),
        (399, ProbeOutcome.WARNING),
        (400, ProbeOutcome.FAILURE),
        (500, ProbeOutcome.FAILURE),
        (503, ProbeOutcome.FAILURE),
    ],
)
async def test_a_status_from_200_to_399_is_success(status: int, outcome: ProbeOutcome) -> None:
    async with server(answering(status, body=b"" if status in (204, 304) else b"why")) as url:
        report = await http_probe(url, timeout=5.0)

    assert report.outcome is outcome


async def test_a_failure_says_the_status_and_what_the_endpoint_said() -> None:
    async with server(answering(500, body=b'{"available": {"auth": false}}')) as url:
        report = await http_probe(url + "/readyz", timeout=5.0)

    assert report.detail == "HTTP probe failed with statuscode: 500"
    assert report.body == '{"available": {"auth": false}}'


def test_a_report_reads_as_one_line_of_bounded_length() -> None:
    assert str(ProbeReport(ProbeOutcome.FAILURE, "no answer within 1 s")) == "no answer within 1 s"
    assert str(ProbeReport(ProbeOutcome.FAILURE, "HTTP 500", '{\n  "auth": false\n}')) == 'HTTP 500: { "auth": false }'
    assert len(str(ProbeReport(ProbeOutcome.FAILURE, "HTTP 500", "x" * 10_000))) == len("HTTP 500: ") + 160


async def test_the_request_is_the_kubelets() -> None:
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        heads.append(head)
        await answering(200)(reader, writer, head)

    async with server(handle) as url:
        await http_probe(url + "/readyz?deep=1", timeout=5.0)
        await http_probe(url + "/readyz?deep=1", timeout=5.0)

    assert len(heads) == 2
    request, *headers = heads[0].decode().strip().split("\r\n")
    assert request == "GET /readyz?deep=1 HTTP/1.1"
    assert {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in headers} == {
        "host": url.removeprefix("http://"),
        "user-agent": "kube-probe/1.36",
        "accept": "*/*",
        "connection": "close",
    }


async def test_an_address_where_nobody_listens_is_a_failure() -> None:
    with reserve() as reservation:
        report = await http_probe(f"http://{reservation}/readyz", timeout=5.0)

    assert report.outcome is ProbeOutcome.FAILURE
    assert "refused" in report.detail


async def test_a_server_that_says_no_http_is_a_failure() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")

    async with server(handle) as url:
        assert (await http_probe(url, timeout=5.0)).outcome is ProbeOutcome.FAILURE


async def test_a_connection_closed_without_an_answer_is_a_failure() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        pass

    async with server(handle) as url:
        report = await http_probe(url, timeout=5.0)

    assert (report.outcome, report.detail) == (ProbeOutcome.FAILURE, "ServerDisconnectedError: Server disconnected")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_the_timeout_covers_connection_headers_and_body(said: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.write(said)
        await reader.read()

    async with server(handle) as url:
        report = await http_probe(url, timeout=0.1)

    assert (report.outcome, report.detail) == (ProbeOutcome.FAILURE, "no answer within 0.1 s")


async def test_a_body_without_end_is_cut() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 1024)
            await writer.drain()

    async with server(handle) as url:
        report = await http_probe(url, timeout=5.0)

    assert report.outcome is ProbeOutcome.SUCCESS
    assert len(report.body) == 10 * 1024


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_on_the_same_host_is_followed_to_any_port(status: int) -> None:
    async with server(answering(500)) as target, server(answering(status, f"Location: {target}/x")) as url:
        report = await http_probe(url, timeout=5.0)

    assert report.outcome is ProbeOutcome.FAILURE


async def test_a_relative_redirect_is_followed() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        answer = answering(200, body=b"here") if b" /there " in head else answering(302, "Location: there")
        await answer(reader, writer, head)

    async with server(handle) as url:
        report = await http_probe(url + "/readyz", timeout=5.0)

    assert (report.outcome, report.body) == (ProbeOutcome.SUCCESS, "here")


async def test_a_redirect_to_another_host_is_a_warning_and_not_followed() -> None:
    asked: list[bytes] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        asked.append(head)

    async with server(elsewhere) as other:
        location = other.replace("127.0.0.1", "localhost")
        async with server(answering(302, f"Location: {location}")) as url:
            report = await http_probe(url, timeout=5.0)

    assert report.outcome is ProbeOutcome.WARNING
    assert asked == []


async def test_a_circle_of_redirects_is_a_failure_after_ten_requests() -> None:
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> None:
        asked.append(head)
        await answering(302, "Location: /")(reader, writer, head)

    async with server(handle) as url:
        report = await http_probe(url, timeout=5.0)

    assert (report.outcome, report.detail) == (ProbeOutcome.FAILURE, "stopped after 10 redirects")
    assert len(asked) == 10


@pytest.mark.parametrize("location", ["http://[broken", "ftp://127.0.0.1/"])
async def test_a_redirect_to_nowhere_is_a_failure(location: str) -> None:
    async with server(answering(302, f"Location: {location}")) as url:
        assert (await http_probe(url, timeout=5.0)).outcome is ProbeOutcome.FAILURE


async def test_a_redirect_without_a_target_is_a_warning() -> None:
    async with server(answering(302)) as url:
        assert (await http_probe(url, timeout=5.0)).outcome is ProbeOutcome.WARNING
