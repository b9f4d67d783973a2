"""How far the relay got: by its cursor, which moves in the transaction of the events, and by the events themselves."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from service.bench.place import Place
from service.bench.scale import BenchError, Say
from service.bench.worker import Worker

LOOK_SECONDS = 0.03
SAY_SECONDS = 1.0
SILENCE_SECONDS_MAX = 60.0


class Patience:
    """Fails when the worker ended or nothing moved for a minute, and says how far things are now and then."""

    def __init__(self, worker: Worker, total: int, what: str, say: Say) -> None:
        self._worker = worker
        self._total = total
        self._what = what
        self._say = say
        self._done = -1
        self._moved_at = self._said_at = monotonic()

    def note(self, done: int) -> None:
        """Hear how many are done."""
        now = monotonic()
        self._worker.check()
        if done != self._done:
            self._done, self._moved_at = done, now
        elif now - self._moved_at > SILENCE_SECONDS_MAX:
            raise BenchError(
                f"{self._what}: stuck at {done} of {self._total} for {SILENCE_SECONDS_MAX:.0f} s; "
                f"the worker's last words: {self._worker.last_words()}"
            )
        if now - self._said_at > SAY_SECONDS:
            self._said_at = now
            self._say(f"{self._what}: {done:,} of {self._total:,}")


class Cursors:
    """The relay's cursors in Kafka, one per partition: rows below one are there for every read_committed reader."""

    def __init__(self, place: Place, client: AIOKafkaAdminClient) -> None:
        self._place = place
        self._client = client
        self._expected = [1] * place.settings.partitions

    async def until_published(self, counts: Sequence[int], worker: Worker, what: str, say: Say) -> float:
        """Wait until so many more rows of each partition are published; return the monotonic time they were."""
        self._expected = [expected + count for expected, count in zip(self._expected, counts, strict=True)]
        total = sum(counts)
        patience = Patience(worker, total, what, say)
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            missing = await self._missing()
            at = monotonic()
            if missing == 0:
                return at
            patience.note(total - missing)

    async def _missing(self) -> int:
        """Return how many rows are not published; all of them while the cursors' group has no coordinator yet."""
        parts = self._place.parts
        try:
            found = await self._client.list_consumer_group_offsets(self._place.cursor_group, partitions=parts)
        except KafkaError:
            found = {}
        cursors = [max(found[part].offset, 1) if part in found else 1 for part in parts]
        return sum(expected - cursor for expected, cursor in zip(self._expected, cursors, strict=True))


class Events:
    """Reads the events topic as a careful subscriber does, and counts."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._count = 0

    async def until_read(self, count: int, worker: Worker, what: str, say: Say) -> None:
        """Wait until so many more events were read; more than that is an error."""
        due = self._count + count
        patience = Patience(worker, count, what, say)
        while self._count < due:
            found = await self._consumer.getmany(timeout_ms=500)
            self._count += sum(map(len, found.values()))
            patience.note(self._count - due + count)
        if self._count > due:
            raise BenchError(f"{what}: {self._count - due} more events than commands")


@asynccontextmanager
async def cursors(place: Place) -> AsyncIterator[Cursors]:
    """Look at the cursors of a place where nothing was published yet."""
    client = AIOKafkaAdminClient(bootstrap_servers=place.bootstrap_servers)
    await client.start()
    try:
        yield Cursors(place, client)
    finally:
        await client.close()


@asynccontextmanager
async def events(place: Place) -> AsyncIterator[Events]:
    """Read the events of a place from their start."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=place.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(place.settings.topics.events, part.partition) for part in place.parts])
        yield Events(consumer)
    finally:
        await consumer.stop()
