import asyncio
import contextlib
import errno
import hashlib
import random
import resource
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from shoal_lab.errors import PlatformError
from shoal_lab.faults import Fault, FaultProxy
from shoal_lab.faults.link import LINE_LIMIT

Address = tuple[str, int]
Eventually = Callable[..., Awaitable[None]]
ProxyTo = Callable[..., Awaitable[FaultProxy]]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Server = Callable[[Serve], Awaitable[Address]]

DOWN, HANG = Fault(kind="down"), Fault(kind="hang")
MEGABYTE = 2**20


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(2.0):
        reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes = b"hello") -> bytes:
    writer.write(data)
    async with asyncio.timeout(2.0):
        return await reader.readexactly(len(data))


async def silent(reader: asyncio.StreamReader, *, seconds: float = 0.1) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


async def refused(address: Address) -> bool:
    try:
        async with connected(address):
            return False
    except ConnectionRefusedError:
        return True


async def reset(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(1.0):
            await reader.read()
    except ConnectionResetError:
        return True
    return False


# Sound edges.


async def test_bytes_pass_both_ways_and_are_counted(proxy_to: ProxyTo, echo: Address) -> None:
    proxy = await proxy_to(echo)

    async with connected(proxy.address) as (reader, writer):
        assert await ask(reader, writer) == b"hello"
        assert proxy.connections == 1

    assert (proxy.counters.connections, proxy.counters.bytes_from_caller, proxy.counters.bytes_from_target) == (1, 5, 5)


async def test_a_caller_may_end_its_stream_and_still_hear_the_answer(proxy_to: ProxyTo, echo: Address) -> None:
    proxy = await proxy_to(echo)

    async with connected(proxy.address) as (reader, writer):
        writer.write(b"hello")
        writer.write_eof()

        assert await reader.read() == b"hellobye"


async def test_a_target_may_end_its_stream_and_still_listen(
    proxy_to: ProxyTo, server: Server, eventually: Eventually
) -> None:
    heard = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        writer.write(b"bye")
        writer.write_eof()
        heard = await reader.read()

    proxy = await proxy_to(await server(serve))

    async with connected(proxy.address) as (reader, writer):
        assert await reader.read() == b"bye"
        writer.write(b"last words")
        writer.write_eof()
        await eventually(lambda: heard == b"last words")
        await eventually(lambda: proxy.connections == 0)


async def test_a_target_may_speak_first(proxy_to: ProxyTo, server: Server) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome")
        await reader.read()

    proxy = await proxy_to(await server(serve))

    async with connected(proxy.address) as (reader, _):
        assert await reader.readexactly(7) == b"welcome"


@pytest.mark.parametrize("who", ["caller", "target"])
async def test_a_reset_is_passed_on(proxy_to: ProxyTo, server: Server, eventually: Eventually, who: str) -> None:
    resets = 0
    accepted: list[asyncio.StreamWriter] = []

    def break_off(writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal resets
        accepted.append(writer)
        try:
            await reader.read()
        except ConnectionResetError:
            resets += 1
            raise

    proxy = await proxy_to(await server(serve))
    async with connected(proxy.address) as (reader, writer):
        await eventually(lambda: accepted)
        if who == "target":
            break_off(accepted[0])
            assert await reset(reader)
        else:
            break_off(writer)
            await eventually(lambda: resets == 1)
    await eventually(lambda: proxy.connections == 0)


async def test_a_target_that_refuses_looks_like_a_lost_connection_until_it_is_back(proxy_to: ProxyTo) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"back")
        writer.close()

    with socket.socket() as target:
        target.bind(("127.0.0.1", 0))
        proxy = await proxy_to(target.getsockname())
        async with connected(proxy.address) as (reader, _):
            assert await reset(reader)
        assert (proxy.counters.unreachable, proxy.counters.resets) == (1, 0)

        async with await asyncio.start_server(serve, sock=target), connected(proxy.address) as (reader, _):
            assert await reader.read() == b"back"
        assert proxy.counters.unreachable == 1


async def test_a_host_that_cannot_exist_is_unreachable(proxy_to: ProxyTo) -> None:
    proxy = await proxy_to(("x" * 64 + ".invalid", 80))

    async with connected(proxy.address) as (reader, _):
        assert await reset(reader)

    assert proxy.counters.unreachable == 1


# Address.


async def test_the_address_is_known_from_the_start_and_kept() -> None:
    proxy = FaultProxy("wallet/0 -> auth", ("127.0.0.1", 9), protocol="tcp", rng=random.Random(1))
    with pytest.raises(RuntimeError, match="start"):
        _ = proxy.address

    await proxy.start()
    address = proxy.address
    await proxy.start()  # does no harm
    assert proxy.address == address == ("127.0.0.1", proxy.port)

    await proxy.stop()
    await proxy.stop()
    assert await refused(address)
    await proxy.start()
    assert proxy.address == address
    assert not await refused(address)
    await proxy.stop()


async def test_a_port_taken_meanwhile_is_said(proxy_to: ProxyTo) -> None:
    proxy = await proxy_to(("127.0.0.1", 9))
    await proxy.stop()

    with socket.socket() as other:
        other.bind(proxy.address)
        with pytest.raises(PlatformError, match=f"cannot bind 127.0.0.1:{proxy.port}: Address already in use"):
            await proxy.start()


# Down.


async def test_down_resets_what_stands_refuses_what_comes_and_is_over_at_once(
    proxy_to: ProxyTo, echo: Address, eventually: Eventually
) -> None:
    proxy = await proxy_to(echo)
    address = proxy.address

    async with connected(address) as (reader, writer):
        await ask(reader, writer)
        proxy.inject(DOWN)
        assert await refused(address)
        assert await reset(reader)
        await eventually(lambda: proxy.connections == 0)

    proxy.clear()
    assert proxy.address == address
    async with connected(address) as (reader, writer):
        assert await ask(reader, writer) == b"hello"
    assert (proxy.counters.connections, proxy.counters.resets) == (2, 1)


async def test_down_resets_the_target_too(proxy_to: ProxyTo, server: Server, eventually: Eventually) -> None:
    endings: list[BaseException | bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome")
        try:
            endings.append(await reader.read())
        except ConnectionResetError as error:
            endings.append(error)

    proxy = await proxy_to(await server(serve))
    async with connected(proxy.address) as (reader, _):
        await reader.readexactly(7)
        proxy.inject(DOWN)
        await eventually(lambda: endings)

    assert isinstance(endings[0], ConnectionResetError)


async def test_while_down_the_port_is_given_to_nobody_else(proxy_to: ProxyTo) -> None:
    proxy = await proxy_to(("127.0.0.1", 9))
    proxy.inject(DOWN)

    with socket.socket() as other, pytest.raises(OSError, match="in use") as failure:
        other.bind(proxy.address)

    assert failure.value.errno == errno.EADDRINUSE


async def test_an_edge_may_be_down_before_it_starts(echo: Address) -> None:
    proxy = FaultProxy("wallet/0 -> auth", echo, protocol="tcp", rng=random.Random(1))
    proxy.inject(DOWN)
    await proxy.start()
    try:
        assert await refused(proxy.address)
        proxy.clear()
        async with connected(proxy.address) as (reader, writer):
            assert await ask(reader, writer) == b"hello"
    finally:
        await proxy.stop()


@pytest.mark.parametrize("ending", ["down", "down before the first step", "stop"])
async def test_a_connection_still_being_made_to_the_target_is_reset(
    proxy_to: ProxyTo, eventually: Eventually, ending: str
) -> None:
    """A listener whose queue is full ignores further attempts, as a machine that is gone would."""
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(socket.socket())
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        proxy = await proxy_to(deaf.getsockname())

        async with connected(proxy.address) as (reader, _):
            if ending != "down before the first step":
                await eventually(lambda: proxy.counters.connections == 1)
                assert await silent(reader)
            if ending == "stop":
                async with asyncio.timeout(0.5):
                    await proxy.stop()
            else:
                proxy.inject(DOWN)
            assert await reset(reader)


# Hang.


async def test_a_hanging_edge_accepts_and_says_nothing_and_goes_on_afterwards(proxy_to: ProxyTo, echo: Address) -> None:
    proxy = await proxy_to(echo)

    async with connected(proxy.address) as (old_reader, old_writer):
        await ask(old_reader, old_writer)
        proxy.inject(HANG)
        async with connected(proxy.address) as (new_reader, new_writer):
            old_writer.write(b"established")
            new_writer.write(b"new")
            assert await silent(old_reader)
            assert await silent(new_reader)
            assert proxy.counters.connections == 1  # the kernel has the new one, as it would for a stopped process

            proxy.clear()

            async with asyncio.timeout(1.0):
                assert await old_reader.readexactly(11) == b"established"
                assert await new_reader.readexactly(3) == b"new"


async def test_a_hanging_target_says_nothing_of_its_own_accord_either(
    proxy_to: ProxyTo, server: Server, eventually: Eventually
) -> None:
    speak, spoken = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome")
        await speak.wait()
        writer.write(b"news")
        spoken.set()
        await reader.read()

    proxy = await proxy_to(await server(serve))
    async with connected(proxy.address) as (reader, _):
        await reader.readexactly(7)
        proxy.inject(HANG)
        speak.set()
        await spoken.wait()
        assert await silent(reader)

        proxy.clear()

        async with asyncio.timeout(1.0):
            assert await reader.readexactly(4) == b"news"


async def test_streams_that_ended_one_way_freeze_and_go_on(
    proxy_to: ProxyTo, server: Server, eventually: Eventually
) -> None:
    speak = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = await reader.read()
        await speak.wait()
        writer.write(heard)

    proxy = await proxy_to(await server(serve))
    async with connected(proxy.address) as (reader, writer):
        writer.write(b"hello")
        writer.write_eof()
        await eventually(lambda: proxy.counters.bytes_from_caller == 5)
        proxy.inject(HANG)
        speak.set()
        assert await silent(reader)
        proxy.clear()

        async with asyncio.timeout(1.0):
            assert await reader.read() == b"hello"


async def test_what_a_caller_sent_before_it_gave_up_still_arrives_after_a_hang(
    proxy_to: ProxyTo, server: Server, eventually: Eventually
) -> None:
    """As with a process that is stopped and continued: the lock nobody waits for is set all the same."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())

    proxy = await proxy_to(await server(serve))
    proxy.inject(HANG)
    with socket.create_connection(proxy.address) as caller:
        caller.sendall(b"POST /account/lock")
    assert heard == []

    proxy.clear()

    await eventually(lambda: heard == [b"POST /account/lock"])
    await eventually(lambda: proxy.connections == 0)


async def test_a_hanging_edge_holds_bytes_back_at_the_sender(proxy_to: ProxyTo, server: Server) -> None:
    """Not in memory: a frozen process reads nothing."""
    digest = hashlib.sha256()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            digest.update(data)
        writer.write(digest.digest())
        writer.write_eof()

    body = random.Random(1).randbytes(16 * MEGABYTE)
    proxy = await proxy_to(await server(serve))
    async with connected(proxy.address) as (reader, writer):
        proxy.inject(HANG)
        writer.write(body)
        writer.write_eof()
        assert await silent(reader)
        assert proxy.counters.bytes_from_caller == 0

        proxy.clear()

        async with asyncio.timeout(10.0):
            assert await reader.read() == hashlib.sha256(body).digest()


async def test_those_that_hang_are_reset_when_the_edge_goes_down(proxy_to: ProxyTo, echo: Address) -> None:
    proxy = await proxy_to(echo)
    async with connected(proxy.address) as (old, old_writer):
        await ask(old, old_writer)
        proxy.inject(HANG)
        async with connected(proxy.address) as (new, _):
            proxy.inject(DOWN)

            assert await reset(old)
            assert await reset(new)


# Slow.


async def test_each_answer_comes_late_and_not_later_for_those_before_it(proxy_to: ProxyTo, server: Server) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1):
            writer.write(data)
            await writer.drain()

    proxy = await proxy_to(await server(serve))
    proxy.inject(Fault(kind="slow", latency=0.2))

    async with connected(proxy.address) as (reader, writer):
        began = time.monotonic()
        writer.write(b"0123456789")
        first = await reader.readexactly(1)
        first_after = time.monotonic() - began
        rest = await reader.readexactly(9)
        last_after = time.monotonic() - began

    assert first + rest == b"0123456789"
    assert first_after >= 0.2
    assert last_after < 0.4  # ten answers one after another would take 2 s


async def test_on_a_slow_edge_the_end_comes_after_what_was_said_before_it(proxy_to: ProxyTo, echo: Address) -> None:
    proxy = await proxy_to(echo)
    proxy.inject(Fault(kind="slow", latency=0.1))

    async with connected(proxy.address) as (reader, writer):
        began = time.monotonic()
        writer.write(b"hello")
        writer.write_eof()

        assert await reader.read() == b"hellobye"
        assert time.monotonic() - began >= 0.1


async def test_what_is_late_comes_at_once_when_the_edge_is_repaired(
    proxy_to: ProxyTo, echo: Address, eventually: Eventually
) -> None:
    proxy = await proxy_to(echo)
    proxy.inject(Fault(kind="slow", latency=60.0))

    async with connected(proxy.address) as (reader, writer):
        writer.write(b"hello")
        await eventually(lambda: proxy.counters.bytes_from_target == 5)
        proxy.clear()

        async with asyncio.timeout(1.0):
            assert await reader.readexactly(5) == b"hello"
        assert await ask(reader, writer) == b"hello"


async def test_what_is_late_stays_away_while_the_edge_hangs(
    proxy_to: ProxyTo, echo: Address, eventually: Eventually
) -> None:
    proxy = await proxy_to(echo)
    proxy.inject(Fault(kind="slow", latency=0.05))

    async with connected(proxy.address) as (reader, writer):
        writer.write(b"hello")
        await eventually(lambda: proxy.counters.bytes_from_target == 5)
        proxy.inject(HANG)
        assert await silent(reader, seconds=0.15)
        proxy.clear()

        async with asyncio.timeout(1.0):
            assert await reader.readexactly(5) == b"hello"


async def test_a_caller_that_leaves_a_slow_edge_leaves_nothing_behind(
    proxy_to: ProxyTo, echo: Address, eventually: Eventually
) -> None:
    proxy = await proxy_to(echo)
    proxy.inject(Fault(kind="slow", latency=60.0))

    async with connected(proxy.address) as (_, writer):
        writer.write(b"hello")
        await eventually(lambda: proxy.counters.bytes_from_target == 5)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    await eventually(lambda: proxy.connections == 0)


# Much at once.


@pytest.mark.parametrize(
    ("fault", "most"),
    [
        pytest.param(None, 4 * MEGABYTE, id="sound"),
        pytest.param(Fault(kind="slow", latency=0.05), 2 * LINE_LIMIT, id="slow"),
    ],
)
async def test_a_caller_that_reads_slowly_slows_the_target_and_takes_no_memory(
    proxy_to: ProxyTo, server: Server, fault: Fault | None, most: int
) -> None:
    size = 48 * MEGABYTE

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        block = random.Random(1).randbytes(MEGABYTE)
        for _ in range(size // MEGABYTE):
            writer.write(block)
            await writer.drain()
        writer.write_eof()
        await reader.read()

    proxy = await proxy_to(await server(serve))
    if fault:
        proxy.inject(fault)
    expected = hashlib.sha256(random.Random(1).randbytes(MEGABYTE) * (size // MEGABYTE)).digest()
    digest = hashlib.sha256()
    tracemalloc.start()
    try:
        async with connected(proxy.address) as (reader, _):
            # Reads nothing until the bytes stand still: all buffers are then full.
            before = -1
            while before != proxy.counters.bytes_from_target:
                before = proxy.counters.bytes_from_target
                await asyncio.sleep(0.2)
            stood_at = before
            async with asyncio.timeout(20.0):
                while data := await reader.read(MEGABYTE):
                    digest.update(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert stood_at < size  # the kernel's buffers took the rest
    assert peak < most + 4 * MEGABYTE  # those of the server and the client above are in it
    assert digest.digest() == expected


async def test_five_megabytes_pass_both_ways_at_once(proxy_to: ProxyTo, echo: Address) -> None:
    proxy = await proxy_to(echo)
    body = random.Random(1).randbytes(5 * MEGABYTE)

    async with connected(proxy.address) as (reader, writer), asyncio.timeout(10.0):

        async def send() -> None:
            writer.write(body)
            await writer.drain()
            writer.write_eof()

        _, answer = await asyncio.gather(send(), reader.read())

    assert answer == body + b"bye"


async def test_two_hundred_callers_at_once_are_served_frozen_and_reset(
    proxy_to: ProxyTo, echo: Address, eventually: Eventually
) -> None:
    number = 200
    proxy = await proxy_to(echo)

    async with contextlib.AsyncExitStack() as stack:

        async def come() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await stack.enter_async_context(connected(proxy.address))

        callers = await asyncio.gather(*(come() for _ in range(number)))
        assert await asyncio.gather(*(ask(*caller) for caller in callers)) == [b"hello"] * number

        proxy.inject(HANG)
        frozen = await asyncio.gather(*(come() for _ in range(number)))
        for _, writer in frozen:
            writer.write(b"hello")
        assert all(await asyncio.gather(*(silent(reader) for reader, _ in frozen)))
        proxy.clear()
        async with asyncio.timeout(5.0):
            answers = await asyncio.gather(*(reader.readexactly(5) for reader, _ in frozen))
        assert answers == [b"hello"] * number
        assert proxy.connections == 2 * number

        proxy.inject(DOWN)
        assert all(await asyncio.gather(*(reset(reader) for reader, _ in callers + frozen)))
        assert all(await asyncio.gather(*(refused(proxy.address) for _ in range(number))))
        await eventually(lambda: proxy.connections == 0)
        assert proxy.counters.resets == 2 * number


async def test_without_file_descriptors_callers_wait_until_there_are_some_again(
    proxy_to: ProxyTo, echo: Address, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = await proxy_to(echo)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as caller:
        highest = caller.fileno()
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
            caller.connect(proxy.address)
            caller.sendall(b"hello")
            await eventually(lambda: "takes no connection: [Errno 24]" in caplog.text)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        caller.settimeout(5.0)
        assert await asyncio.to_thread(caller.recv, 5) == b"hello"
        assert len(caplog.records) < 5  # it did not try in a loop


async def test_errors_cannot_be_injected_where_there_are_no_requests(proxy_to: ProxyTo, echo: Address) -> None:
    proxy = await proxy_to(echo)

    with pytest.raises(
        ValueError, match="wallet/0 -> auth: errors can be injected on http edges only, this one is tcp"
    ):
        proxy.inject(Fault(kind="errors"))

    assert proxy.fault is None
