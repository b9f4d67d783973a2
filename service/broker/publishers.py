"""Two ways to publish a partition's rows: exactly once in transactions with the cursor, or at least once.

A transaction of partition n writes only partition n; what goes elsewhere is sent first, by a plain
idempotent producer, so one stuck transaction never holds back another partition's readers.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import groupby

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced, UnknownTopicOrPartitionError
from aiokafka.producer import sender
from aiokafka.structs import OffsetAndMetadata

from contracts.topics import Topics
from handlers.faults import Fenced, Transient
from handlers.ports import JournalRow
from service.broker.cursor import cursor_group, read_cursor
from service.broker.records import OutRecord, forwarded_records, own_records, own_topics

DEADLINE_SECONDS = 5.0
TRANSACTION_MS_MAX = 10_000
CLOSE_SECONDS_MAX = 2.0
BATCH_BYTES_MAX = 512 * 1024

Rows = Sequence[tuple[int, JournalRow]]


class OneTryEndTxn(sender.EndTxnHandler):  # type: ignore[misc] # aiokafka has no types
    """Ends a transaction with one request, or with an error that makes the producer be thrown away.

    aiokafka sends the request again after a lost connection. The first may still be on its way then, and would end the
    producer's next transaction, half written (KAFKA-17754); a new producer has another epoch, which it cannot hit.
    """

    async def do(self, node_id: int) -> bool:
        """Send it; only an answer that says "not yet" is a reason to ask again."""
        try:
            response = await self._sender.client.send(node_id, self.create_request(), group=self.group)
        except KafkaError as error:  # as fenced: the one error after which the sender ends without more words
            raise ProducerFenced(f"whether the transaction ended is not known: {error!r}") from error
        backoff = self.handle_response(response)
        if backoff is not None:
            await asyncio.sleep(backoff)
        return backoff is None


sender.EndTxnHandler = OneTryEndTxn


class Elsewhere:
    """The worker's one plain producer, for what leaves its partition; started when first needed."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._producer: AIOKafkaProducer | None = None
        self._lock = asyncio.Lock()

    async def send(self, records: Sequence[OutRecord]) -> None:
        """Send and await every record; raises Transient. Nobody waits here for another one's sends."""
        if not records:
            return
        async with _faults():
            producer = await self._started()
        try:
            async with _faults():
                await _send_each(producer, records)
        except Transient:
            if producer is self._producer:  # it is thrown away once, whoever failed with it
                await self.close()
            raise

    async def close(self) -> None:
        """Let the producer go."""
        producer, self._producer = self._producer, None
        await let_go(producer)

    async def _started(self) -> AIOKafkaProducer:
        async with self._lock:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap_servers, enable_idempotence=True, retry_backoff_ms=20
                )
                try:
                    await producer.start()
                except BaseException:
                    await let_go(producer)
                    raise
                self._producer = producer
            return self._producer


class TransactionalPublisher:
    """Exactly once: rows and cursor in one transaction, under the partition's own transactional id."""

    def __init__(
        self, part: int, *, bootstrap_servers: str, topics: Topics, group_id: str, elsewhere: Elsewhere
    ) -> None:
        self._part = part
        self._topics = topics
        self._bootstrap_servers = bootstrap_servers
        self._elsewhere = elsewhere
        self._cursor_group = cursor_group(group_id)
        self._cursor_key = TopicPartition(topics.commands, part)
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers,
            transactional_id=f"{group_id}-{topics.prefix}-{part}",
            transaction_timeout_ms=TRANSACTION_MS_MAX,
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=2 * 1024 * 1024,
            retry_backoff_ms=5,
            linger_ms=0,
            request_timeout_ms=int(DEADLINE_SECONDS * 1000),
        )

    async def start(self) -> int | None:
        """Fence the partition's earlier producer, then read the cursor: in this order."""
        async with _faults():
            await self._fence()
        async with _faults():
            return await self._read_cursor()

    async def _fence(self) -> None:
        """Take the producer's epoch, and abort a transaction over all that a transaction writes.

        A broker that comes back after a transaction's timeout calls it aborted and does not write so into the logs
        (seen with 4.3.1); the next commit of the same id would then show what was sent in it.
        """
        producer = self._producer
        await producer.start()
        await producer.begin_transaction()
        left_open = own_topics(self._topics)
        for topic in left_open:
            await _known(producer, topic, self._part)
        await _all([_heard(await producer.send(topic, b"", partition=self._part)) for topic in left_open])
        await producer.send_offsets_to_transaction({self._cursor_key: OffsetAndMetadata(0, "")}, self._cursor_group)
        await producer.abort_transaction()

    async def _read_cursor(self) -> int | None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap_servers)
        try:
            await admin.start()
            return await read_cursor(admin, self._cursor_group, self._cursor_key)
        finally:
            await admin.close()

    async def publish(self, rows: Rows) -> None:
        """Publish in one transaction; every send is awaited before it commits."""
        await self._elsewhere.send(forwarded_records(self._topics, rows))
        producer = self._producer
        async with _faults():
            await producer.begin_transaction()
            cursor = {self._cursor_key: OffsetAndMetadata(rows[-1][0] + 1, "")}
            await asyncio.gather(
                _send_batches(producer, self._part, own_records(self._topics, self._part, rows)),
                producer.send_offsets_to_transaction(cursor, self._cursor_group),
            )
            await producer.commit_transaction()

    async def close(self) -> None:
        """Let the producer go; an open transaction is aborted by the next one's start."""
        await let_go(self._producer)


class IdempotentPublisher:
    """At least once: the cursor is in the store alone, and may lag behind what was published."""

    def __init__(self, part: int, *, bootstrap_servers: str, topics: Topics, elsewhere: Elsewhere) -> None:
        self._part = part
        self._topics = topics
        self._elsewhere = elsewhere
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers,
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=2 * 1024 * 1024,
            retry_backoff_ms=20,
            request_timeout_ms=int(DEADLINE_SECONDS * 1000),
        )

    async def start(self) -> int | None:
        """Connect; the broker knows no cursor."""
        async with _faults():
            await self._producer.start()
        return None

    async def publish(self, rows: Rows) -> None:
        """Publish and await every batch."""
        await self._elsewhere.send(forwarded_records(self._topics, rows))
        async with _faults():
            await _send_batches(self._producer, self._part, own_records(self._topics, self._part, rows))

    async def close(self) -> None:
        """Let the producer go."""
        await let_go(self._producer)


@asynccontextmanager
async def _faults() -> AsyncIterator[None]:
    """Bound the time, and call every error transient: the producer is thrown away after any.

    One that was fenced is not made anew by the same owner: it would fence the rightful one. Only a claim can tell.
    Whoever calls next after a send was fenced hears that he is in no transaction.
    """
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield
    except (ProducerFenced, IllegalOperation) as error:
        raise Fenced(f"another publisher took over, or may have: {type(error).__name__}: {error}") from error
    except (KafkaError, OSError, TimeoutError, ValueError) as error:
        raise Transient(f"{type(error).__name__}: {error}") from error


async def _send_batches(producer: AIOKafkaProducer, part: int, records: Sequence[OutRecord]) -> None:
    """Send the records of each topic in batches built by hand: half the cost of sending one by one."""
    futures = []
    for topic, group in groupby(sorted(records, key=_topic), key=_topic):
        await _known(producer, topic, part)
        batch = producer.create_batch()
        for record in group:
            if batch.append(key=record.key, value=record.value, timestamp=None, headers=record.headers) is None:
                futures.append(_heard(await producer.send_batch(batch, topic, partition=part)))
                batch = producer.create_batch()  # an empty batch takes its first record whatever its size
                batch.append(key=record.key, value=record.value, timestamp=None, headers=record.headers)
        if batch.record_count():
            futures.append(_heard(await producer.send_batch(batch, topic, partition=part)))
    await _all(futures)


async def _send_each(producer: AIOKafkaProducer, records: Sequence[OutRecord]) -> None:
    for topic, part in {(record.topic, record.partition) for record in records if record.partition is not None}:
        await _known(producer, topic, part)
    await _all(
        [
            _heard(
                await producer.send(
                    record.topic, record.value, record.key, partition=record.partition, headers=record.headers
                )
            )
            for record in records
        ]
    )


async def _known(producer: AIOKafkaProducer, topic: str, part: int) -> None:
    """Look again for a partition that was not there yet; aiokafka does every five minutes, and asserts meanwhile."""
    if part not in await producer.partitions_for(topic):
        await producer.client.force_metadata_update()
        if part not in await producer.partitions_for(topic):
            raise UnknownTopicOrPartitionError(f"{topic} has no partition {part}")


def _heard(sent: "asyncio.Future[object]") -> "asyncio.Future[object]":
    """Have a send's error count as seen, for where another error is raised before anybody awaits this one."""
    sent.add_done_callback(lambda done: done.cancelled() or done.exception())
    return sent


async def _all(futures: "Sequence[asyncio.Future[object]]") -> None:
    """Await every send: a transaction commits happily although one of its sends failed."""
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def let_go(producer: AIOKafkaProducer | None) -> None:
    """Stop a producer; what waits for answers that do not come is given up, and never sent again."""
    if producer is None:
        return
    with suppress(KafkaError, OSError, TimeoutError, ValueError):
        async with asyncio.timeout(CLOSE_SECONDS_MAX):
            await producer.flush()  # cut short within `stop`, a task of its own would wait on
            await producer.stop()
        return
    with suppress(KafkaError, OSError, TimeoutError, ValueError):
        async with asyncio.timeout(CLOSE_SECONDS_MAX):
            await _give_up(producer)


async def _give_up(producer: AIOKafkaProducer) -> None:
    """End a producer that is not answered: left alone it would connect anew, and send until it is."""
    producer._closed = True  # noqa: SLF001 - `stop` would wait
    await producer.client.close()  # ends the requests on their way, which the sender waits for
    await producer._sender.close()  # noqa: SLF001 - as above
    await producer.client.close()  # what the last of them has begun


def _topic(record: OutRecord) -> str:
    return record.topic
