"""confluent-kafka under a guard, on real brokers behind an edge that breaks."""

import asyncio
import json
import logging
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

import pytest
from confluent_kafka import KafkaError, KafkaException

from shoal import DeadlineExceededError, Guard, deadline
from shoal.guard import Backoff, classify_kafka
from shoal.integrations.confluent_kafka import GuardedProducer, possibly_delivered

pytestmark = pytest.mark.server

BOTH = pytest.mark.parametrize(
    "bootstrap", ["in_memory", pytest.param("apache", marks=pytest.mark.kafka)], indirect=True
)
APACHE = pytest.mark.parametrize("bootstrap", [pytest.param("apache", marks=pytest.mark.kafka)], indirect=True)

TIMEOUT = 0.6
SLACK = 0.3
"""What a busy machine may add to a wait."""
MOST = 50
"""Of 200. On a machine too busy to tell in time that an event was withdrawn, it is in doubt for its sender."""


class Edge(Protocol):
    """See conftest.py."""

    address: str

    def suffer(self, kind: str | None, *, latency: float = 0.0) -> None: ...
    def values(self, topic: str) -> Counter[str]: ...


def a_guard(**settings: Any) -> Guard:
    """One that makes a single attempt and lets everything through, unless the test says otherwise."""
    plain = {"timeout": TIMEOUT, "attempts": 1, "breaker": None, "limit": None, "classify": classify_kafka}
    return Guard("kafka", **{**plain, "backoff": Backoff(initial=0.001, maximum=0.001), **settings})


@contextmanager
def producing(edge: Edge, guard: Guard, config: dict[str, Any] | None = None) -> Iterator[GuardedProducer]:
    # Once repaired, it is not to be waited for.
    quick = {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100}
    settings = {"bootstrap.servers": edge.address, "log_level": 0, **quick, **(config or {})}
    with GuardedProducer(settings, guard=guard) as producer:
        yield producer


class Told:
    """What the senders of many events were told, and after how many seconds."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception | None] = {}
        self.seconds: list[float] = []

    @contextmanager
    def noting(self, value: str) -> Iterator[None]:
        began, error = time.monotonic(), None
        try:
            yield
        except Exception as raised:
            error = raised
        self.seconds.append(time.monotonic() - began)
        self.errors[value] = error

    def send(self, producer: GuardedProducer, topic: str, values: list[str]) -> None:
        """One after the other, from this thread."""
        for value in values:
            with self.noting(value):
                producer.send(topic, value)

    def asend(self, producer: GuardedProducer, topic: str, values: list[str]) -> None:
        """All at once, from an event loop in this thread."""

        async def one(value: str) -> None:
            with self.noting(value):
                await producer.asend(topic, value)

        async def all_of_them() -> None:
            await asyncio.gather(*map(one, values))

        asyncio.run(all_of_them())

    @property
    def arrived(self) -> set[str]:
        return {value for value, error in self.errors.items() if error is None}

    @property
    def certainly_not(self) -> set[str]:
        return {value for value, error in self.errors.items() if error is not None and not possibly_delivered(error)}

    @property
    def in_doubt(self) -> set[str]:
        return set(self.errors) - self.arrived - self.certainly_not


def in_threads(*work: Callable[[], object]) -> None:
    """Do all of it at once, and wait."""
    with ThreadPoolExecutor(len(work)) as threads:
        for done in [threads.submit(one) for one in work]:
            done.result()


def from_everywhere(told: Told, producer: GuardedProducer, topic: str, name: str) -> None:
    """200 events: from two event loops, and from twenty threads."""
    in_threads(
        *(lambda i=i: told.asend(producer, topic, [f"{name} {i}.{n}" for n in range(90)]) for i in range(2)),
        *(lambda i=i: told.send(producer, topic, [f"{name} {i}"]) for i in range(20)),
    )


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


class Wire:
    """Statistics that tell when nothing is on the wire, and when an event is."""

    def __init__(self) -> None:
        self._quiet = threading.Event()
        self._busy = threading.Event()
        # One request at a time, and none but ours.
        self.config = {
            "max.in.flight": 1,
            "enable.metrics.push": False,
            "statistics.interval.ms": 10,
            "stats_cb": self._read,
        }

    def _read(self, statistics: str) -> None:
        read = json.loads(statistics)
        topics = read["topics"].values()
        if not any(broker["outbuf_cnt"] + broker["waitresp_cnt"] for broker in read["brokers"].values()):
            self._quiet.set()
        if any(partition["msgs_inflight"] for topic in topics for partition in topic["partitions"].values()):
            self._busy.set()

    def await_quiet(self) -> None:
        self._quiet.clear()
        assert self._quiet.wait(5.0)
        self._busy.clear()

    def await_event(self) -> None:
        assert self._busy.wait(5.0)


@BOTH
def test_an_event_has_arrived_when_send_returns(edge: Edge, topic: str) -> None:
    guard = a_guard(timeout=5.0)

    with producing(edge, guard) as producer:
        message = producer.send(topic, "viewed", key="alice", headers={"trace": b"1"})

    assert message.error() is None
    assert (message.topic(), message.offset()) == (topic, 0)
    assert edge.values(topic) == {"viewed": 1}
    assert guard.counters.calls_success == guard.counters.attempts_ok == 1


@BOTH
async def test_an_event_has_arrived_when_asend_returns(edge: Edge, topic: str) -> None:
    guard = a_guard(timeout=5.0)
    producer = GuardedProducer({"bootstrap.servers": edge.address, "log_level": 0}, guard=guard)

    message = await producer.asend(topic, b"viewed", key=b"alice", headers=[("trace", b"1")], partition=0)

    await asyncio.to_thread(producer.close)
    assert (message.topic(), message.partition(), message.offset()) == (topic, 0, 0)
    assert edge.values(topic) == {"viewed": 1}
    assert guard.counters.calls_success == 1


@BOTH
def test_no_report_is_lost_between_threads_and_event_loops(edge: Edge, topic: str) -> None:
    guard, told = a_guard(timeout=10.0), Told()

    with producing(edge, guard) as producer:
        from_everywhere(told, producer, topic, "viewed")

    assert len(told.arrived) == 200
    assert edge.values(topic) == dict.fromkeys(told.arrived, 1)
    assert guard.counters.calls_success == 200


@BOTH
def test_what_never_left_does_not_arrive_when_a_broker_that_hung_goes_on(edge: Edge, topic: str) -> None:
    """What was on the wire does arrive; its sender has been told that it may."""
    guard, told, wire = a_guard(), Told(), Wire()
    with producing(edge, guard, wire.config) as producer:
        told.send(producer, topic, ["before"])
        wire.await_quiet()
        edge.suffer("hang")
        first = threading.Thread(target=told.send, args=(producer, topic, ["on the wire"]))
        first.start()
        wire.await_event()

        from_everywhere(told, producer, topic, "during")
        first.join()
        counted = guard.counters
        edge.suffer(None)
        found = after_repair(edge, producer, topic)

    assert told.arrived == {"before"}
    assert "on the wire" in told.in_doubt
    assert len(told.certainly_not) > MOST
    assert found == {"before": 1, "on the wire": 1}
    assert max(told.seconds) < TIMEOUT + SLACK
    assert counted.calls_timeout == 201


@BOTH
@pytest.mark.parametrize("kind", ["down", "hang"])
def test_nothing_arrives_later_that_was_sent_while_there_was_no_connection(edge: Edge, topic: str, kind: str) -> None:
    guard, told = a_guard(), Told()
    edge.suffer(kind)
    with producing(edge, guard) as producer:
        from_everywhere(told, producer, topic, "during")
        counted = guard.counters
        edge.suffer(None)
        found = after_repair(edge, producer, topic)

    assert not told.arrived
    assert len(told.certainly_not) > MOST
    assert not found
    assert max(told.seconds) < TIMEOUT + SLACK
    assert counted.calls_timeout == counted.attempts_timeout == 200


def test_nothing_arrives_later_that_was_sent_after_the_connection_broke(edge: Edge, topic: str) -> None:
    guard, told = a_guard(), Told()
    with producing(edge, guard) as producer:
        told.send(producer, topic, ["before"])
        edge.suffer("down")

        from_everywhere(told, producer, topic, "during")
        edge.suffer(None)
        found = after_repair(edge, producer, topic)

    assert told.arrived == {"before"}
    assert len(told.certainly_not) > MOST
    assert found == {"before": 1}


def after_repair(edge: Edge, producer: GuardedProducer, topic: str) -> Counter[str]:
    """What is in the topic when events arrive again, without those: by then everything else has been decided."""
    until = time.monotonic() + 10.0
    while True:
        try:
            producer.send(topic, "repaired")
        except DeadlineExceededError:
            assert time.monotonic() < until
        else:
            found = edge.values(topic)
            del found["repaired"]
            return found


def test_an_event_whose_time_is_not_over_outlives_the_withdrawal_of_others(edge: Edge, topic: str) -> None:
    guard, told = a_guard(timeout=5.0), Told()
    edge.suffer("hang")

    def hurried() -> None:
        with deadline(0.2):
            told.send(producer, topic, ["hurried"])

    with producing(edge, guard) as producer:
        patient = threading.Thread(target=told.send, args=(producer, topic, ["patient"]))
        patient.start()
        hurried()
        hurried()
        edge.suffer(None)
        patient.join()

    assert told.arrived == {"patient"}
    assert edge.values(topic) == {"patient": 1}


async def test_a_cancelled_event_is_taken_back(edge: Edge, topic: str) -> None:
    guard = a_guard(timeout=5.0)
    edge.suffer("hang")
    producer = GuardedProducer({"bootstrap.servers": edge.address, "log_level": 0}, guard=guard)
    cancelled, kept = (asyncio.create_task(producer.asend(topic, name)) for name in ("cancelled", "kept"))
    await asyncio.sleep(0)

    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    # It is taken back by the producer's thread, at its next look.
    await asyncio.sleep(0.2)
    edge.suffer(None)
    await kept

    await asyncio.to_thread(producer.close)
    assert edge.values(topic) == {"kept": 1}
    assert guard.counters.calls_cancelled == 1
    assert guard.in_flight == 0


@pytest.mark.parametrize("settings", [{}, {"idempotent": False}], ids=["by the event", "by the guard"])
def test_what_never_left_is_repeated_even_if_it_must_not_come_twice(
    edge: Edge, topic: str, settings: dict[str, Any]
) -> None:
    guard = a_guard(attempts=3, timeout=0.2, **settings)
    edge.suffer("down")
    with producing(edge, guard) as producer, pytest.raises(DeadlineExceededError) as raised:
        producer.send(topic, "viewed", idempotent=False)

    assert guard.counters.attempts_timeout == 3
    assert not possibly_delivered(raised.value)


WAYS: dict[str, Callable[[GuardedProducer, str, bool], object]] = {
    "send": lambda producer, topic, idempotent: producer.send(topic, "viewed", idempotent=idempotent),
    "asend": lambda producer, topic, idempotent: asyncio.run(producer.asend(topic, "viewed", idempotent=idempotent)),
}


@pytest.mark.parametrize(("idempotent", "attempts"), [(True, 2), (False, 1)])
@pytest.mark.parametrize("way", WAYS)
def test_what_may_have_arrived_is_repeated_only_if_it_may_come_twice(
    edge: Edge, topic: str, way: str, idempotent: bool, attempts: int
) -> None:
    guard = a_guard(attempts=2)
    with producing(edge, guard) as producer:
        producer.send(topic, "before")
        edge.suffer("hang")

        with pytest.raises(DeadlineExceededError) as raised:
            WAYS[way](producer, topic, idempotent)
        edge.suffer(None)

    assert guard.counters.attempts == 1 + attempts
    assert possibly_delivered(raised.value)


def test_an_event_that_is_too_large_is_no_failure_of_kafka(edge: Edge, topic: str) -> None:
    guard = a_guard(attempts=3)

    with producing(edge, guard) as producer, pytest.raises(KafkaException) as raised:
        producer.send(topic, b"x" * 2_000_000)

    assert raised.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert not possibly_delivered(raised.value)
    assert guard.counters.attempts_ok == guard.counters.attempts == 1


@APACHE
def test_an_event_that_the_broker_finds_too_large_is_no_failure_of_kafka(edge: Edge, topic: str) -> None:
    guard = a_guard(attempts=3, timeout=5.0)

    with producing(edge, guard, {"message.max.bytes": 3_000_000}) as producer, pytest.raises(KafkaException) as raised:
        producer.send(topic, b"x" * 2_000_000)

    assert raised.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert not possibly_delivered(raised.value)
    assert guard.counters.attempts_ok == guard.counters.attempts == 1


async def test_a_full_queue_is_no_failure_of_kafka(edge: Edge, topic: str) -> None:
    guard = a_guard(timeout=5.0)
    edge.suffer("hang")
    settings = {"bootstrap.servers": edge.address, "log_level": 0, "queue.buffering.max.messages": 5}
    producer = GuardedProducer(settings, guard=guard)
    waiting = [asyncio.create_task(producer.asend(topic, f"viewed {number}")) for number in range(5)]
    await asyncio.sleep(0)

    with pytest.raises(BufferError) as raised:
        await producer.asend(topic, "one too many")

    assert not possibly_delivered(raised.value)
    assert guard.counters.attempts_error == 1
    assert guard.health().error_rate == 0.0
    edge.suffer(None)
    await asyncio.gather(*waiting)
    await asyncio.to_thread(producer.close)
    assert edge.values(topic) == {f"viewed {number}": 1 for number in range(5)}


def test_closing_waits_for_what_is_being_sent(edge: Edge, topic: str) -> None:
    guard, told, wire = a_guard(timeout=5.0), Told(), Wire()
    with producing(edge, guard, wire.config) as producer:
        producer.send(topic, "before")
        wire.await_quiet()
        edge.suffer("slow", latency=0.3)
        sender = threading.Thread(target=told.send, args=(producer, topic, ["viewed"]))
        sender.start()
        wire.await_event()

    sender.join()
    assert told.arrived == {"viewed"}


def test_closing_is_bounded_and_leaves_nobody_waiting(edge: Edge, topic: str) -> None:
    guard, told, wire = a_guard(timeout=30.0), Told(), Wire()
    with producing(edge, guard, wire.config) as producer:
        producer.send(topic, "before")
        wire.await_quiet()
        edge.suffer("hang")
        waiting = [
            threading.Thread(target=told.send, args=(producer, topic, [value]))
            for value in ("on the wire", "in the queue")
        ]
        waiting[0].start()
        wire.await_event()
        waiting[1].start()
        wait_until(lambda: guard.in_flight == 2)

        began = time.monotonic()
        producer.close(timeout=0.1)
        took = time.monotonic() - began
        for thread in waiting:
            thread.join(1.0)

    assert took < 0.1 + 1.0 + SLACK
    assert told.in_doubt == {"on the wire"}
    assert told.certainly_not == {"in the queue"}
    with pytest.raises(RuntimeError, match="the producer for guard 'kafka' is closed"):
        producer.send(topic, "late")


def test_a_callback_that_raises_costs_no_report(edge: Edge, topic: str, caplog: pytest.LogCaptureFixture) -> None:
    def complain(error: KafkaError) -> None:
        raise RuntimeError("no such log")

    edge.suffer("down")
    with producing(edge, a_guard(), {"error_cb": complain}) as producer, caplog.at_level(logging.ERROR):
        with pytest.raises(DeadlineExceededError):
            producer.send(topic, "lost")
        edge.suffer(None)
        assert not after_repair(edge, producer, topic)

    assert "kafka: a callback of the producer raised" in caplog.text
    assert "no such log" in caplog.text


def test_a_process_that_forgets_to_close_ends_all_the_same(edge: Edge, topic: str) -> None:
    edge.suffer("hang")
    program = f"""
from shoal import Guard
from shoal.integrations.confluent_kafka import GuardedProducer
producer = GuardedProducer({{"bootstrap.servers": "{edge.address}", "log_level": 0}}, guard=Guard("kafka", timeout=0.2))
try:
    producer.send("{topic}", "viewed")
except TimeoutError:
    print("told")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=20.0, text=True)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "told\n", "")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"message.timeout.ms": 601}, "message.timeout.ms must be 1 to 600, the timeout of guard 'kafka', got 601"),
        ({"message.timeout.ms": "601"}, "message.timeout.ms must be 1 to 600"),
        ({"delivery.timeout.ms": 601}, "message.timeout.ms must be 1 to 600"),
        ({"default.topic.config": {"message.timeout.ms": 601}}, "message.timeout.ms must be 1 to 600"),
        ({"message.timeout.ms": 0}, "message.timeout.ms must be 1 to 600"),
        ({"retries": 3}, "retries must be 0, got 3: what may have been written is the guard's to repeat"),
        ({"message.send.max.retries": "3"}, "retries must be 0"),
        ({"enable.idempotence": True}, "enable.idempotence must be False, got True"),
        ({"enable.idempotence": "true"}, "enable.idempotence must be False"),
        ({"transactional.id": "wallet"}, "transactional.id must be left out"),
        ({"delivery.report.only.error": True}, "delivery.report.only.error must be False, got True"),
        ({"linger.ms": 139}, "linger.ms must be at most 138, for the 0.6 s of guard 'kafka', got 139"),
        ({"queue.buffering.max.ms": "139"}, "linger.ms must be at most 138"),
    ],
)
def test_settings_that_break_the_promise_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GuardedProducer({"bootstrap.servers": "127.0.0.1:9", **config}, guard=a_guard())


def test_settings_that_keep_the_promise_are_taken(edge: Edge, topic: str) -> None:
    config: dict[str, Any] = {"message.timeout.ms": "300", "retries": "0", "enable.idempotence": "false"}
    config |= {"linger.ms": "20", "default.topic.config": {"acks": 1}}
    began = time.monotonic()

    edge.suffer("down")
    with producing(edge, a_guard(timeout=5.0), config) as producer, pytest.raises(DeadlineExceededError):
        producer.send(topic, "lost")

    assert time.monotonic() - began < 0.3 + SLACK
