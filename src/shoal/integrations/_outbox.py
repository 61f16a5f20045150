"""What a confluent-kafka producer lacks: to take single events back, in time."""

from __future__ import annotations

import logging
import math
import threading
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeAlias

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from shoal import CallRejectedError
from shoal._clock import SYSTEM_CLOCK

from ._kafka import Doubt

logger = logging.getLogger(__name__)

# Seconds that the thread gets to end in.
_GRACE = 1.0
# Seconds, less than librdkafka waits before it sends again what a broker has turned down (retry.backoff.ms, 100).
_RECALL = 0.05

NEVER_LEFT = frozenset({KafkaError._PURGE_QUEUE, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
"""Reports of events of which nothing was sent. This holds without retries only."""

Report: TypeAlias = tuple[KafkaError | None, Message]


class Delivery:
    """One attempt to deliver an event, which is to be withdrawn at the time *until*."""

    __slots__ = ("event", "future", "recalled", "until")

    def __init__(self, event: dict[str, Any], *, until: float) -> None:
        self.event = event
        self.until = until
        self.recalled = False
        self.future: Future[Report] = Future()

    def withdraw(self, doubt: Doubt) -> None:
        """Nobody waits for it any more."""
        self.until = -math.inf
        # The report may have come at the last moment.
        if self.future.done() and not self.future.cancelled() and not self.future.exception():
            error, _ = self.future.result()
            if error is not None and error.code() in NEVER_LEFT:
                return
        doubt.arises()

    def settle(self, end: Report | Exception) -> None:
        """It is decided what has become of it."""
        # Whoever waited for it may have been cancelled.
        if self.future.set_running_or_notify_cancel():
            if isinstance(end, Exception):
                self.future.set_exception(end)
            else:
                self.future.set_result(end)


class Outbox:
    """A producer, the thread that serves it, and the deliveries that are not settled.

    The thread looks for overdue deliveries every so many seconds, *idle* while there are none at all.
    """

    def __init__(self, settings: dict[str, Any], *, name: str, every: float, idle: float) -> None:
        self.closed = False
        self._name = name
        self._every = every
        self._idle = idle
        self._lock = threading.Lock()
        self._open: set[Delivery] = set()
        self._again: list[Delivery] = []
        self._recall_at = 0.0
        self._end_at = math.inf
        self._ending = False
        self._producer = Producer(settings)
        self._thread = threading.Thread(target=self._serve, name=f"shoal-kafka-{name}", daemon=True)
        self._thread.start()

    def send(self, event: dict[str, Any], *, until: float) -> Delivery:
        """Hand an event to the producer. Raises BufferError, KafkaException, or CallRejectedError after `close`."""
        delivery = Delivery(event, until=until)
        with self._lock:
            if self.closed:
                raise CallRejectedError(self._name)
            self._hand_over(delivery)
            self._open.add(delivery)
        return delivery

    def close(self, timeout: float) -> None:
        """Wait so many seconds for what is open, then end it."""
        with self._lock:
            if not self.closed:
                self.closed = True
                self._end_at = SYSTEM_CLOCK.now() + timeout
        self._thread.join(timeout + _GRACE)

    def _hand_over(self, delivery: Delivery) -> None:
        self._producer.produce(**delivery.event, on_delivery=partial(self._reported, delivery))

    def _discard(self, delivery: Delivery) -> None:
        with self._lock:
            self._open.discard(delivery)

    def _reported(self, delivery: Delivery, error: KafkaError | None, message: Message) -> None:
        """What librdkafka calls, by our thread, when it has done with an event."""
        taken_back = error is not None and error.code() == KafkaError._PURGE_QUEUE
        if taken_back and not self._ending and SYSTEM_CLOCK.now() < delivery.until:
            # It was not meant: librdkafka gives back all of its queue or nothing.
            self._again.append(delivery)
            return
        self._discard(delivery)
        delivery.settle((error, message))

    def _serve(self) -> None:
        look_at = 0.0
        while True:
            now = SYSTEM_CLOCK.now()
            with self._lock:
                if self.closed and (not self._open or now >= self._end_at):
                    break
                overdue = [each for each in self._open if each.until <= now] if now >= look_at else []
            self._recall(overdue, now)
            if now >= look_at:
                look_at = now + self._every
            self._poll(look_at - now if self._open else self._idle)
            self._send_again()
        self._end()

    def _recall(self, overdue: list[Delivery], now: float) -> None:
        """Take back what is overdue; again and again while it is on the wire, since a broker may turn it down."""
        if not overdue or (now < self._recall_at and all(delivery.recalled for delivery in overdue)):
            return
        # Does not wait for librdkafka's threads: one of them may be looking up a name.
        self._producer.purge(in_queue=True, in_flight=False, blocking=False)
        self._recall_at = now + _RECALL
        for delivery in overdue:
            delivery.recalled = True

    def _poll(self, seconds: float) -> None:
        try:
            self._producer.poll(seconds)
        except Exception:
            # Of a callback in the settings, such as error_cb. Those who wait for reports must not suffer from it.
            logger.exception("%s: a callback of the producer raised", self._name)

    def _send_again(self) -> None:
        again, self._again = self._again, []
        for delivery in again:
            try:
                self._hand_over(delivery)
            except (BufferError, KafkaException) as error:
                self._discard(delivery)
                delivery.settle(error)

    def _end(self) -> None:
        self._ending = True
        self._producer.purge(blocking=False)
        until = SYSTEM_CLOCK.now() + _GRACE / 2
        while self._open and SYSTEM_CLOCK.now() < until:
            self._poll(self._every)
        with self._lock:
            left, self._open = self._open, set()
        for delivery in left:
            delivery.settle(KafkaException(KafkaError(KafkaError._PURGE_INFLIGHT)))
        # Here and not when somebody drops the last reference to us: it waits for librdkafka's threads.
        del self._producer
