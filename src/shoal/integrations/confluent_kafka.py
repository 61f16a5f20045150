"""confluent-kafka: events that have arrived when `send` returns, and are not sent any more when it has raised.

Made for confluent-kafka 2.6 and newer. Its AIOProducer is no help with single events: it keeps them to collect more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias

from confluent_kafka import KafkaError, KafkaException, Message

from shoal import DeadlineExceededError
from shoal._clock import SYSTEM_CLOCK
from shoal.guard import Guard

from ._kafka import Doubt, never_left, possibly_delivered
from ._outbox import NEVER_LEFT, Delivery, Outbox, Report

__all__ = ["GuardedProducer", "possibly_delivered"]

Headers: TypeAlias = Mapping[str, str | bytes | None] | Sequence[tuple[str, str | bytes | None]]

_ALIASES = {
    "delivery.timeout.ms": "message.timeout.ms",
    "message.send.max.retries": "retries",
    "queue.buffering.max.ms": "linger.ms",
    "max.in.flight": "max.in.flight.requests.per.connection",
}
_MUST_BE = (
    ("enable.idempotence", False, "its numbered sequence of events does not bear that events are withdrawn"),
    ("retries", 0, "what may have been written is the guard's to repeat, who pays for it; the rest is repeated anyway"),
    ("delivery.report.only.error", False, "every event's report is waited for"),
)
# librdkafka's own default, in milliseconds.
_MESSAGE_TIMEOUT = 300_000.0
# Requests on the wire per broker, as with Java's client: what is in doubt when a broker falls silent. librdkafka's own
# limit is a million, and would leave everything in doubt.
_IN_FLIGHT = 5

# Seconds between two looks of the producer's thread while nobody waits.
_IDLE = 0.1

# After these answers of brokers the event may be in the topic all the same.
_DOUBTFUL = frozenset(
    {
        KafkaError.UNKNOWN,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.KAFKA_STORAGE_ERROR,
    }
)


class GuardedProducer:
    """Sends events under *guard* with a producer of its own, each waiting for its acknowledgement.

    An event that has not been sent when its time is over is taken back from the producer's queue, and only then is its
    sender told: it does not arrive later, when Kafka is there again. librdkafka by itself looks at its timeouts once a
    second, and goes on sending what it has not looked at.

    What was on the wire when a broker fell silent cannot be taken back: nobody knows whether the broker has read it, or
    will. See `possibly_delivered`; it is at most 5 requests for each broker, unless *config* says otherwise by
    `max.in.flight`.

    *config* is confluent-kafka's. If missing, `message.timeout.ms` is set to the guard's timeout, `linger.ms` to 0, and
    `retries` to 0: librdkafka repeats what was certainly not written, and the guard, who pays for it, repeats the rest.
    Raises ValueError for a longer timeout, for retries, idempotence and transactions, and for a `linger.ms` that takes
    too much of the guard's timeout.

    Give the guard `classify=shoal.guard.classify_kafka`, or an event that is too large would count against Kafka::

        guard = Guard("kafka", timeout=0.5, classify=classify_kafka)
        with GuardedProducer({"bootstrap.servers": "broker:9092"}, guard=guard) as producer:
            producer.send("balance_viewed", event, key=user)

    Any number of threads and event loops may share one producer. Events of one sender keep their order if it waits for
    each of them. A thread serves the producer until `close`.
    """

    __slots__ = ("_margin", "_outbox", "_patience", "guard")

    def __init__(self, config: Mapping[str, Any], *, guard: Guard) -> None:
        settings = _settings(config, guard)
        linger = float(settings["linger.ms"]) / 1000
        pause = min(0.05, max(0.01, guard.timeout / 50))
        longest = guard.timeout / 4 - pause
        if linger > longest:
            raise ValueError(
                f"linger.ms must be at most {1000 * longest:.0f}, for the {guard.timeout:g} s of guard {guard.name!r}, "
                f"got {1000 * linger:g}: make it smaller, or give the guard a longer timeout"
            )
        # Longer than librdkafka keeps events to collect more: one that is handed over again must get out in between.
        every = pause + linger
        # What taking back needs: the thread looks, librdkafka's threads obey, and those who wait hear of it.
        self._margin = every + min(0.1, guard.timeout / 10)
        self.guard = guard
        self._patience = settings["message.timeout.ms"] / 1000
        self._outbox = Outbox(settings, name=guard.name, every=every, idle=min(_IDLE, guard.timeout / 5))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def send(
        self,
        topic: str,
        value: str | bytes | None = None,
        *,
        key: str | bytes | None = None,
        headers: Headers | None = None,
        partition: int = -1,
        idempotent: bool = True,
    ) -> Message:
        """Send one event and return it as acknowledged, with its partition and offset.

        *idempotent*: False for an event that must not come twice: it is repeated only if it certainly did not arrive.
        Raises KafkaException, BufferError when the producer's queue is full, DeadlineExceededError or
        CallRejectedError; `possibly_delivered` says which of these leave it open whether the event arrives.
        """
        self._check_open()
        event = {"topic": topic, "value": value, "key": key, "headers": headers, "partition": partition}
        return Doubt(self.guard, idempotent=idempotent).run(partial(self._attempt, event))

    async def asend(
        self,
        topic: str,
        value: str | bytes | None = None,
        *,
        key: str | bytes | None = None,
        headers: Headers | None = None,
        partition: int = -1,
        idempotent: bool = True,
    ) -> Message:
        """`send` for asyncio. The event of a cancelled one is taken back too, if it is not on the wire already."""
        self._check_open()
        event = {"topic": topic, "value": value, "key": key, "headers": headers, "partition": partition}
        return await Doubt(self.guard, idempotent=idempotent).arun(partial(self._aattempt, event))

    def close(self, *, timeout: float | None = None) -> None:
        """Wait at most *timeout* seconds, the guard's if None, for what is being sent; take back the rest, and end.

        Returns a second later than that at the latest, whatever the brokers do. In asyncio call it by
        `asyncio.to_thread`. May be called again.
        """
        self._outbox.close(min(self.guard.timeout, self._patience) if timeout is None else timeout)

    def _check_open(self) -> None:
        if self._outbox.closed:
            raise RuntimeError(f"the producer for guard {self.guard.name!r} is closed")

    def _attempt(self, event: dict[str, Any], doubt: Doubt) -> Message:
        delivery, seconds = self._begin(event)
        try:
            report = delivery.future.result(seconds)
        except BaseException as error:
            delivery.withdraw(doubt)
            if isinstance(error, TimeoutError):
                raise DeadlineExceededError(self.guard.name, timeout=seconds) from None
            raise
        return self._read(report, seconds, doubt)

    async def _aattempt(self, event: dict[str, Any], doubt: Doubt) -> Message:
        delivery, seconds = self._begin(event)
        try:
            # A little before the guard would, which does not know what has become of the event.
            async with asyncio.timeout(seconds - self._margin / 5):
                report = await asyncio.wrap_future(delivery.future)
        except (TimeoutError, asyncio.CancelledError) as error:
            delivery.withdraw(doubt)
            if isinstance(error, TimeoutError):
                raise DeadlineExceededError(self.guard.name, timeout=seconds) from None
            raise
        return self._read(report, seconds, doubt)

    def _begin(self, event: dict[str, Any]) -> tuple[Delivery, float]:
        seconds = min(self.guard.remaining(), self._patience)
        if seconds <= self._margin:
            raise never_left(self.guard.name, within=seconds)
        return self._outbox.send(event, until=SYSTEM_CLOCK.now() + seconds - self._margin), seconds

    def _read(self, report: Report, seconds: float, doubt: Doubt) -> Message:
        error, message = report
        if error is None:
            return message
        code = error.code()
        if code == KafkaError._PURGE_QUEUE and not self._outbox.closed:
            raise never_left(self.guard.name, within=seconds)
        # Below 0 are librdkafka's own reports.
        if code in _DOUBTFUL or (code < 0 and code not in NEVER_LEFT):
            doubt.arises()
        if code == KafkaError._MSG_TIMED_OUT:
            raise DeadlineExceededError(self.guard.name, timeout=seconds) from KafkaException(error)
        raise KafkaException(error)


def _settings(config: Mapping[str, Any], guard: Guard) -> dict[str, Any]:
    """What librdkafka is given. Raises ValueError if *config* would deliver late, twice, or without a report."""
    given = {**config.get("default.topic.config", {}), **config}
    given.pop("default.topic.config", None)
    settings = {_ALIASES.get(name, name): value for name, value in given.items()}
    limit = guard.timeout * 1000
    timeout = int(settings.get("message.timeout.ms", min(limit, _MESSAGE_TIMEOUT)))
    if not 0 < timeout <= limit:
        raise ValueError(
            f"message.timeout.ms must be 1 to {limit:g}, the timeout of guard {guard.name!r}, got {timeout}: leave it "
            "out, or give the guard a longer timeout"
        )
    settings["message.timeout.ms"] = timeout
    for name, value, reason in _MUST_BE:
        if str(settings.setdefault(name, value)).lower() != str(value).lower():
            raise ValueError(f"{name} must be {value}, got {settings[name]}: {reason}")
    if settings.get("transactional.id"):
        raise ValueError("transactional.id must be left out: no event of a transaction has arrived before its end")
    settings.setdefault("max.in.flight.requests.per.connection", _IN_FLIGHT)
    # Somebody waits for each event; what comes while requests are on the wire is collected all the same.
    settings.setdefault("linger.ms", 0)
    return settings
