"""How far the consumers of `activity` are behind, by the broker's own books."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition


class LagMeter:
    """Compares the end of each partition with what the group has committed; joins nothing, consumes nothing."""

    def __init__(self, bootstrap: str, *, topic: str, group: str) -> None:
        self._topic = topic
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
        self._start: dict[TopicPartition, int] = {}

    async def open(self) -> None:
        """Connect, and let the group begin where the partitions end now: what was there before is not its lag.

        The group must not have a member yet.
        """
        try:
            await self._begin()
        except BaseException:
            await self._consumer.stop()
            raise

    async def _begin(self) -> None:
        await self._consumer.start()
        partitions = await self._partitions()
        self._consumer.assign(partitions)
        self._start = await self._consumer.end_offsets(partitions)
        await self._consumer.commit(self._start)

    async def read(self) -> int:
        """Events emitted and not yet committed by the group."""
        # In this order: what is emitted in between is late by a moment, and never consumed before it was emitted.
        done = {partition: await self._consumer.committed(partition) or 0 for partition in self._start}
        ends = await self._consumer.end_offsets(list(self._start))
        return sum(end - max(self._start[partition], done[partition]) for partition, end in ends.items())

    async def aclose(self) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def _partitions(self) -> list[TopicPartition]:
        await self._consumer._client.force_metadata_update()
        numbers = self._consumer.partitions_for_topic(self._topic) or set()
        return [TopicPartition(self._topic, number) for number in sorted(numbers)]
