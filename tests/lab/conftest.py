"""An Apache Kafka for whoever needs the real one."""

import asyncio
import base64
import os
import secrets
import shutil
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from shoal_lab.platform.janitor import Janitor
from shoal_lab.platform.ports import reserve
from shoal_lab.platform.process import Process

CHECKOUT = Path(__file__).parents[2]
START_WITHIN = 60.0

# One node that is broker and controller; the replication factors are those of a cluster of one.
CONFIGURATION = """
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller_port}
log.dirs={data}
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""


@pytest.fixture(scope="session")
def kafka_java() -> list[str]:
    """The command that runs a class of Apache Kafka; skips the test where there is none."""
    named = os.environ.get("SHOAL_TEST_KAFKA_HOME")
    home = Path(named) if named else CHECKOUT / ".cache" / "kafka"
    jars = sorted((home / "libs").glob("*.jar"))
    if not jars:
        if named:
            pytest.fail(f"SHOAL_TEST_KAFKA_HOME is {named}, but there is no {home / 'libs'} with jars in it")
        pytest.skip("no Apache Kafka here: `make kafka` gets it")
    java = shutil.which("java")
    if java is None:
        pytest.skip("no Java here: `apt-get install default-jre-headless`, or the like")
    return [
        *(java, "-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
        *("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", os.pathsep.join(map(str, jars))),
    ]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def apache_kafka(kafka_java: list[str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """`HOST:PORT` of an Apache Kafka, one for all tests; skips the test where it is not installed."""
    directory = tmp_path_factory.mktemp("apache-kafka")
    janitor = Janitor()
    await janitor.start(directory)
    with reserve() as port, reserve() as controller_port:
        try:
            configuration = directory / "server.properties"
            configuration.write_text(
                CONFIGURATION.format(port=port.port, controller_port=controller_port.port, data=directory / "data")
            )

            async def run(name: str, *arguments: str) -> Process:
                return await Process.start(
                    [*kafka_java, *arguments], name=name, log=directory / f"{name}.log", janitor=janitor
                )

            cluster_id = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
            formatting = await run(
                *("format", "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(configuration))
            )
            assert await formatting.wait() == 0, formatting.log_tail()
            broker = await run("kafka", "kafka.Kafka", str(configuration))
            await listening(broker, port.address)
            yield str(port)
            await broker.terminate(5.0)
        finally:
            await janitor.close()


async def listening(process: Process, address: tuple[str, int]) -> None:
    """Wait until something listens at *address*."""
    deadline = time.monotonic() + START_WITHIN
    while True:
        assert process.returncode is None, process.log_tail()
        assert time.monotonic() < deadline, f"nothing at {address} within {START_WITHIN} s\n{process.log_tail()}"
        with socket.socket() as client:
            if client.connect_ex(address) == 0:
                return
        await asyncio.sleep(0.05)
