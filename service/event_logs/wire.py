"""The commands and replies topics as a producer of commands sees them.

Order per key is what an import lives on, so a partition has one hand-built batch in flight at most: it is written
whole or sent again whole, and what was written twice comes back as a duplicate.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from contracts.topics import Topics
from handlers.placement import partition_of
from service.event_logs.commands import Outgoing
from service.event_logs.event import BrokerNotReadyError

_BATCH_BYTES = 512 * 1024
_REQUEST_BYTES = 4 * 1024 * 1024
_RETRY_S = 1.0
_ATTEMPTS = 7
_STOP_S = 5.0
_FETCH_WAIT_MS = 20
_WORKER = "a worker"
_BROKER = "the broker"


@asynccontextmanager
async def kafka_wire(bootstrap_servers: str, topics: Topics) -> AsyncIterator["KafkaWire"]:
    """Open the topics, replies from their ends as they are now; raises BrokerNotReadyError."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        # A fetch that waits for one partition holds up the others' replies.
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    wire = None
    try:
        partitions = await _at_the_ends(consumer, bootstrap_servers, topics)
        wire = KafkaWire(consumer, bootstrap_servers, topics.commands, partitions)
        yield wire
    finally:
        if wire is not None:
            await wire.close()
        await _stopped(consumer)


class KafkaWire:
    """The wire over a consumer that stands at the replies' ends; its producer is replaced after any error."""

    def __init__(self, consumer: AIOKafkaConsumer, bootstrap_servers: str, topic: str, partitions: int) -> None:
        self._consumer = consumer
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._partitions = partitions
        self._producer: AIOKafkaProducer | None = None
        self._sending_since: float | None = None

    @property
    def waiting_for(self) -> str:
        """Say who has to act: the broker while a send takes longer than a second."""
        since = self._sending_since
        stuck = since is not None and asyncio.get_running_loop().time() - since > _RETRY_S
        return _BROKER if stuck else _WORKER

    async def send(self, commands: Sequence[Outgoing], /) -> None:
        """Write commands, those of one partition in their order; retries until the broker has them all."""
        queues: dict[int, list[Outgoing]] = {}
        for command in commands:
            queues.setdefault(partition_of(command.root, self._partitions), []).append(command)
        self._sending_since = asyncio.get_running_loop().time()
        while queues:
            try:
                written = await self._round(queues)
            except (KafkaError, OSError):
                written = {}
            if len(written) < len(queues):
                await self._discard_producer()
                await asyncio.sleep(_RETRY_S)
            queues = {part: rest for part, queue in queues.items() if (rest := queue[written.get(part, 0) :])}
        self._sending_since = None

    async def replies(self, wait_s: float, /) -> Sequence[bytes]:
        """Return the next committed replies."""
        try:
            found = await self._consumer.getmany(timeout_ms=max(1, int(wait_s * 1000)), max_records=2_000)
        except KafkaError:
            await asyncio.sleep(wait_s)
            return ()
        return [record.value for records in found.values() for record in records if record.value is not None]

    async def close(self) -> None:
        """Stop the producer; the consumer is its opener's."""
        await self._discard_producer()

    async def _round(self, queues: dict[int, list[Outgoing]]) -> dict[int, int]:
        """Send the head of every queue as one batch; return how many records of each were written."""
        producer = await self._ready_producer()
        counts: dict[int, int] = {}
        deliveries: dict[int, asyncio.Future[object]] = {}
        for part, queue in queues.items():
            batch = producer.create_batch()
            for command in queue:
                headers = list(command.headers)
                if batch.append(timestamp=None, key=command.key, value=command.value, headers=headers) is None:
                    break
            batch.close()
            counts[part] = batch.record_count()
            deliveries[part] = await producer.send_batch(batch, self._topic, partition=part)
        await asyncio.wait(deliveries.values())
        return {part: counts[part] for part, delivery in deliveries.items() if delivery.exception() is None}

    async def _ready_producer(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap_servers,
                enable_idempotence=True,
                compression_type="lz4",
                max_batch_size=_BATCH_BYTES,
                max_request_size=_REQUEST_BYTES,
            )
            await self._producer.start()
        return self._producer

    async def _discard_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stopped(producer)


async def _at_the_ends(consumer: AIOKafkaConsumer, bootstrap_servers: str, topics: Topics) -> int:
    """Place the consumer behind the last reply of every partition; return how many partitions take commands."""
    try:
        partitions = await _partitions(bootstrap_servers, (topics.commands, topics.replies))
        missing = [topic for topic, number in partitions.items() if not number]
        if missing:
            problem = f"no topic {' and no topic '.join(missing)}"
            raise BrokerNotReadyError(bootstrap_servers, problem, "create the topics: turnstile topics create")
        await consumer.start()
        replies = [TopicPartition(topics.replies, number) for number in range(partitions[topics.replies])]
        consumer.assign(replies)
        for partition, end in (await consumer.end_offsets(replies)).items():
            consumer.seek(partition, end)
    except (KafkaError, OSError) as error:
        problem = f"no broker answers ({error})"
        raise BrokerNotReadyError(bootstrap_servers, problem, "start one, or give the address of one") from None
    return partitions[topics.commands]


async def _partitions(bootstrap_servers: str, topics: Sequence[str]) -> dict[str, int]:
    """Return how many partitions each topic has, 0 where there is none; new topics get a moment to become known."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    found: dict[str, int] = {}
    try:
        await admin.start()
        for attempt in range(_ATTEMPTS):
            await asyncio.sleep(_RETRY_S / 2 if attempt else 0)
            described = await admin.describe_topics(list(topics))
            found = {topic["topic"]: len(topic["partitions"]) for topic in described}
            if all(found.values()):
                break
    finally:
        await admin.close()
    return found


async def _stopped(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Stop a client; one whose broker is gone may be left waiting."""
    with suppress(KafkaError, TimeoutError):
        await asyncio.wait_for(client.stop(), _STOP_S)
