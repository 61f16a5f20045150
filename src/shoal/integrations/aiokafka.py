"""aiokafka: events that have arrived when `send` returns, and are not sent any more when it has raised.

Made for aiokafka 0.12 and newer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError, ProducerClosed, UnknownTopicOrPartitionError
from aiokafka.structs import RecordMetadata

from shoal import CallRejectedError, DeadlineExceededError
from shoal.guard import Guard

from ._kafka import Doubt, never_left, possibly_delivered

__all__ = ["GuardedProducer", "possibly_delivered"]

# Seconds between two tries to connect to a broker, and how long before the guard does we end an attempt: it does not
# know whether the event has left.
_PAUSE = 0.05
_AHEAD = 0.01
# Event loops do not take infinity for a time.
_LONGEST = 86_400.0


class GuardedProducer:
    """Sends events under *guard* with *producer*, a started AIOKafkaProducer, each waiting for its acknowledgement.

    What aiokafka has been given cannot be taken back, and is sent when Kafka is there again, long after its sender has
    been told that it failed: for several times `request_timeout_ms`, and the more brokers there are the longer. So an
    event waits here until the broker it is for is connected and has acknowledged the ones before, and is dropped when
    its time is over. What waits goes out together, as aiokafka does it anyway.

    What a broker had been given when it fell silent cannot be taken back: nobody knows whether it has read it, or will.
    See `possibly_delivered`; for each broker it is what it was given at once.

    The producer stays yours; `stop` stops it as well, and in time. Its `request_timeout_ms` must not be above the
    guard's timeout, or a broker that hangs would be waited for long after its events; half of it is a good value.
    Raises ValueError if it is, and for idempotence and transactions, with which aiokafka never gives up.

    Give the guard `classify=shoal.guard.classify_kafka`, or an event that is too large would count against Kafka::

        guard = Guard("kafka", timeout=0.5, classify=classify_kafka)
        producer = AIOKafkaProducer(bootstrap_servers="broker:9092", request_timeout_ms=250)
        await producer.start()
        events = GuardedProducer(producer, guard=guard)
        await events.send("balance_viewed", event, key=user)

    Serializers, the partitioner and all other settings are the producer's, and so is its event loop.
    """

    __slots__ = ("_closed", "_ending", "_lanes", "_open", "_workers", "guard", "producer")

    def __init__(self, producer: AIOKafkaProducer, *, guard: Guard) -> None:
        limit = guard.timeout * 1000
        given = producer._request_timeout_ms
        if given > limit:
            raise ValueError(
                f"request_timeout_ms must be at most {limit:g}, the timeout of guard {guard.name!r}, got {given}: give "
                f"AIOKafkaProducer(request_timeout_ms={limit / 2:.0f}), or the guard a longer timeout"
            )
        if producer._txn_manager is not None:
            raise ValueError(
                "enable_idempotence and transactional_id must be left out: with them no event ever expires"
            )
        self.guard = guard
        self.producer = producer
        self._closed = False
        # By the number of the broker that leads the event's partition; None while it has no leader.
        self._lanes: dict[int | None, deque[_Delivery]] = {}
        self._workers: dict[int | None, asyncio.Task[None]] = {}
        self._open: set[_Delivery] = set()
        self._ending: asyncio.Task[None] | None = None

    async def send(
        self,
        topic: str,
        value: Any = None,
        *,
        key: Any = None,
        headers: Sequence[tuple[str, bytes]] | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        idempotent: bool = True,
    ) -> RecordMetadata:
        """Send one event and return where it is, its partition and offset.

        *idempotent*: False for an event that must not come twice: it is repeated only if it certainly did not arrive.
        Raises aiokafka's KafkaError, DeadlineExceededError or CallRejectedError; `possibly_delivered` says which of
        these leave it open whether the event arrives.
        """
        if self._closed:
            raise RuntimeError(f"the producer for guard {self.guard.name!r} is stopped")
        event = {"topic": topic, "value": value, "key": key, "headers": headers, "timestamp_ms": timestamp_ms}
        return await Doubt(self.guard, idempotent=idempotent).arun(partial(self._attempt, event, partition))

    async def stop(self, *, timeout: float | None = None) -> None:
        """Drop what waits, and stop the producer; returns after *timeout* seconds at the latest, the guard's if None.

        aiokafka waits for the brokers; if they do not answer, it goes on doing so in the background. May be called
        again.
        """
        self._closed = True
        for worker in self._workers.values():
            worker.cancel()
        for delivery in self._open:
            if not delivery.left:
                delivery.fail(CallRejectedError(self.guard.name))
        if self._ending is None:
            self._ending = asyncio.create_task(self.producer.stop())
        done, _ = await asyncio.wait({self._ending}, timeout=self.guard.timeout if timeout is None else timeout)
        if done:
            self._ending.result()

    async def _attempt(self, event: dict[str, Any], partition: int | None, doubt: Doubt) -> RecordMetadata:
        if self._closed:
            raise CallRejectedError(self.guard.name)
        loop = asyncio.get_running_loop()
        seconds = min(self.guard.remaining(), _LONGEST)
        until = loop.time() + seconds - min(_AHEAD, seconds / 10)
        if not await self._knows(event["topic"], until=until):
            raise never_left(self.guard.name, within=seconds)
        delivery = _Delivery(event, self._place(event, partition), loop.create_future(), doubt)
        timer = loop.call_at(until, delivery.give_up, self.guard.name, seconds)
        self._open.add(delivery)
        try:
            self._join(delivery)
            return await delivery.future
        finally:
            self._open.discard(delivery)
            timer.cancel()
            delivery.forget()

    async def _knows(self, topic: str, *, until: float) -> bool:
        """Whether the partitions of a topic are known in time."""
        client = self.producer.client
        if client.cluster.partitions_for_topic(topic) is not None:
            return True
        try:
            async with asyncio.timeout_at(until):
                await self.producer.partitions_for(topic)
        except TimeoutError:
            return False
        except UnknownTopicOrPartitionError:
            # It says so as well when it could ask nobody. That is no answer, and not to be taken for one.
            if await client.force_metadata_update():
                raise
            raise KafkaConnectionError(f"no broker answers, so the partitions of {topic} are not known") from None
        return True

    def _place(self, event: dict[str, Any], partition: int | None) -> TopicPartition:
        """Where the producer itself would put it. Raises what it raises for an event that cannot be sent."""
        key, value, producer = event["key"], event["value"], self.producer
        serialized = producer._serialize(key, value, event["headers"] or [])
        return TopicPartition(event["topic"], producer._partition(event["topic"], partition, key, value, *serialized))

    def _join(self, delivery: _Delivery) -> None:
        node = self._leader(delivery)
        self._lanes.setdefault(node, deque()).append(delivery)
        if node not in self._workers:
            self._workers[node] = asyncio.create_task(self._work(node))

    async def _work(self, node: int | None) -> None:
        """Serve one broker for as long as events wait for it."""
        lane = self._lanes[node]
        try:
            while lane:
                if await self._is_ready(node):
                    await self._hand_over(self._take(node))
                else:
                    await asyncio.sleep(_PAUSE)
                    lane.extend(self._take(node))
        finally:
            del self._workers[node]

    async def _is_ready(self, node: int | None) -> bool:
        client = self.producer.client
        if node is None:
            await client.force_metadata_update()
            return False
        ready: bool = await client.ready(node)
        return ready

    def _take(self, node: int | None) -> list[_Delivery]:
        """What waits for a broker, without what nobody waits for any more and what another broker leads by now."""
        lane, taken = self._lanes[node], []
        while lane:
            delivery = lane.popleft()
            if delivery.future.done():
                continue
            if self._leader(delivery) == node:
                taken.append(delivery)
            else:
                self._join(delivery)
        return taken

    async def _hand_over(self, deliveries: list[_Delivery]) -> None:
        acknowledgements = []
        for delivery in deliveries:
            # Waiting for room in a full batch takes time, in which somebody may have given up.
            if delivery.future.done():
                continue
            delivery.leave()
            try:
                where = delivery.where
                acknowledgement = await self.producer.send(**delivery.event, partition=where.partition)
            except Exception as error:  # noqa: BLE001 -- whatever it is, the sender is to have it
                delivery.fail(error)
            else:
                acknowledgement.add_done_callback(delivery.settle)
                acknowledgements.append(acknowledgement)
        if acknowledgements:
            await asyncio.wait(acknowledgements)

    def _leader(self, delivery: _Delivery) -> int | None:
        node: int | None = self.producer.client.cluster.leader_for_partition(delivery.where)
        return None if node == -1 else node


class _Delivery:
    """One attempt to deliver an event."""

    __slots__ = ("_doubt", "event", "future", "left", "where")

    def __init__(
        self, event: dict[str, Any], where: TopicPartition, future: asyncio.Future[RecordMetadata], doubt: Doubt
    ) -> None:
        self.event = event
        self.where = where
        self.future = future
        self.left = False
        self._doubt = doubt

    def leave(self) -> None:
        """From here on it may arrive."""
        self.left = True
        self._doubt.arises()

    def give_up(self, name: str, seconds: float) -> None:
        """Its time is over."""
        self.fail(DeadlineExceededError(name, timeout=seconds) if self.left else never_left(name, within=seconds))

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def settle(self, acknowledgement: asyncio.Future[RecordMetadata]) -> None:
        if acknowledgement.cancelled():
            self.fail(ProducerClosed())
        # Looked at in any case, or asyncio would complain that nobody did.
        elif (error := acknowledgement.exception()) is not None:
            self.fail(error)
        elif not self.future.done():
            self.future.set_result(acknowledgement.result())

    def forget(self) -> None:
        """Nobody waits for it any more."""
        if not self.future.cancel() and not self.future.cancelled():
            # As above: it may have failed in the very moment in which whoever waited was cancelled.
            self.future.exception()
