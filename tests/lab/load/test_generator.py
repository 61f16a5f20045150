"""The load is an open loop against a real server, and every kind of answer is noted as what it was."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from shoal_lab.errors import UsageError
from shoal_lab.load import Arrival, Errand, Lateness, LoadGenerator, schedule
from shoal_lab.record import Sample

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Answer], Awaitable[str]]
Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

FEES = Arrival(0.0, "fees")


async def ok(request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def hang(request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def one_sample(url: str, *, patience: float = 5.0) -> Sample:
    (sample,) = await LoadGenerator(url, {}, patience=patience).run([FEES])
    return sample


async def one_sample_of_bytes(say: Say, *, patience: float = 5.0) -> Sample:
    """What becomes of a request to a server that reads it and then does what *say* does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await say(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        return await one_sample(f"http://{host}:{port}", patience=patience)


async def test_each_journey_sends_its_request_with_the_customers_token(serve: Serve) -> None:
    seen: list[tuple[str, str, str | None]] = []

    async def note(request: web.Request) -> web.Response:
        seen.append((request.method, request.path, request.headers.get("Authorization")))
        return web.Response(text="ok")

    visits = [
        Arrival(0.0, "view-balance", "user-0001"),
        Arrival(0.01, "lock-account", "new-0001"),
        Arrival(0.02, "fees"),
    ]
    generator = LoadGenerator(await serve(note), {"user-0001": "one", "new-0001": "two"})
    samples = await generator.run(visits)

    assert sorted(seen, key=str) == [
        ("GET", "/balance", "Bearer one"),
        ("GET", "/fees", None),
        ("POST", "/account/lock", "Bearer two"),
    ]
    assert [(sample.journey, sample.at, sample.status) for sample in samples] == [
        ("view-balance", 0.0, 200),
        ("lock-account", 0.01, 200),
        ("fees", 0.02, 200),
    ]


async def test_nobody_waits_for_the_answer_of_somebody_else(serve: Serve) -> None:
    """The server answers nobody before all 150 are there: a closed loop, or a connection limit, would stand still."""
    number, last = 150, 0.3
    waiting = 0
    all_there = asyncio.Event()

    async def together(request: web.Request) -> web.Response:
        nonlocal waiting
        waiting += 1
        if waiting == number:
            all_there.set()
        await all_there.wait()
        return web.Response(text="ok")

    visits = [Arrival(last * index / (number - 1), "fees") for index in range(number)]
    samples = await LoadGenerator(await serve(together), {}).run(visits)

    assert {sample.status for sample in samples} == {200}
    assert all(sample.latency >= last - sample.at for sample in samples)


async def test_latency_counts_from_the_moment_the_request_was_due(serve: Serve) -> None:
    """Half a second late is half a second slow, whatever the server did: no coordinated omission."""
    url = await serve(ok)
    generator = LoadGenerator(url, {})

    (sample,) = await generator.run([FEES], start=asyncio.get_running_loop().time() - 0.5)

    assert 0.5 <= sample.latency < 2.0
    assert generator.lateness.p99 >= 0.5


async def test_a_stalled_loop_shows_in_the_lateness(serve: Serve) -> None:
    generator = LoadGenerator(await serve(ok), {})
    loop = asyncio.get_running_loop()

    def stall() -> None:
        until = loop.time() + 0.2
        while loop.time() < until:
            pass

    loop.call_later(0.05, stall)
    samples = await generator.run([Arrival(0.01 * index, "fees") for index in range(30)])

    assert generator.lateness.worst >= 0.15
    assert max(sample.latency for sample in samples) >= generator.lateness.worst


async def test_requests_are_sent_when_they_are_due(serve: Serve) -> None:
    generator = LoadGenerator(await serve(ok), {})
    loop = asyncio.get_running_loop()

    before = loop.time()
    samples = await generator.run([Arrival(0.1, "fees"), Arrival(0.3, "fees")])

    assert loop.time() - before >= 0.3
    assert all(sample.latency < 0.2 for sample in samples)
    assert 0 <= generator.lateness.median < 0.1


@pytest.mark.parametrize("status", [200, 404, 500, 503])
async def test_an_answer_is_noted_with_its_status_and_body(serve: Serve, status: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text='{"error": "Größe"}')

    sample = await one_sample(await serve(answer))

    assert (sample.status, sample.body, sample.error) == (status, '{"error": "Größe"}', "")
    assert sample.ok == (status == 200)


async def test_redirects_are_answers(serve: Serve) -> None:
    async def away(request: web.Request) -> web.Response:
        raise web.HTTPFound("/elsewhere")

    assert (await one_sample(await serve(away))).status == 302


async def test_of_a_long_body_the_first_2000_characters_are_kept(serve: Serve) -> None:
    text = "€" * 1_999 + "!?" + "x" * 50_000

    async def long(request: web.Request) -> web.Response:
        return web.Response(text=text)

    assert (await one_sample(await serve(long))).body == text[:2_000]


async def test_a_connection_refused_is_noted() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        host, port = bound.getsockname()

        sample = await one_sample(f"http://{host}:{port}")

    assert (sample.status, sample.error) == (None, "refused")


async def test_a_connection_that_cannot_be_made_at_all_is_noted() -> None:
    """No route leads to a broadcast address, so the kernel says no at once."""
    sample = await one_sample("http://127.255.255.255:1")

    assert (sample.status, sample.error) == (None, "unreachable")


async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hang up without an answer."""


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A zero linger time turns the close into a TCP reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def half_an_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")


async def no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP\r\n\r\n")


@pytest.mark.parametrize(
    ("say", "error"), [(close, "reset"), (reset, "reset"), (half_an_answer, "reset"), (no_http, "garbled")]
)
async def test_a_connection_that_breaks_is_no_answer(say: Say, error: str) -> None:
    sample = await one_sample_of_bytes(say)

    assert (sample.status, sample.body, sample.error) == (None, "", error)


async def nothing_more(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def half_and_nothing_more(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await half_an_answer(reader, writer)
    await reader.read()


@pytest.mark.parametrize("say", [nothing_more, half_and_nothing_more])
async def test_customers_give_up_and_the_server_sees_them_go(say: Say) -> None:
    """The server reads until the customer hangs up: were the connection kept, this would not end."""
    gone = asyncio.Event()

    async def then_gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await say(reader, writer)
        gone.set()

    async with asyncio.timeout(5.0):
        sample = await one_sample_of_bytes(then_gone, patience=0.2)
        await gone.wait()

    assert (sample.status, sample.error) == (None, "timeout")
    assert 0.2 <= sample.latency < 1.0


async def test_the_run_ends_when_the_last_straggler_gives_up(serve: Serve) -> None:
    generator = LoadGenerator(await serve(hang), {}, patience=0.3)
    loop = asyncio.get_running_loop()

    before = loop.time()
    samples = await generator.run([Arrival(0.1 * index, "fees") for index in range(4)])

    assert loop.time() - before < 2.0
    assert [sample.error for sample in samples] == ["timeout"] * 4
    assert all(0.3 <= sample.latency < 1.0 for sample in samples)


async def test_samples_are_told_as_they_come_and_returned_as_they_were_due(serve: Serve) -> None:
    release = asyncio.Event()

    async def first_last(request: web.Request) -> web.Response:
        if request.path == "/fees":
            await release.wait()
        return web.Response(text="ok")

    told: list[str] = []

    def tell(sample: Sample) -> None:
        told.append(sample.journey)
        release.set()

    visits = [Arrival(0.0, "fees"), Arrival(0.05, "view-balance", "user-0001")]
    generator = LoadGenerator(await serve(first_last), {"user-0001": "one"})
    samples = await generator.run(visits, on_sample=tell)

    assert told == ["view-balance", "fees"]
    assert [sample.journey for sample in samples] == ["fees", "view-balance"]


async def test_a_cancelled_run_leaves_no_task_and_no_connection(serve: Serve) -> None:
    number, entered, left = 20, 0, 0
    all_in, all_out = asyncio.Event(), asyncio.Event()

    async def count(request: web.Request) -> web.Response:
        nonlocal entered, left
        entered += 1
        if entered == number:
            all_in.set()
        try:
            return await hang(request)
        finally:
            left += 1
            if left == number:
                all_out.set()

    url = await serve(count)
    generator = LoadGenerator(url, {})
    before = asyncio.all_tasks()
    told: list[Sample] = []
    visits = [*(Arrival(0.001 * index, "fees") for index in range(number)), Arrival(60.0, "fees")]
    run = asyncio.create_task(generator.run(visits, on_sample=told.append))

    async with asyncio.timeout(5.0):
        await all_in.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        left_over = [task for task in asyncio.all_tasks() - before if "RequestHandler" not in repr(task)]
        # The server cancels its handlers when their customers hang up.
        await all_out.wait()

    assert left_over == []
    assert told == []


async def test_an_error_of_the_listener_ends_the_run_at_once(serve: Serve) -> None:
    def fail(sample: Sample) -> None:
        raise RuntimeError("the disk is full")

    async with asyncio.timeout(5.0):
        with pytest.raises(ExceptionGroup) as caught:
            await LoadGenerator(await serve(ok), {}).run([FEES, Arrival(60.0, "fees")], on_sample=fail)

    assert [str(error) for error in caught.value.exceptions] == ["the disk is full"]


async def test_a_second_run_starts_afresh(serve: Serve) -> None:
    generator = LoadGenerator(await serve(ok), {})
    await generator.run([FEES], start=asyncio.get_running_loop().time() - 1.0)

    samples = await generator.run([FEES])

    assert len(samples) == 1
    assert generator.lateness.worst < 0.5


async def test_hundreds_of_customers_a_second_are_all_served(serve: Serve) -> None:
    visits = schedule({"fees": 300.0}, 1.0, seed=1)

    samples = await LoadGenerator(await serve(ok), {}).run(visits)

    assert [sample.at for sample in samples] == [visit.at for visit in visits]
    assert {sample.status for sample in samples} == {200}


@pytest.mark.parametrize(
    ("visit", "message"),
    [
        pytest.param(Arrival(0.0, "view-balances"), "unknown journey 'view-balances'.*view-balance, ", id="journey"),
        pytest.param(Arrival(0.0, "view-balance", "user-0001"), "no token for customer 'user-0001'", id="token"),
        pytest.param(Arrival(0.0, "lock-account"), "no token for customer ''", id="nobody"),
    ],
)
async def test_what_cannot_be_sent_is_said_before_anything_is(visit: Arrival, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        await LoadGenerator("http://127.0.0.1:1", {}).run([FEES, visit])


async def test_other_journeys_can_be_taught(serve: Serve) -> None:
    async def path(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.method} {request.path_qs}")

    journeys = {"recent": Errand("GET", "/activity?last=5", needs_token=False)}
    generator = LoadGenerator(await serve(path) + "/", {}, journeys=journeys)
    (sample,) = await generator.run([Arrival(0.0, "recent")])

    assert sample.body == "GET /activity?last=5"


@pytest.mark.parametrize(
    ("delays", "expected"),
    [
        pytest.param([], Lateness(0.0, 0.0, 0.0), id="none"),
        pytest.param([0.5], Lateness(0.5, 0.5, 0.5), id="one"),
        pytest.param([index / 100 for index in range(100, 0, -1)], Lateness(0.5, 0.99, 1.0), id="a hundred"),
    ],
)
def test_lateness_is_ranked(delays: list[float], expected: Lateness) -> None:
    assert Lateness.of(delays) == expected


@pytest.mark.parametrize("patience", [0.0, -1.0, float("nan")])
def test_customers_have_some_patience(patience: float) -> None:
    with pytest.raises(ValueError, match="patience must be above 0"):
        LoadGenerator("http://127.0.0.1:1", {}, patience=patience)
