"""The commands topic as this worker's consumer sees it, and what rebalances ask of the worker."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from contracts.topics import Topics
from handlers.faults import Transient
from service.broker.consumer import WatchedConsumer

BOUNDS_SECONDS_MAX = 5.0


class ConsumerLog:
    """Implements `handlers.ports.Log` on the subscriber's consumer; a partition lost meanwhile is transient."""

    def __init__(self, topics: Topics) -> None:
        self._topic = topics.commands
        self._scheduler = topics.scheduler
        self.consumer: WatchedConsumer | None = None

    async def bounds(self, part: int) -> tuple[int, int]:
        """Return the first offset that is there and the next one to be written."""
        consumer, key = self._consumer(), self._key(part)
        try:
            async with asyncio.timeout(BOUNDS_SECONDS_MAX):
                start = await consumer.beginning_offsets([key])
                end = await consumer.end_offsets([key])
        except (KafkaError, OSError, TimeoutError) as error:
            raise Transient(f"the broker does not tell the bounds of partition {part}: {error!r}") from error
        return start[key], end[key]

    def seek(self, part: int, offset: int) -> None:
        """Read on from `offset`."""
        try:
            self._consumer().seek(self._key(part), offset)
        except IllegalStateError as error:
            raise Transient(f"partition {part} is no longer assigned") from error

    def passed(self, part: int) -> int:
        """Return the offset before which every command since the last seek was handed over."""
        return 0 if self.consumer is None else self.consumer.passed(self._key(part))

    def pause(self, part: int) -> None:
        """Stop fetching commands, if the partition is still assigned."""
        consumer = self.consumer
        if consumer is not None and self._key(part) in consumer.assignment():
            consumer.pause(self._key(part))

    def resume(self, part: int) -> None:
        """Fetch commands again, if the partition is still assigned."""
        consumer = self.consumer
        if consumer is not None and self._key(part) in consumer.assignment():
            consumer.resume(self._key(part))

    def generation(self) -> int:
        """Return the consumer group's generation, 0 before there is one."""
        coordinator = getattr(self.consumer, "_coordinator", None)
        return max(int(getattr(coordinator, "generation", 0)), 0)

    def _key(self, part: int) -> TopicPartition:
        return TopicPartition(self._topic, part)

    def _consumer(self) -> WatchedConsumer:
        if self.consumer is None:
            raise Transient("the consumer is not started")
        return self.consumer


class Rebalances(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Tells the worker which commands partitions come and go; only partitions of the commands topic count."""

    def __init__(
        self,
        topics: Topics,
        *,
        assigned: Callable[[Iterable[int]], None],
        revoked: Callable[[Iterable[int]], Awaitable[None]],
    ) -> None:
        self._topic = topics.commands
        self._assigned = assigned
        self._revoked = revoked

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Drain what is taken away before another worker gets it."""
        await self._revoked(self._parts(revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Start claiming; nothing is taken until the store says so."""
        self._assigned(self._parts(assigned))

    def _parts(self, keys: Iterable[TopicPartition]) -> list[int]:
        return sorted(key.partition for key in keys if key.topic == self._topic)
