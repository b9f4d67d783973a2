"""Producers that are wedged, fenced, silent or frozen are replaced or outlasted: nothing is lost or doubled by them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IllegalOperation, KafkaConnectionError, ProducerFenced, RequestTimedOutError

from contracts.topics import Topics
from handlers.faults import Fenced, Transient
from handlers.ports import JournalRow
from service.app import Endpoints, Service, running
from service.broker.publishers import TRANSACTION_MS_MAX, Elsewhere, TransactionalPublisher
from service.broker.records import OutRecord
from service.broker.topics import create_topics
from service.local.stack import LocalStack, erase
from service.ownership import Phase
from service.settings import Settings
from tests.e2e.audit import differences, look
from tests.e2e.outside import all_decided, creation, end_offsets, ids_on, move, put, read, send
from tests.eventually import assert_eventually
from tests.publishers import started

pytestmark = pytest.mark.stack


async def ready(service: Service, settings: Settings) -> None:
    """Wait until the worker takes turns of each partition."""

    async def active() -> list[Phase]:
        return [phase for phase, _ in service.worker.phases().values()]

    await assert_eventually([Phase.ACTIVE] * settings.partitions, active)


async def restarts(service: Service, above: float) -> None:
    """Wait until more publishers than so many were thrown away."""

    async def more() -> bool:
        return bool(service.telemetry.relay_restarts._value.get() > above)  # noqa: SLF001 - its only way to be read

    await assert_eventually(expected=True, actual=more)


async def claimed_again(service: Service, above: float) -> None:
    """Wait until partitions were claimed again more often than so many times."""

    async def more() -> bool:
        return bool(service.telemetry.claims_lost._value.get() > above)  # noqa: SLF001 - its only way to be read

    await assert_eventually(expected=True, actual=more)


async def limit(endpoints: Endpoints, topic: str, message_bytes_max: int) -> None:
    """Have the broker refuse larger batches on a topic."""
    admin = AIOKafkaAdminClient(bootstrap_servers=endpoints.bootstrap_servers)
    await admin.start()
    try:
        changed = ConfigResource(ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": str(message_bytes_max)})
        await admin.alter_configs([changed])
    finally:
        await admin.close()


async def test_a_wedged_and_a_fenced_producer_are_replaced(settings: Settings, endpoints: Endpoints) -> None:
    """A refused batch leaves a producer useless for ever: a new one goes on. A rival fences it: a new claim does."""
    names = ids_on(0, 4, partitions=settings.partitions)
    async with running(settings, endpoints) as service:
        await ready(service, settings)
        await send(endpoints, settings.topics.commands, [put(creation(names[0]))])
        await all_decided(settings, endpoints)

        await limit(endpoints, settings.topics.events, 100)
        await send(endpoints, settings.topics.commands, [put(creation(name)) for name in names[1:]])
        await restarts(service, 1)
        await limit(endpoints, settings.topics.events, 1_048_588)
        await all_decided(settings, endpoints)

        before = service.telemetry.claims_lost._value.get()  # noqa: SLF001
        rival = AIOKafkaProducer(
            bootstrap_servers=endpoints.bootstrap_servers,
            transactional_id=f"{settings.group_id}-{settings.prefix}-0",
        )
        await rival.start()
        await rival.stop()
        records = [put(move(name, "ACTIVE", context={"hold": True})) for name in names]
        await send(endpoints, settings.topics.commands, records)
        await claimed_again(service, before)
        await all_decided(settings, endpoints)
    seen = await look(settings, endpoints)
    assert (8, []) == (len(seen.commands), differences(seen))


@asynccontextmanager
async def silence() -> AsyncIterator[str]:
    """Give the address of a server that takes everything and answers nothing."""
    writers = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while await reader.read(65536):
            pass

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()


def publisher(bootstrap_servers: str, topics: Topics, part: int) -> TransactionalPublisher:
    """Make a partition's publisher under its own transactional id."""
    return TransactionalPublisher(
        part,
        bootstrap_servers=bootstrap_servers,
        topics=topics,
        group_id=topics.prefix,
        elsewhere=Elsewhere(bootstrap_servers),
    )


async def test_a_silent_broker_is_given_up() -> None:
    """Starting and closing a publisher end by themselves where no answer comes."""
    async with silence() as address, asyncio.timeout(60):
        made = publisher(address, Topics(), 0)
        with pytest.raises(Transient):
            await made.start()
        await made.close()


def rows(first_seq: int, *workflow_ids: str) -> list[tuple[int, JournalRow]]:
    """Return journal rows of an event each."""
    found = []
    for seq, workflow_id in enumerate(workflow_ids, start=first_seq):
        body = {
            "event_id": f"event-{seq}", "workflow_id": workflow_id, "timestamp": "2026-11-21T09:30:00.000000Z",
            "causation_id": "cause", "correlation_id": "story",
        }  # fmt: skip
        found.append((seq, JournalRow("event", workflow_id, workflow_id, "test", seq, event=orjson.dumps(body))))
    return found


async def test_a_frozen_transaction_holds_back_its_own_partition_alone(
    settings: Settings, endpoints: Endpoints
) -> None:
    """Readers of other partitions notice nothing; those of its own go on once the broker ends what nobody took over."""
    topics = settings.topics
    frozen = AIOKafkaProducer(
        bootstrap_servers=endpoints.bootstrap_servers,
        transactional_id=f"{settings.group_id}-frozen",
        transaction_timeout_ms=TRANSACTION_MS_MAX,
    )
    healthy = [await started(partial(publisher, endpoints.bootstrap_servers, topics, part)) for part in (0, 1)]
    await frozen.start()
    try:
        await frozen.begin_transaction()
        await frozen.send_and_wait(topics.events, b"{}", partition=0)
        for part, each in enumerate(healthy):
            await each.publish(rows(1, f"w{part}"))

        async def keys(isolation: str) -> set[bytes]:
            return await _keys(endpoints, topics.events, isolation)

        assert {b"w1"} == await keys("read_committed")
        await assert_eventually({b"w0", b"w1"}, lambda: keys("read_committed"))
    finally:
        for each in healthy:
            await each.close()
        await frozen.stop()


async def _keys(endpoints: Endpoints, topic: str, isolation: str) -> set[bytes]:
    """Return the keys a reader sees now, up to the last stable offset of each partition."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=endpoints.bootstrap_servers, isolation_level=isolation, enable_auto_commit=False
    )
    await consumer.start()
    try:
        parts = [TopicPartition(topic, part) for part in await end_offsets(endpoints, topic)]
        ends = await consumer.end_offsets(parts)
        consumer.assign(parts)
        await consumer.seek_to_beginning(*parts)
        found: set[bytes] = set()
        async with asyncio.timeout(30):
            while any([await consumer.position(key) < end for key, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found |= {record.key for record in records if record.key is not None}
        return found
    finally:
        await consumer.stop()


@pytest.mark.parametrize("error", [KafkaConnectionError("gone"), RequestTimedOutError()])
async def test_the_end_of_a_transaction_is_asked_for_once(
    settings: Settings, endpoints: Endpoints, error: Exception
) -> None:
    """Where its answer is lost the producer is spent: a second request could end the transaction after it.

    The first was heard here, so the next publisher finds the cursor behind it and nothing comes twice.
    """
    topics = settings.topics
    first = await started(partial(publisher, endpoints.bootstrap_servers, topics, 0))
    await first.publish(rows(1, "a"))
    client = first._producer.client  # noqa: SLF001 - the fault is put where the network would put it
    heard, asked = client.send, []

    async def deaf(node_id: int, request: object, **options: object) -> object:
        answer = await heard(node_id, request, **options)
        if "EndTxn" in type(request).__name__:
            asked.append(request)
            raise error
        return answer

    client.send = deaf
    with pytest.raises(Transient, match=ProducerFenced.__name__):
        await first.publish(rows(2, "b"))
    await first.close()
    assert 1 == len(asked)
    second = publisher(endpoints.bootstrap_servers, topics, 0)
    assert 3 == await second.start()
    await second.publish(rows(3, "c"))
    await second.close()
    assert [b"a", b"b", b"c"] == [record.key for record in await read(endpoints, topics.events)]


async def test_who_is_overtaken_while_it_starts_claims_again(settings: Settings, endpoints: Endpoints) -> None:
    """The client says by its next call that the transaction is gone, in other words than that it was fenced."""
    topics = settings.topics
    late = publisher(endpoints.bootstrap_servers, topics, 0)
    send_ = late._producer.send  # noqa: SLF001 - the moment is between two of its requests
    others: list[TransactionalPublisher] = []

    async def overtaken(*words: object, **named: object) -> object:
        if not others:
            others.append(await started(partial(publisher, endpoints.bootstrap_servers, topics, 0)))
        sent = await send_(*words, **named)
        await asyncio.wait([sent])
        return sent

    late._producer.send = overtaken  # noqa: SLF001
    with pytest.raises(Fenced, match=IllegalOperation.__name__):
        await late.start()
    await late.close()
    await others[0].publish(rows(1, "a"))
    await others[0].close()
    assert [b"a"] == [record.key for record in await read(endpoints, topics.events)]


async def test_of_a_producer_that_was_let_go_nothing_is_left(settings: Settings, tmp_path: Path) -> None:
    """The broker dies before it answers: nothing of the producer is left, to try on until the broker is back."""
    topics = settings.topics
    stack = LocalStack(tmp_path, database=False)
    async with stack as local:
        await create_topics(local.bootstrap_servers, topics, settings.partitions, settings.replication)
        elsewhere = Elsewhere(local.bootstrap_servers)
        await elsewhere.send([OutRecord(topics.commands, b"a", b"", [])])
        await stack.kill_broker()
        with pytest.raises(Transient):
            await elsewhere.send([OutRecord(topics.commands, b"b", b"", [])])
        assert {asyncio.current_task()} == asyncio.all_tasks()
        await stack.start_broker()
        await elsewhere.send([OutRecord(topics.commands, b"c", b"", [])])
        await elsewhere.close()
        endpoints = Endpoints(local.bootstrap_servers, "")
        assert [b"a", b"c"] == [record.key for record in await read(endpoints, topics.commands)]
    await erase(tmp_path)
