"""aiokafka under a guard, on real brokers behind an edge that breaks."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    KafkaConnectionError,
    MessageSizeTooLargeError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)
from confluent_kafka import Producer

from shoal import CallRejectedError, DeadlineExceededError, Guard
from shoal.guard import Backoff, classify_kafka
from shoal.integrations.aiokafka import GuardedProducer, possibly_delivered
from shoal_lab.faults import Fault, FaultProxy

pytestmark = pytest.mark.server

BOTH = pytest.mark.parametrize(
    "bootstrap", ["in_memory", pytest.param("apache", marks=pytest.mark.kafka)], indirect=True
)

TIMEOUT = 0.6
SLACK = 0.3
"""What a busy machine may add to a wait."""


class Edge(Protocol):
    """See conftest.py."""

    address: str

    def suffer(self, kind: str | None, *, latency: float = 0.0) -> None: ...
    def values(self, topic: str) -> Counter[str]: ...


def a_guard(**settings: Any) -> Guard:
    """One that makes a single attempt and lets everything through, unless the test says otherwise."""
    plain = {"timeout": TIMEOUT, "attempts": 1, "breaker": None, "limit": None, "classify": classify_kafka}
    return Guard("kafka", **{**plain, "backoff": Backoff(initial=0.001, maximum=0.001), **settings})


@asynccontextmanager
async def producing(address: str, guard: Guard, **settings: Any) -> AsyncIterator[GuardedProducer]:
    quick = {"request_timeout_ms": int(guard.timeout * 500), "retry_backoff_ms": 20}
    producer = AIOKafkaProducer(bootstrap_servers=address, **{**quick, **settings})
    await producer.start()
    guarded = GuardedProducer(producer, guard=guard)
    try:
        yield guarded
    finally:
        await guarded.stop(timeout=5.0)


class Told:
    """What the senders of many events were told, and after how many seconds."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception | None] = {}
        self.seconds: list[float] = []

    async def send(self, producer: GuardedProducer, topic: str, value: str, **where: Any) -> None:
        began, error = time.monotonic(), None
        try:
            await producer.send(topic, value.encode(), **where)
        except Exception as raised:
            error = raised
        self.seconds.append(time.monotonic() - began)
        self.errors[value] = error

    async def send_all(self, producer: GuardedProducer, topic: str, values: Iterable[str]) -> None:
        """All at once."""
        await asyncio.gather(*(self.send(producer, topic, value) for value in values))

    @property
    def arrived(self) -> set[str]:
        return {value for value, error in self.errors.items() if error is None}

    @property
    def certainly_not(self) -> set[str]:
        return {value for value, error in self.errors.items() if error is not None and not possibly_delivered(error)}

    @property
    def in_doubt(self) -> set[str]:
        return set(self.errors) - self.arrived - self.certainly_not


def many(name: str) -> list[str]:
    return [f"{name} {number}" for number in range(200)]


async def after_repair(edge: Edge, producer: GuardedProducer, topic: str) -> Counter[str]:
    """What is in the topic when events arrive again, without those: by then everything else has been decided."""
    async with asyncio.timeout(10.0):
        while True:
            told = Told()
            await told.send(producer, topic, "repaired")
            if told.arrived:
                break
    # What aiokafka was given is sent before, or within its request timeout.
    await asyncio.sleep(producer.guard.timeout / 2)
    found = await asyncio.to_thread(edge.values, topic)
    del found["repaired"]
    return found


@BOTH
async def test_an_event_has_arrived_when_send_returns(edge: Edge, topic: str) -> None:
    guard = a_guard(timeout=5.0)

    async with producing(edge.address, guard) as producer:
        place = await producer.send(topic, b"viewed", key=b"alice", headers=[("trace", b"1")])

    assert (place.topic, place.offset) == (topic, 0)
    assert edge.values(topic) == {"viewed": 1}
    assert guard.counters.calls_success == guard.counters.attempts_ok == 1


@BOTH
async def test_no_acknowledgement_is_lost_among_many(edge: Edge, topic: str) -> None:
    guard, told = a_guard(timeout=10.0), Told()

    async with producing(edge.address, guard, max_batch_size=500) as producer:
        await told.send_all(producer, topic, many("viewed"))

    assert edge.values(topic) == dict.fromkeys(told.arrived, 1) == dict.fromkeys(many("viewed"), 1)
    assert guard.counters.calls_success == 200


async def test_settings_of_the_producer_are_respected(edge: Edge, topic: str) -> None:
    """Its serializers and its partitioner; and a partition that is given."""
    settings = {
        "key_serializer": str.encode,
        "value_serializer": lambda value: value.upper().encode(),
        "partitioner": lambda key, partitions, available: {b"alice": 2, b"bob": 3}[key],
    }

    async with producing(edge.address, a_guard(timeout=5.0), **settings) as producer:
        places = [await producer.send(topic, "viewed", key=key) for key in ("alice", "bob")]
        places.append(await producer.send(topic, "viewed", key="alice", partition=1))

    assert [place.partition for place in places] == [2, 3, 1]
    assert edge.values(topic) == {"VIEWED": 3}


@BOTH
async def test_what_never_left_does_not_arrive_when_a_broker_that_hung_goes_on(edge: Edge, topic: str) -> None:
    """What was on the wire does arrive; its sender has been told that it may."""
    guard, told = a_guard(), Told()
    async with producing(edge.address, guard) as producer:
        await told.send(producer, topic, "before", partition=0)
        edge.suffer("hang")
        first = asyncio.create_task(told.send(producer, topic, "on the wire", partition=0))
        # Its first step brings it to its broker's turn, the second is the turn.
        for _ in range(3):
            await asyncio.sleep(0)

        await told.send_all(producer, topic, many("during"))
        await first
        counted = guard.counters
        edge.suffer(None)
        found = await after_repair(edge, producer, topic)

    assert told.arrived == {"before"}
    assert told.in_doubt == {"on the wire"}
    assert len(told.certainly_not) == 200
    assert found == {"before": 1, "on the wire": 1}
    assert max(told.seconds) < TIMEOUT + SLACK
    assert counted.calls_timeout == 201


@BOTH
async def test_nothing_that_never_left_arrives_after_the_connection_broke(edge: Edge, topic: str) -> None:
    guard, told = a_guard(), Told()
    async with producing(edge.address, guard) as producer:
        await told.send(producer, topic, "before")
        edge.suffer("down")
        await told.send(producer, topic, "when it broke")

        await told.send_all(producer, topic, many("during"))
        edge.suffer(None)
        found = await after_repair(edge, producer, topic)

    assert told.arrived == {"before"}
    assert told.certainly_not == set(many("during"))
    assert found == {"before": 1}
    assert max(told.seconds) < TIMEOUT + SLACK


async def test_what_waits_for_room_in_a_batch_is_dropped_in_time_as_well(edge: Edge, topic: str) -> None:
    guard, told = a_guard(), Told()
    async with producing(edge.address, guard, max_batch_size=1) as producer:
        await told.send(producer, topic, "before")
        edge.suffer("hang")

        await told.send_all(producer, topic, many("during"))
        edge.suffer(None)
        found = await after_repair(edge, producer, topic)

    assert set(found) <= {"before"} | told.in_doubt
    assert len(told.certainly_not) > 150


async def test_the_other_brokers_events_do_not_wait_for_one_that_hangs(topic: str) -> None:
    keeper = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 3, "log_level": 0})
    brokers = sorted((broker.host, broker.port) for broker in keeper.list_topics(timeout=10.0).brokers.values())
    edge = FaultProxy("wallet -> kafka", brokers[0], protocol="kafka", rng=random.Random(1))
    await edge.start()
    told = Told()
    async with producing("{}:{}".format(*edge.address), a_guard()) as producer:
        cluster = producer.producer.client.cluster
        leaders: dict[int, int] = {}
        while len(set(leaders.values())) < 2:
            topic += "_"
            partitions = await producer.producer.partitions_for(topic)
            leaders = {place: cluster.leader_for_partition(TopicPartition(topic, place)) for place in partitions}
        await asyncio.gather(*(producer.send(topic, b"before", partition=place) for place in partitions))
        # One broker of the three; an edge as a whole would lose all of them.
        hung = cluster.broker_metadata(leaders[0])
        (gate,) = (gate for gate in edge._gates.values() if gate.address == (hung.host, hung.port))
        gate.suffer(Fault(kind="hang"))

        stuck = asyncio.create_task(told.send(producer, topic, "stuck", partition=0))
        for number in range(20):
            for place in partitions:
                if leaders[place] != leaders[0]:
                    await told.send(producer, topic, f"{number} to {place}", partition=place)
        assert not stuck.done()
        await stuck
        gate.suffer(None)

    await edge.stop()
    assert len(told.arrived) >= 20
    assert set(told.errors) - told.arrived == {"stuck"}


async def test_a_cancelled_event_is_dropped(edge: Edge, topic: str) -> None:
    guard = a_guard(timeout=5.0)
    async with producing(edge.address, guard) as producer:
        await producer.send(topic, b"before", partition=0)
        edge.suffer("hang")
        on_the_wire, cancelled, kept = (
            asyncio.create_task(producer.send(topic, value, partition=0)) for value in (b"wire", b"cancelled", b"kept")
        )
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled

        edge.suffer(None)
        await asyncio.gather(on_the_wire, kept)

    assert edge.values(topic) == {"before": 1, "wire": 1, "kept": 1}
    assert guard.counters.calls_cancelled == 1
    assert guard.in_flight == 0


@pytest.mark.parametrize("settings", [{}, {"idempotent": False}], ids=["by the event", "by the guard"])
async def test_what_never_left_is_repeated_even_if_it_must_not_come_twice(
    edge: Edge, topic: str, settings: dict[str, Any]
) -> None:
    guard = a_guard(attempts=3, timeout=0.2, **settings)
    async with producing(edge.address, guard) as producer:
        # Until answers are known to be fast: the first has to wait for its topic.
        for _ in range(3):
            await producer.send(topic, b"before")
        edge.suffer("down")
        await Told().send(producer, topic, "when it broke")
        before = guard.counters.attempts

        with pytest.raises(DeadlineExceededError) as raised:
            await producer.send(topic, b"viewed", idempotent=False)

    assert guard.counters.attempts == before + 3
    assert not possibly_delivered(raised.value)


@pytest.mark.parametrize(("idempotent", "attempts"), [(True, 2), (False, 1)])
async def test_what_may_have_arrived_is_repeated_only_if_it_may_come_twice(
    edge: Edge, topic: str, idempotent: bool, attempts: int
) -> None:
    guard = a_guard(attempts=2)
    async with producing(edge.address, guard) as producer:
        await producer.send(topic, b"before")
        edge.suffer("hang")

        with pytest.raises((RequestTimedOutError, DeadlineExceededError)) as raised:
            await producer.send(topic, b"viewed", idempotent=idempotent)
        edge.suffer(None)

    assert guard.counters.attempts_timeout == attempts
    assert possibly_delivered(raised.value)


async def test_an_event_that_is_too_large_is_no_failure_of_kafka(edge: Edge, topic: str) -> None:
    guard = a_guard(attempts=3)

    async with producing(edge.address, guard) as producer:
        with pytest.raises(MessageSizeTooLargeError) as raised:
            await producer.send(topic, b"x" * 2_000_000)

    assert not possibly_delivered(raised.value)
    assert guard.counters.attempts_ok == guard.counters.attempts == 1


async def test_a_topic_that_nobody_can_be_asked_about_is_a_failure_of_kafka(edge: Edge, topic: str) -> None:
    """aiokafka says that there is no such topic, which would be an answer."""
    guard = a_guard(timeout=2.0)
    async with producing(edge.address, guard, request_timeout_ms=100) as producer:
        edge.suffer("down")

        with pytest.raises(KafkaConnectionError) as raised:
            await producer.send(topic, b"viewed")

    assert not possibly_delivered(raised.value)
    assert guard.counters.attempts_error == guard.counters.attempts == 1


@pytest.mark.parametrize("bootstrap", [pytest.param("apache", marks=pytest.mark.kafka)], indirect=True)
async def test_a_topic_that_cannot_be_is_no_failure_of_kafka(edge: Edge) -> None:
    guard = a_guard(timeout=2.0)
    async with producing(edge.address, guard, request_timeout_ms=100) as producer:
        with pytest.raises(UnknownTopicOrPartitionError):
            await producer.send("no/such/topic", b"viewed")

    assert guard.counters.attempts_ok == guard.counters.attempts == 1


async def test_an_unknown_topic_is_waited_for_in_time_and_then_forgotten(edge: Edge, topic: str) -> None:
    guard, told = a_guard(), Told()
    async with producing(edge.address, guard, request_timeout_ms=600) as producer:
        edge.suffer("hang")
        await told.send_all(producer, topic, many("during"))
        edge.suffer(None)
        found = await after_repair(edge, producer, topic)

    assert told.certainly_not == set(many("during"))
    # So that it may be repeated, whatever the guard says of its calls.
    assert {type(error.__cause__) for error in told.errors.values() if error} == {ConnectionRefusedError}
    assert not found
    assert max(told.seconds) < TIMEOUT + SLACK


async def test_stopping_is_bounded_and_leaves_nobody_waiting(edge: Edge, topic: str) -> None:
    guard, told = a_guard(timeout=5.0), Told()
    async with producing(edge.address, guard) as producer:
        await producer.send(topic, b"before", partition=0)
        edge.suffer("hang")
        waiting = [asyncio.create_task(told.send(producer, topic, name, partition=0)) for name in ("wire", "queue")]
        await asyncio.sleep(0)
        late = asyncio.create_task(told.send(producer, topic, "later", partition=0))
        await asyncio.sleep(0)

        began = time.monotonic()
        await producer.stop(timeout=0.1)
        took = time.monotonic() - began
        await late
        edge.suffer(None)
        await asyncio.gather(*waiting)

        with pytest.raises(RuntimeError, match="the producer for guard 'kafka' is stopped"):
            await producer.send(topic, b"too late")

    assert took < 0.1 + SLACK
    assert isinstance(told.errors["later"], CallRejectedError)
    assert told.arrived == {"wire", "queue"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"request_timeout_ms": 601}, r"request_timeout_ms must be at most 600, .* 'kafka', got 601: give AIO.*=300"),
        ({}, "request_timeout_ms must be at most 600, .* got 40000"),
        (
            {"request_timeout_ms": 300, "enable_idempotence": True},
            "enable_idempotence and transactional_id must be left",
        ),
        ({"request_timeout_ms": 300, "transactional_id": "wallet"}, "enable_idempotence and transactional_id must be"),
    ],
)
async def test_settings_that_break_the_promise_are_refused(edge: Edge, settings: dict[str, Any], message: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=edge.address, **settings)

    with pytest.raises(ValueError, match=message):
        GuardedProducer(producer, guard=a_guard())

    await producer.stop()
