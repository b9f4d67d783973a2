"""What the broker knows of one partition: bounds, cursor, what was published, its commands.

It is asked when log and store have parted, and when recorded commands are judged again.
Each is read without joining any group, and nothing is changed.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from contracts.topics import Topics
from handlers.decode import ids_of
from service.broker import lenient
from service.broker.cluster import TopicsError, admin
from service.broker.cursor import cursor_group, read_cursor

SECONDS_MAX = 600.0
QUIET_SECONDS_MAX = 30.0
# The relay's clock and the database's may differ, and what is decided is published later.
SLACK_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Positions:
    """One partition: the commands' first and next offset, and the relay's cursor, None where the broker has none."""

    start: int
    end: int
    cursor: int | None


class Reader:
    """Reads single partitions by hand; from `reading`."""

    def __init__(self, bootstrap_servers: str, topics: Topics, group_id: str, consumer: AIOKafkaConsumer) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topics = topics
        self._cursor_group = cursor_group(group_id)
        self._consumer = consumer

    async def positions(self, part: int) -> Positions:
        """Return where the commands begin and end, and how far the relay got."""
        key = TopicPartition(self._topics.commands, part)
        start = await self._consumer.beginning_offsets([key])
        end = await self._consumer.end_offsets([key])
        async with admin(self._bootstrap_servers) as client:
            cursor = await read_cursor(client, self._cursor_group, key)
        return Positions(start[key], end[key], cursor)

    async def command_id(self, part: int, offset: int) -> str | None:
        """Return the command id in the record at an offset, None where there is no such record or no id in it."""
        key = TopicPartition(self._topics.commands, part)
        async for records in self._read(key, offset, offset + 1):
            for record in records:
                if record.offset == offset:
                    found = ids_of(record)
                    return None if found is None else found.command_id
        return None

    async def commands(self, part: int, offsets: Collection[int]) -> AsyncIterator[ConsumerRecord]:
        """Yield those records of the commands topic that are at these offsets and still there."""
        key = TopicPartition(self._topics.commands, part)
        first = (await self._consumer.beginning_offsets([key]))[key]
        last = (await self._consumer.end_offsets([key]))[key]
        async for records in self._read(
            key, max(min(offsets, default=last), first), min(max(offsets, default=-1) + 1, last)
        ):
            for record in records:
                if record.offset in offsets:
                    yield record

    async def events(self, part: int, since_ms: int | None) -> AsyncIterator[list[tuple[str, int, str]]]:
        """Yield events published since about then, None for all: workflow id, sequence and event id of each."""
        key = TopicPartition(self._topics.events, part)
        start = (await self._consumer.beginning_offsets([key]))[key]
        end = (await self._consumer.end_offsets([key]))[key]
        if since_ms is not None:
            found = (await self._consumer.offsets_for_times({key: max(since_ms - SLACK_MS, 0)}))[key]
            start = end if found is None else found.offset
        async for records in self._read(key, start, end):
            yield [_named(record) for record in records]

    async def _read(self, key: TopicPartition, start: int, end: int) -> AsyncIterator[Sequence[ConsumerRecord]]:
        self._consumer.assign([key])
        self._consumer.seek(key, start)
        loop = asyncio.get_running_loop()
        quiet_since, position = loop.time(), start
        while position < end:
            records = (await self._consumer.getmany(key, timeout_ms=500)).get(key, [])
            yield [record for record in records if record.offset < end]
            before, position = position, await self._consumer.position(key)
            if position > before:
                quiet_since = loop.time()
            elif loop.time() - quiet_since > QUIET_SECONDS_MAX:
                raise TopicsError(f"{key.topic} partition {key.partition} gives nothing from offset {position} on")


@asynccontextmanager
async def reading(
    bootstrap_servers: str, topics: Topics, group_id: str, *, seconds_max: float | None = SECONDS_MAX
) -> AsyncIterator[Reader]:
    """Open a reader for the block; raises TopicsError where the broker does not answer."""
    lenient.install()  # it reads what a worker has read
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="none",
        enable_auto_commit=False,
        fetch_max_wait_ms=100,
    )
    try:
        async with asyncio.timeout(seconds_max):
            await consumer.start()
            yield Reader(bootstrap_servers, topics, group_id, consumer)
    except (KafkaError, OSError) as reason:  # TimeoutError is an OSError
        raise TopicsError(f"the broker at {bootstrap_servers} does not tell: {reason!r}") from reason
    finally:
        await consumer.stop()


def _named(record: ConsumerRecord) -> tuple[str, int, str]:
    body = orjson.loads(record.value)
    return str(body["workflow_id"]), int(body["sequence"]), str(body["event_id"])
