"""Events to Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import json

from aiokafka import AIOKafkaProducer

BALANCE_VIEWED = "balance_viewed"
HEALTHCHECK = "healthcheck"


class Events:
    """A producer that connects when first used, so that a pod can start while Kafka is away."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def emit(self, topic: str, event: dict[str, object]) -> None:
        """Send *event* and wait until the broker has it."""
        producer = self._producer or await self._start()
        await producer.send_and_wait(topic, json.dumps(event).encode())

    async def _start(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, request_timeout_ms=5_000)
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def open(self) -> None:
        """The connection is made when it is needed."""

    async def close(self) -> None:
        """Stop, waiting at most a second for a broker that may be gone."""
        if self._producer is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._producer.stop()
