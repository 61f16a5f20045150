"""activity: what customers looked at lately, from the `balance_viewed` events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer

import shoal
from shoal_lab.company.app import App, counted, declare, web
from shoal_lab.company.events import BALANCE_VIEWED, HEALTHCHECK, Events
from shoal_lab.company.settings import PodSettings

log = logging.getLogger(__name__)


class Consumer:
    """Reads the events of the partitions this replica owns, and commits what it has read.

    *beat* is called at each turn of the loop, idle or not.
    """

    def __init__(self, bootstrap: str, group: str, beat: Callable[[], None]) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._beat = beat
        self._task: asyncio.Task[None] | None = None
        self._going_on = asyncio.Event()
        self._going_on.set()
        self.recent: deque[str] = deque(maxlen=20)
        self.consumed = 0

    async def open(self) -> None:
        """Begin to consume."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Leave the group and stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def order(self, order: str) -> None:
        """Stop making progress, or go on: what the lab does to a consumer."""
        if order == "stop-consumer":
            self._going_on.clear()
        elif order == "resume-consumer":
            self._going_on.set()

    async def _run(self) -> None:
        while True:
            consumer = AIOKafkaConsumer(
                BALANCE_VIEWED,
                bootstrap_servers=self._bootstrap,
                group_id=self._group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                session_timeout_ms=6_000,
                heartbeat_interval_ms=1_000,
            )
            try:
                await consumer.start()
                await self._consume(consumer)
            except Exception as error:  # noqa: BLE001  a consumer that gives up is worse than one that starts again
                log.warning("consumer starts again: %s", error)
            finally:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(2.0):
                        await consumer.stop()
            self._beat()
            await asyncio.sleep(0.5)

    async def _consume(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            await self._going_on.wait()
            batches = await consumer.getmany(timeout_ms=200, max_records=500)
            for messages in batches.values():
                self.recent.extend(json.loads(message.value)["user"] for message in messages)
                self.consumed += len(messages)
            if batches:
                await consumer.commit()
            self._beat()


def create(settings: PodSettings) -> App:
    """The service, declared and wired."""
    service = declare(settings)
    bootstrap = settings.targets["kafka"]
    kafka = service.dependency("kafka", target=f"kafka://{bootstrap}", **settings.policies(timeout=0.5))
    service.journey("recent-activity", routes=["GET /activity"], needs=[])
    events = Events(bootstrap)

    @kafka.check(every=5.0, timeout=1.0)
    async def emit_healthcheck() -> None:
        await events.emit(HEALTHCHECK, {"from": settings.pod})

    consumer = Consumer(bootstrap, settings.consumer_group, _beat(service, settings))
    app = web(settings, events, consumer)

    @app.get("/activity")
    async def activity() -> dict[str, object]:
        return {"recent": list(consumer.recent), "consumed": consumer.consumed}

    return App(service=service, asgi=counted(app, service), order=consumer.order)


def _beat(service: shoal.Service, settings: PodSettings) -> Callable[[], None]:
    # The article's liveness says "the process runs"; from `shallow` on it is about the work of this process.
    if settings.remedies.readiness == "deep":
        return lambda: None
    return service.heartbeat("consumer", stalled_after=settings.platform(30.0)).beat
