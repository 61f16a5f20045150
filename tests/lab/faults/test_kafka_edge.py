"""Kafka edges, with the company's client, on librdkafka's in-memory cluster and on Apache Kafka."""

import asyncio
import socket
import struct
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from confluent_kafka import Producer

from shoal_lab.faults import Fault, FaultProxy
from shoal_lab.faults.kafka_answers import API_VERSIONS, METADATA, NEWEST

Address = tuple[str, int]
Eventually = Callable[..., Awaitable[None]]
ProxyTo = Callable[..., Awaitable[FaultProxy]]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Server = Callable[[Serve], Awaitable[Address]]

DOWN = Fault(kind="down")


APACHE = pytest.param("apache", marks=pytest.mark.kafka)


@pytest.fixture
def nothing_leaks() -> None:
    """The in-memory cluster opens and closes sockets in this process as it likes."""


@pytest.fixture(params=["1 broker", "3 brokers", APACHE])
def cluster(request: pytest.FixtureRequest) -> Iterator[Address]:
    """One broker of the cluster that the test is about."""
    if request.param == "apache":
        address: str = request.getfixturevalue("apache_kafka")
        host, _, port = address.rpartition(":")
        yield host, int(port)
        return
    number = int(request.param.split()[0])
    keeper = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": number, "log_level": 0})
    brokers = sorted((broker.host, broker.port) for broker in keeper.list_topics(timeout=10.0).brokers.values())
    assert len(brokers) == number
    yield brokers[0]


@pytest.fixture
def topic() -> str:
    """A name no other test uses."""
    return f"balance_viewed_{uuid.uuid4().hex}"


def text(address: Address) -> str:
    host, port = address
    return f"{host}:{port}"


@asynccontextmanager
async def producing(address: Address, *, patience_ms: int = 1_000) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=text(address), request_timeout_ms=patience_ms, retry_backoff_ms=50)
    try:
        await producer.start()
        yield producer
    finally:
        async with asyncio.timeout(5.0):
            await producer.stop()


@asynccontextmanager
async def consuming(address: Address, topic: str, *, group: str | None) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=text(address),
        group_id=group,
        auto_offset_reset="earliest",
        request_timeout_ms=6_000,  # the in-memory cluster lets the first member of a group wait for 3 s
        retry_backoff_ms=50,
        metadata_max_age_ms=1_000,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        async with asyncio.timeout(5.0):
            await consumer.stop()


async def send(producer: AIOKafkaProducer, topic: str, *messages: str) -> None:
    async with asyncio.timeout(10.0):
        for number, message in enumerate(messages):
            await producer.send_and_wait(topic, message.encode(), key=b"%d" % number)


async def receive(consumer: AIOKafkaConsumer, number: int) -> set[str]:
    async with asyncio.timeout(20.0):
        return {(await consumer.getone()).value.decode() for _ in range(number)}


async def test_a_client_stays_on_its_edge(cluster: Address, topic: str, proxy_to: ProxyTo) -> None:
    """It is told of all brokers, at other addresses than a client of another edge, and none of them the real one."""
    wallet = await proxy_to(cluster, protocol="kafka")
    activity = await proxy_to(cluster, protocol="kafka")

    async with producing(cluster) as other, producing(wallet.address) as producer:
        await send(producer, topic, *"abcdefgh")
        async with consuming(activity.address, topic, group=None) as consumer:
            assert await receive(consumer, 8) == set("abcdefgh")

            real, *seen = (
                {(broker.host, broker.port) for broker in client.cluster.brokers()}
                for client in (other.client, producer.client, consumer._client)
            )

    assert cluster in real
    assert [len(addresses) for addresses in seen] == [len(real)] * 2
    assert len(set.union(real, *seen)) == 3 * len(real)
    for edge in (wallet, activity):
        assert edge.counters.connections > 1  # to bootstrap, and to brokers as it was told of them
        assert edge.counters.unreadable == edge.counters.unreachable == 0


@pytest.mark.parametrize("cluster", ["3 brokers", APACHE], indirect=True)
async def test_a_producer_loses_kafka_and_finds_it_again_while_the_consumer_goes_on(
    cluster: Address, topic: str, proxy_to: ProxyTo
) -> None:
    wallet = await proxy_to(cluster, protocol="kafka")
    activity = await proxy_to(cluster, protocol="kafka")
    async with producing(cluster) as other, producing(wallet.address) as producer:
        await send(producer, topic, *"abcd")
        async with consuming(activity.address, topic, group=topic) as consumer:
            assert await receive(consumer, 4) == set("abcd")

            wallet.inject(DOWN)
            with pytest.raises(KafkaError):
                await send(producer, topic, "lost")
            await send(other, topic, *"efgh")
            assert await receive(consumer, 4) == set("efgh")

            wallet.clear()
            await send(producer, topic, *"ijkl")
            assert await receive(consumer, 4) == set("ijkl")
    assert wallet.counters.resets > 0
    assert activity.counters.resets == 0


@pytest.mark.parametrize("cluster", ["3 brokers", APACHE], indirect=True)
async def test_a_consumer_loses_kafka_and_goes_on_where_it_was_while_the_producer_does_not_notice(
    cluster: Address, topic: str, proxy_to: ProxyTo
) -> None:
    wallet = await proxy_to(cluster, protocol="kafka")
    activity = await proxy_to(cluster, protocol="kafka")
    async with producing(wallet.address) as producer:
        await send(producer, topic, *"abcd")
        async with consuming(activity.address, topic, group=topic) as consumer:
            assert await receive(consumer, 4) == set("abcd")

            activity.inject(DOWN)
            await send(producer, topic, *"efgh")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await consumer.getone()

            activity.clear()
            assert await receive(consumer, 4) == set("efgh")
    assert activity.counters.resets > 0
    assert wallet.counters.resets == 0


async def test_a_frozen_kafka_answers_when_it_goes_on(cluster: Address, topic: str, proxy_to: ProxyTo) -> None:
    edge = await proxy_to(cluster, protocol="kafka")
    async with producing(edge.address, patience_ms=10_000) as producer:
        await send(producer, topic, "a")

        edge.inject(Fault(kind="hang"))
        sending = asyncio.create_task(send(producer, topic, "b"))
        assert not (await asyncio.wait({sending}, timeout=0.3))[0]

        edge.clear()
        await sending


async def test_a_slow_kafka_acknowledges_late(cluster: Address, topic: str, proxy_to: ProxyTo) -> None:
    edge = await proxy_to(cluster, protocol="kafka")
    async with producing(edge.address, patience_ms=10_000) as producer:
        await send(producer, topic, "a")
        edge.inject(Fault(kind="slow", latency=0.2))
        began = asyncio.get_running_loop().time()

        await send(producer, topic, "b")

        assert asyncio.get_running_loop().time() - began >= 0.2


async def test_a_broker_first_heard_of_while_the_edge_is_slow_is_slow_too(cluster: Address, proxy_to: ProxyTo) -> None:
    edge = await proxy_to(cluster, protocol="kafka")
    edge.inject(Fault(kind="slow", latency=0.2))

    async def ask_for_versions(broker: Address) -> float:
        reader, writer = await asyncio.open_connection(*broker)
        began = asyncio.get_running_loop().time()
        writer.write(struct.pack(">ihhih", 10, API_VERSIONS, 0, 1, -1))
        await reader.readexactly(8)
        writer.close()
        return asyncio.get_running_loop().time() - began

    async with producing(edge.address, patience_ms=10_000) as producer:
        brokers = [(broker.host, broker.port) for broker in producer.client.cluster.brokers()]
        async with asyncio.timeout(5.0):
            took = await asyncio.gather(*map(ask_for_versions, brokers))

    assert min(took) >= 0.2


async def test_a_client_that_comes_while_the_edge_is_down_finds_no_broker(cluster: Address, proxy_to: ProxyTo) -> None:
    edge = await proxy_to(cluster, protocol="kafka")
    edge.inject(DOWN)

    with pytest.raises(KafkaError):
        async with producing(edge.address):
            pass

    edge.clear()
    async with producing(edge.address) as producer:
        assert producer.client.cluster.brokers()


async def test_librdkafka_stays_on_its_edge_too(cluster: Address, topic: str, proxy_to: ProxyTo) -> None:
    """It asks for newer versions than the company's client, and is talked down."""
    edge = await proxy_to(cluster, protocol="kafka")
    delivered: list[object] = []

    def talk(bootstrap: Address) -> set[Address]:
        producer = Producer({"bootstrap.servers": text(bootstrap), "log_level": 0})
        producer.produce(topic, b"hello", on_delivery=lambda error, _message: delivered.append(error))
        producer.flush(10.0)
        return {(broker.host, broker.port) for broker in producer.list_topics(timeout=5.0).brokers.values()}

    real = await asyncio.to_thread(talk, cluster)
    seen = await asyncio.to_thread(talk, edge.address)

    assert delivered == [None, None]
    assert len(seen) == len(real)
    assert seen.isdisjoint(real)
    assert edge.counters.unreadable == 0


async def test_half_a_request_reaches_the_broker_when_the_client_ends_there(
    proxy_to: ProxyTo, server: Server, eventually: Eventually
) -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())

    edge = await proxy_to(await server(serve), protocol="kafka")
    with socket.create_connection(edge.address) as client:
        client.sendall(b"\0\0\0\x08\0")

    await eventually(lambda: heard == [b"\0\0\0\x08\0"])


async def test_nothing_but_kafka_frames_passes(
    proxy_to: ProxyTo, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A size beyond 100 MiB, in either direction, ends the connection; so does what is no Kafka at all."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.write((100 * 2**20 + 1).to_bytes(4, "big"))
        await reader.read()

    edge = await proxy_to(await server(serve), protocol="kafka")
    for said in (b"GET / HTTP/1.1\r\n", b"\0\0\0\x08\0\0\0\0\0\0\0\1"):
        reader, writer = await asyncio.open_connection(*edge.address)
        writer.write(said)
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(2.0):
                await reader.read()
        writer.close()

    assert heard == [b"\0\0\0\x08\0\0\0\0\0\0\0\1"]
    assert edge.counters.unreadable == 2
    assert "a Kafka frame of 104857601 bytes" in caplog.text


async def test_a_version_that_cannot_be_rewritten_does_not_pass(
    proxy_to: ProxyTo, echo: Address, caplog: pytest.LogCaptureFixture
) -> None:
    """Better no connection than one past the edge."""
    edge = await proxy_to(echo, protocol="kafka")
    reader, writer = await asyncio.open_connection(*edge.address)

    writer.write(struct.pack(">ihhi", 8, METADATA, NEWEST[METADATA] + 1, 1))
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(2.0):
            await reader.read()
    writer.close()

    assert "Kafka API 3 in version 6" in caplog.text


async def test_errors_cannot_be_injected(proxy_to: ProxyTo, echo: Address) -> None:
    edge = await proxy_to(echo, protocol="kafka")

    with pytest.raises(ValueError, match="errors can be injected on http edges only, this one is kafka"):
        edge.inject(Fault(kind="errors"))
