import asyncio
import json
import logging
import struct
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from shoal_lab.errors import PlatformError, UsageError
from shoal_lab.platform import kafka as kafka_module
from shoal_lab.platform.kafka import Kafka
from shoal_lab.platform.kafka_front import Front
from shoal_lab.platform.mock_cluster import MockCluster
from shoal_lab.platform.ports import reserve

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
Eventually = Callable[..., Awaitable[None]]


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
def bootstrap(request: pytest.FixtureRequest) -> str | None:
    """What to start a `Kafka` with: these tests say that the in-memory one and Apache Kafka do not differ in them."""
    if request.param == "embedded":
        return None
    address: str = request.getfixturevalue("apache_kafka")
    return address


@pytest.fixture
def topic() -> str:
    """A name no other test uses."""
    return f"balance_viewed_{uuid.uuid4().hex}"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Kafka that was named has half a second instead of five to answer."""
    monkeypatch.setattr(kafka_module, "_ANSWER_WITHIN", 0.5)


@asynccontextmanager
async def running(bootstrap: str | None, topics: dict[str, int]) -> AsyncIterator[Kafka]:
    kafka = await Kafka.start(bootstrap=bootstrap, topics=topics)
    try:
        yield kafka
    finally:
        await kafka.stop()


@asynccontextmanager
async def consuming(kafka: Kafka, topic: str, group: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka.bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        session_timeout_ms=6_000,
        heartbeat_interval_ms=500,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def produce(kafka: Kafka, topic: str, numbers: range) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for number in numbers:
            await producer.send_and_wait(topic, json.dumps(number).encode(), key=str(number).encode())


async def consume(consumer: AIOKafkaConsumer, number: int) -> list[int]:
    async with asyncio.timeout(10.0):
        return sorted([json.loads((await consumer.getone()).value) for _ in range(number)])


async def test_a_group_reads_each_event_once_and_goes_on_where_it_committed(bootstrap: str | None, topic: str) -> None:
    async with running(bootstrap, {topic: 3}) as kafka:
        await produce(kafka, topic, range(20))
        async with consuming(kafka, topic, f"group-{topic}") as first:
            assert await consume(first, 20) == list(range(20))
            await first.commit()

        await produce(kafka, topic, range(20, 30))
        async with consuming(kafka, topic, f"group-{topic}") as second:
            assert await consume(second, 10) == list(range(20, 30))


async def test_a_topic_has_the_partitions_asked_for(bootstrap: str | None, topic: str) -> None:
    async with running(bootstrap, {topic: 6, f"{topic}_2": 1}) as kafka, consuming(kafka, topic, topic) as consumer:
        assert consumer.partitions_for_topic(topic) == set(range(6))

        ends = await consumer.end_offsets([TopicPartition(f"{topic}_2", 0)])
        assert ends == {TopicPartition(f"{topic}_2", 0): 0}


async def test_members_of_a_group_share_the_partitions(
    bootstrap: str | None, topic: str, eventually: Eventually
) -> None:
    """Each time one comes, and when one goes."""
    everything = {TopicPartition(topic, number) for number in range(4)}

    def shared_by(*members: AIOKafkaConsumer) -> bool:
        assigned = [partition for member in members for partition in member.assignment()]
        return sorted(assigned) == sorted(everything) and all(member.assignment() for member in members)

    async with running(bootstrap, {topic: 4}) as kafka, consuming(kafka, topic, topic) as one:
        assert shared_by(one)
        async with consuming(kafka, topic, topic) as two:
            await eventually(lambda: shared_by(one, two))
            async with consuming(kafka, topic, topic) as three:
                await eventually(lambda: shared_by(one, two, three))
        await eventually(lambda: shared_by(one))


async def test_a_first_member_does_not_wait_long_for_others(topic: str) -> None:
    """Left alone, the in-memory broker waits for 3 s, of which a step of the lab has not many."""
    async with running(None, {topic: 1}) as kafka:
        await produce(kafka, topic, range(1))
        began = time.monotonic()

        async with consuming(kafka, topic, topic) as consumer:
            await consume(consumer, 1)

        assert time.monotonic() - began < 2.5


async def test_what_is_used_is_told(bootstrap: str | None, topic: str) -> None:
    async with running(bootstrap, {topic: 1}) as kafka:
        if bootstrap is None:
            assert kafka.embedded
            assert kafka.describe().startswith(f"Kafka in memory at {kafka.bootstrap} (librdkafka 2.")
        else:
            assert not kafka.embedded
            assert kafka.describe() == f"Kafka at {bootstrap} (the one named by --kafka)"


@pytest.mark.kafka
async def test_topics_of_a_named_kafka_are_taken_as_they_are_and_left_there(apache_kafka: str, topic: str) -> None:
    async with running(apache_kafka, {topic: 2}) as kafka:
        await produce(kafka, topic, range(5))

    async with running(f" {apache_kafka}, {apache_kafka}", {topic: 3}) as kafka:
        assert kafka.bootstrap == f"{apache_kafka},{apache_kafka}"
        async with consuming(kafka, topic, topic) as consumer:
            assert consumer.partitions_for_topic(topic) == {0, 1}
            assert await consume(consumer, 5) == list(range(5))


@pytest.mark.kafka
async def test_a_topic_that_a_named_kafka_refuses_is_told_with_its_reason(apache_kafka: str) -> None:
    with pytest.raises(PlatformError) as caught:
        await Kafka.start(bootstrap=apache_kafka, topics={"no name": 1})

    assert str(caught.value).startswith(f"Kafka at {apache_kafka} does not create topic no name: ")
    assert "ASCII alphanumerics" in str(caught.value)


async def test_a_topic_that_the_embedded_kafka_refuses_is_told() -> None:
    cluster = MockCluster()
    cluster.create_topic("twice", partitions=1)

    with pytest.raises(PlatformError) as caught:
        cluster.create_topic("twice", partitions=2)

    cluster.close()
    assert str(caught.value).startswith("the in-memory Kafka does not create topic twice (2 partitions): ")


async def test_two_embedded_kafkas_know_nothing_of_each_other(topic: str) -> None:
    async with running(None, {topic: 1}) as one, running(None, {topic: 1}) as two:
        await produce(one, topic, range(3))

        async with consuming(two, topic, topic) as consumer:
            assert await consumer.end_offsets([TopicPartition(topic, 0)]) == {TopicPartition(topic, 0): 0}


async def test_stop_closes_the_embedded_kafka_while_clients_are_connected(topic: str) -> None:
    before = open_ports()
    kafka = await Kafka.start(bootstrap=None, topics={topic: 1})
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        await producer.send_and_wait(topic, b"{}")
        assert open_ports() > before

        await kafka.stop()
        await kafka.stop()

        assert open_ports() == before
        host, _, port = kafka.bootstrap.partition(":")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))


def test_a_closed_cluster_refuses_what_would_crash_it() -> None:
    cluster = MockCluster()
    cluster.close()

    with pytest.raises(PlatformError, match="is closed"):
        cluster.create_topic("late", partitions=1)
    with pytest.raises(PlatformError, match="is closed"):
        cluster.advertise("127.0.0.1", 1)


async def test_a_start_that_fails_leaves_no_port_open(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(cls: type[Front], broker: tuple[str, int]) -> Front:
        raise OSError("no port is left")

    before = open_ports()
    monkeypatch.setattr(Front, "open", classmethod(fail))

    with pytest.raises(OSError, match="no port is left"):
        await Kafka.start(bootstrap=None, topics={})

    assert open_ports() == before


@pytest.mark.parametrize(
    ("given", "culprit"),
    [
        ("", ""),
        ("broker", "broker"),
        ("broker:", "broker:"),
        (":9092", ":9092"),
        ("broker:0", "broker:0"),
        ("broker:70000", "broker:70000"),
        ("broker:kafka", "broker:kafka"),
        ("a:1,,b:2", ""),
        ("a:1;b:2", "a:1;b:2"),
        ("kafka://broker:9092", "kafka://broker:9092"),
        ("broker:9092/topic", "broker:9092/topic"),
        ("me:secret@broker:9092", "me:secret@broker:9092"),
        ("::1:9092", "::1:9092"),
        ("bro ker:9092", "bro ker:9092"),
    ],
)
async def test_what_is_no_address_is_told_at_once(given: str, culprit: str) -> None:
    with pytest.raises(UsageError) as caught:
        await Kafka.start(bootstrap=given, topics={})

    assert str(caught.value) == f"--kafka {given!r}: {culprit!r} is no address; write HOST:PORT[,HOST:PORT ...]"


async def test_an_ipv6_address_is_one(impatient: None) -> None:
    with pytest.raises(PlatformError, match=r"^Kafka at \[::1\]:1 does not answer"):
        await Kafka.start(bootstrap="[::1]:1", topics={})


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def speaks_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
    writer.close()


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@asynccontextmanager
async def serving(serve: Serve | None, at: tuple[str, int] = ("127.0.0.1", 0)) -> AsyncIterator[str]:
    """An address at which *serve* answers; connections are refused if that is `None`."""
    if serve is None:
        with reserve() as reservation:
            yield str(reservation)
        return

    tasks: list[asyncio.Task[None]] = []
    writers: list[asyncio.StreamWriter] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.create_task(serve(reader, writer)))
        writers.append(writer)

    server = await asyncio.start_server(accept, *at)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@pytest.mark.parametrize("serve", [None, says_nothing, speaks_http, hangs_up], ids=lambda s: s and s.__name__)
async def test_a_kafka_that_does_not_answer_is_named(
    impatient: None, caplog: pytest.LogCaptureFixture, eventually: Eventually, serve: Serve | None
) -> None:
    tasks = asyncio.all_tasks()
    async with serving(serve) as address:
        with pytest.raises(PlatformError) as caught:
            await Kafka.start(bootstrap=address, topics={"t": 1})

    assert str(caught.value) == (
        f"Kafka at {address} does not answer within 0.5 s: is it running, and is that its listener? "
        "It must be one without TLS or passwords"
    )
    assert caplog.records == []
    assert logging.getLogger("aiokafka").level == logging.NOTSET
    await eventually(lambda: asyncio.all_tasks() == tasks)


async def test_a_host_nobody_knows_is_named(impatient: None) -> None:
    with pytest.raises(PlatformError, match=r"^Kafka at broker\.invalid:9092 does not answer within"):
        await Kafka.start(bootstrap="broker.invalid:9092", topics={})


@pytest.mark.kafka
async def test_a_kafka_that_is_still_starting_is_waited_for(apache_kafka: str, topic: str) -> None:
    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await relay(reader, writer, apache_kafka)

    with reserve() as reservation:
        starting = asyncio.create_task(Kafka.start(bootstrap=str(reservation), topics={topic: 1}))
        await asyncio.sleep(0.3)
        assert not starting.done()
        async with serving(pass_on, at=reservation.address):
            kafka = await starting

    assert kafka.bootstrap == str(reservation)


async def test_a_broker_that_advertises_what_nobody_reaches_is_told(impatient: None) -> None:
    """As a broker in a container does that calls itself by the container's name."""
    async with running(None, {"t": 1}) as kafka, serving(None) as nowhere:

        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await relay(reader, writer, kafka.bootstrap, advertise=nowhere)

        async with serving(pass_on) as address:
            with pytest.raises(PlatformError) as caught:
                await Kafka.start(bootstrap=address, topics={"t": 1})

    assert str(caught.value) == (
        f"Kafka at {address} answers, but does not have its topics ready within 0.5 s: does this machine reach its "
        f"brokers at {nowhere}, which is what its advertised.listeners says?"
    )


async def relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: str, *, advertise: str | None = None
) -> None:
    """Pass on what is said to the Kafka at *to* and what it answers, with *advertise* for its port therein."""
    host, _, port = to.partition(":")
    theirs = struct.pack(">i", int(port))
    shown = struct.pack(">i", int((advertise or to).rpartition(":")[2]))
    answers, questions = await asyncio.open_connection(host, int(port))

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            sink.write(data.replace(theirs, shown))
        sink.write_eof()

    try:
        await asyncio.gather(pump(reader, questions), pump(answers, writer))
    except ConnectionError:
        pass
    finally:
        questions.transport.abort()


async def test_a_cancelled_start_leaves_nothing_behind(eventually: Eventually) -> None:
    tasks = asyncio.all_tasks()
    async with serving(says_nothing) as address:
        starting = asyncio.create_task(Kafka.start(bootstrap=address, topics={}))
        await asyncio.sleep(0.05)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    await eventually(lambda: asyncio.all_tasks() == tasks)


def open_ports() -> int:
    """How many sockets of this process listen."""
    listening = {
        fields[9]
        for fields in (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[3] == "0A"
    }
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(f"socket:[{inode}]" in links for inode in listening)
