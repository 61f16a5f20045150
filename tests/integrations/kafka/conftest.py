"""A Kafka that can be lost: librdkafka's in-memory one or Apache Kafka, and an edge to it for each test.

Brokers and edges live on an event loop in a thread of their own, so that tests may block.
"""

import asyncio
import base64
import os
import random
import secrets
import shutil
import subprocess
import threading
import uuid
from collections import Counter
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from confluent_kafka import Consumer, TopicPartition

from shoal_lab.errors import PlatformError
from shoal_lab.faults import Fault, FaultProxy
from shoal_lab.platform.kafka import Kafka
from shoal_lab.platform.ports import reserve

T = TypeVar("T")

CHECKOUT = Path(__file__).parents[3]

CONFIGURATION = """
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller_port}
log.dirs={data}
offsets.topic.replication.factor=1
"""


class LoopThread:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=60.0)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    """Where brokers and edges live."""
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def in_memory_kafka(loop_thread: LoopThread) -> Iterator[str]:
    """`HOST:PORT` of librdkafka's in-memory broker, one for all tests."""
    kafka = loop_thread.run(Kafka.start(bootstrap=None, topics={}))
    yield kafka.bootstrap
    loop_thread.run(kafka.stop())


@pytest.fixture(scope="session")
def apache_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`HOST:PORT` of an Apache Kafka, one for all tests; skips the test where it is not installed."""
    home = Path(os.environ.get("SHOAL_TEST_KAFKA_HOME") or CHECKOUT / ".cache" / "kafka")
    jars = sorted((home / "libs").glob("*.jar"))
    java = shutil.which("java")
    if not jars or java is None:
        pytest.skip("no Apache Kafka here: `make kafka` gets it, and it needs Java")
    directory = tmp_path_factory.mktemp("apache-kafka")
    command = [java, "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", os.pathsep.join(map(str, jars))]
    with reserve() as port, reserve() as controller_port, (directory / "log").open("wb") as log:
        configuration = directory / "server.properties"
        configuration.write_text(
            CONFIGURATION.format(port=port.port, controller_port=controller_port.port, data=directory / "data")
        )
        cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        format_storage = [*command, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(configuration)]
        subprocess.run(format_storage, stdout=log, stderr=log, check=True)
        broker = subprocess.Popen([*command, "kafka.Kafka", str(configuration)], stdout=log, stderr=log)
        try:
            yield str(port)
        finally:
            broker.kill()
            broker.wait()


@pytest.fixture
def bootstrap(request: pytest.FixtureRequest) -> str:
    """`HOST:PORT` of a broker; Apache Kafka's for tests that ask for it by indirect parametrization."""
    address: str = request.getfixturevalue(f"{getattr(request, 'param', 'in_memory')}_kafka")
    return address


@pytest.fixture
def topic(bootstrap: str, in_memory_kafka: str, loop_thread: LoopThread) -> str:
    """A topic that no other test uses. The in-memory broker makes it when it is asked for."""
    name = f"balance_viewed_{uuid.uuid4().hex}"

    async def create() -> None:
        # A broker that has just been started needs a moment before it answers.
        async with asyncio.timeout(30.0):
            while True:
                try:
                    kafka = await Kafka.start(bootstrap=bootstrap, topics={name: 1})
                except PlatformError:
                    await asyncio.sleep(0.2)
                else:
                    await kafka.stop()
                    return

    if bootstrap != in_memory_kafka:
        loop_thread.run(create())
    return name


class Edge:
    """The way of one client to Kafka. *address* is what the client is given."""

    def __init__(self, bootstrap: str, thread: LoopThread) -> None:
        host, _, port = bootstrap.rpartition(":")
        self._bootstrap = bootstrap
        self._thread = thread
        self.proxy = FaultProxy("wallet -> kafka", (host, int(port)), protocol="kafka", rng=random.Random(1))
        thread.run(self.proxy.start())
        self.address = "{}:{}".format(*self.proxy.address)

    def suffer(self, kind: str | None, *, latency: float = 0.0) -> None:
        """Begin a fault, or end it with None; in force when this returns."""

        async def change() -> None:
            if kind is None:
                self.proxy.clear()
            else:
                self.proxy.inject(Fault(kind=kind, latency=latency))  # type: ignore[arg-type]

        self._thread.run(change())

    def close(self) -> None:
        self._thread.run(self.proxy.stop())

    def values(self, topic: str) -> Counter[str]:
        """What is in the topic, and how often; read past the edge."""
        consumer = Consumer({"bootstrap.servers": self._bootstrap, "group.id": topic, "log_level": 0})
        try:
            partitions = consumer.list_topics(topic, timeout=10.0).topics[topic].partitions
            places = [TopicPartition(topic, partition, 0) for partition in partitions]
            ends = [consumer.get_watermark_offsets(place, timeout=10.0)[1] for place in places]
            consumer.assign(places)
            found: list[str] = []
            while len(found) < sum(ends):
                message = consumer.poll(10.0)
                assert message is not None
                assert message.error() is None
                value = message.value()
                assert value is not None
                found.append(value.decode())
            return Counter(found)
        finally:
            consumer.close()


@pytest.fixture
def edge(bootstrap: str, loop_thread: LoopThread) -> Iterator[Edge]:
    """An edge to *bootstrap* that can be broken."""
    edge = Edge(bootstrap, loop_thread)
    yield edge
    edge.close()
