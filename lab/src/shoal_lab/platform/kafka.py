"""The company's events: on a Kafka inside this process, or on one that somebody names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import confluent_kafka
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, NoError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.admin import CreateTopicsRequest

from shoal_lab.errors import PlatformError, UsageError

from .kafka_front import Front
from .mock_cluster import MockCluster

_ANSWER_WITHIN = 5.0
"""Seconds a Kafka that was named has to answer, and to have the topics."""
_POLL = 0.1
_MOST_REPLICAS = 3


class Kafka:
    """A Kafka with the topics of a run. Made by `start`, ended by `stop`."""

    def __init__(self, bootstrap: str, *, embedded: bool, undo: AsyncExitStack) -> None:
        self.bootstrap = bootstrap
        """HOST:PORT of one broker, or of several with commas between."""
        self.embedded = embedded
        """Whether it is the in-memory one."""
        self._undo = undo

    @classmethod
    async def start(cls, *, bootstrap: str | None, topics: Mapping[str, int]) -> Kafka:
        """Use the Kafka at *bootstrap*, without TLS or passwords; if that is `None`, start librdkafka's in-memory one.

        *topics* says how many partitions each topic is to have. One that a named Kafka has already is taken as it is.

        Raises UsageError if *bootstrap* is not HOST:PORT[,HOST:PORT ...], PlatformError if it does not answer within
        5 s or does not create the topics, or if `confluent-kafka` brings no in-memory Kafka.
        """
        async with AsyncExitStack() as undo:
            if bootstrap is None:
                address = await _embedded(topics, undo)
            else:
                address = _checked(bootstrap)
                await _prepare(address, topics)
            kept = undo.pop_all()
        return cls(address, embedded=bootstrap is None, undo=kept)

    def describe(self) -> str:
        """One line for people."""
        if self.embedded:
            return f"Kafka in memory at {self.bootstrap} (librdkafka {confluent_kafka.libversion()[0]})"
        return f"Kafka at {self.bootstrap} (the one named by --kafka)"

    async def stop(self) -> None:
        """End the in-memory Kafka, events and all; on any other the topics stay, they may be in use elsewhere.

        May be called again.
        """
        await self._undo.aclose()


async def _embedded(topics: Mapping[str, int], undo: AsyncExitStack) -> str:
    cluster = MockCluster()
    undo.push_async_callback(asyncio.to_thread, cluster.close)
    for name, partitions in topics.items():
        await asyncio.to_thread(cluster.create_topic, name, partitions=partitions)
    front = await Front.open(cluster.address)
    undo.push_async_callback(front.close)
    cluster.advertise(*front.address)
    host, port = front.address
    return f"{host}:{port}"


def _checked(bootstrap: str) -> str:
    addresses = [address.strip() for address in bootstrap.split(",")]
    for address in addresses:
        try:
            parts = urlsplit(f"//{address}")
            complete = [parts.netloc] == address.split() and "@" not in address and bool(parts.hostname and parts.port)
        except ValueError:
            complete = False
        if not complete:
            raise UsageError(f"--kafka {bootstrap!r}: {address!r} is no address; write HOST:PORT[,HOST:PORT ...]")
    return ",".join(addresses)


async def _prepare(addresses: str, topics: Mapping[str, int]) -> None:
    """See to it that the Kafka at *addresses* has *topics*, and a leader for each partition."""
    advertised = ""
    try:
        async with asyncio.timeout(_ANSWER_WITHIN):
            with _silence():
                client = await _connected(addresses)
                try:
                    advertised = ", ".join(f"{broker.host}:{broker.port}" for broker in client.cluster.brokers())
                    await _create(client, topics, addresses)
                    await _led(client, topics)
                finally:
                    await client.close()
    except (TimeoutError, KafkaError) as error:
        if not advertised:
            raise PlatformError(
                f"Kafka at {addresses} does not answer within {_ANSWER_WITHIN:g} s: is it running, and is that its "
                "listener? It must be one without TLS or passwords"
            ) from error
        detail = f" ({error})" if str(error) else ""
        raise PlatformError(
            f"Kafka at {addresses} answers, but does not have its topics ready within {_ANSWER_WITHIN:g} s{detail}: "
            f"does this machine reach its brokers at {advertised}, which is what its advertised.listeners says?"
        ) from error


async def _connected(addresses: str) -> Any:
    while True:
        client = AIOKafkaClient(bootstrap_servers=addresses, request_timeout_ms=int(_ANSWER_WITHIN * 1000))
        try:
            await client.bootstrap()
        except KafkaError:
            # It may be starting.
            await client.close()
            await asyncio.sleep(_POLL)
        except BaseException:
            await client.close()
            raise
        else:
            return client


async def _create(client: Any, topics: Mapping[str, int], addresses: str) -> None:
    # The first answer does not name the controller, and with a broker that is not where it says no other will come.
    while client.cluster.controller is None:
        await client.force_metadata_update()
        await asyncio.sleep(_POLL)
    replicas = min(_MOST_REPLICAS, len(client.cluster.brokers()))
    request = CreateTopicsRequest(
        create_topic_requests=[(name, partitions, replicas, [], []) for name, partitions in topics.items()],
        timeout=int(_ANSWER_WITHIN * 1000),
        validate_only=False,
    )
    answer = await client.send(client.cluster.controller.nodeId, request)
    for name, code, *reason in answer.topic_errors:
        error = for_code(code)
        if error not in (NoError, TopicAlreadyExistsError):
            words = next(filter(None, reason), error.description)
            raise PlatformError(f"Kafka at {addresses} does not create topic {name}: {words}")


async def _led(client: Any, topics: Mapping[str, int]) -> None:
    """Wait until every partition has a leader: a new topic has none for a moment."""
    client.set_topics(topics)
    while True:
        await client.force_metadata_update()
        known = [client.cluster.partitions_for_topic(topic) for topic in topics]
        if all(known) and known == [client.cluster.available_partitions_for_topic(topic) for topic in topics]:
            return
        await asyncio.sleep(_POLL)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep aiokafka from logging each failed attempt; we raise what matters."""
    logger = logging.getLogger("aiokafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
