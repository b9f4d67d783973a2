"""The broker's clients as aiokafka and FastStream have them, as far as the product calls them, over links.

The product's own publishers, worker, log and listener run on these; `installed` puts them where theirs would be.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    NotEnoughReplicasError,
    OutOfOrderSequenceNumber,
)
from aiokafka.structs import OffsetAndMetadata

from contracts.topics import Topics
from handlers.routes import HEARTBEAT_MS, Sort
from tests.fakes.ports import CommandRecord
from tests.simulation.group import Group
from tests.simulation.kafka import PARTS, Kafka, Where
from tests.simulation.network import Link, Surroundings

BATCH_RECORDS_MAX = 3


@dataclass(frozen=True, slots=True)
class Network:
    """What one worker's clients reach, and under which name."""

    around: Surroundings
    name: str
    kafka: Kafka
    group: Group
    link: Link


NETWORK: ContextVar[Network] = ContextVar("network")


class Batch:
    """A record batch built by hand."""

    def __init__(self) -> None:
        self.records: list[CommandRecord] = []

    def append(
        self, *, key: bytes | None, value: bytes, timestamp: None, headers: Sequence[tuple[str, bytes]]
    ) -> object:
        """Keep a record and return something, or None where the batch is full."""
        del timestamp
        if len(self.records) >= BATCH_RECORDS_MAX:
            return None
        self.records.append(CommandRecord(value, key=key, headers=headers))
        return self

    def record_count(self) -> int:
        """Return how many records are in it."""
        return len(self.records)


class Producer:
    """`aiokafka.AIOKafkaProducer`: batches of a partition in order, and of no use after one of them failed."""

    def __init__(self, *, transactional_id: str | None = None, **_: object) -> None:
        self.network = NETWORK.get()
        self._id = transactional_id
        self._epoch = -1
        self._in_transaction = False
        self._sent: dict[Where, asyncio.Task[None]] = {}
        self._unacknowledged: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Fence earlier producers of the same id."""
        transactional_id = self._id
        if transactional_id is not None:
            self._epoch = await self._call("init", lambda: self.network.kafka.init_producer(transactional_id))

    async def flush(self) -> None:
        """Wait for no answer; here nothing is sent again."""

    async def stop(self) -> None:
        """Let go of it."""
        await asyncio.sleep(0.001)

    @property
    def client(self) -> "Producer":
        """The connections, which are closed where `stop` takes too long; here they are nothing of their own."""
        return self

    @property
    def _sender(self) -> "Producer":
        """What sends, which is ended with them."""
        return self

    async def close(self) -> None:
        """Let go of either."""

    async def partitions_for(self, _topic: str) -> set[int]:
        """Return the partitions, which no topic gains or loses here."""
        return set(range(PARTS))

    def create_batch(self) -> Batch:
        """Begin a batch."""
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> "asyncio.Task[None]":
        """Send a batch after the ones before it; its outcome is in the future."""
        where = (topic, partition)
        send = self._produce(where, batch.records, self._sent.get(where))
        task = self._sent[where] = asyncio.get_running_loop().create_task(send)
        self._unacknowledged.append(task)
        return task

    async def send(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        *,
        partition: int,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> "asyncio.Task[None]":
        """Send one record."""
        batch = Batch()
        batch.append(key=key, value=value, timestamp=None, headers=headers)
        return await self.send_batch(batch, topic, partition=partition)

    async def begin_transaction(self) -> None:
        """Begin; aiokafka's producer does so once after each end."""
        if self._in_transaction:
            raise IllegalStateError("a transaction is open or was left in the middle")
        self._in_transaction = True

    async def send_offsets_to_transaction(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group_id: str
    ) -> None:
        """Let the cursor move with the transaction."""
        for key, offset in offsets.items():
            where = (f"{group_id} {key.topic}", key.partition)
            await self._call(
                f"cursor {key.partition} to {offset.offset}",
                partial(self.network.kafka.move_cursor, self._id or "", self._epoch, where, offset.offset),
            )

    async def commit_transaction(self) -> None:
        """Flush and commit; that a send failed does not keep it from committing."""
        await asyncio.gather(*self._unacknowledged, return_exceptions=True)
        self._unacknowledged.clear()
        commit = partial(self.network.kafka.end_transaction, self._id or "", self._epoch, commit=True)
        await self._call(f"commit of {self._id}", commit)
        self._in_transaction = False

    async def abort_transaction(self) -> None:
        """Abort what is open, and be ready for another."""
        self._unacknowledged.clear()
        self._in_transaction = False
        abort = partial(self.network.kafka.end_transaction, self._id or "", self._epoch, commit=False)
        await self._call(f"abort of {self._id}", abort)

    async def _produce(
        self, where: Where, records: Sequence[CommandRecord], before: "asyncio.Task[None] | None"
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
            if before.cancelled() or before.exception() is not None:
                raise OutOfOrderSequenceNumber
        kafka = self.network.kafka
        what = f"produce {len(records)} to {where[0]}/{where[1]}"
        await self._call(what, lambda: kafka.produce(self._id, self._epoch, where, records))

    async def _call(self, what: str, work: Any) -> Any:  # noqa: ANN401 - whatever the broker answers
        return await self.network.link.call(what, work, lost=KafkaTimeoutError, refused=NotEnoughReplicasError)


class Admin:
    """`aiokafka.admin.AIOKafkaAdminClient`, for the cursor alone."""

    def __init__(self, **_: object) -> None:
        self._network = NETWORK.get()

    async def start(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Let go of it."""

    async def list_consumer_group_offsets(
        self, group_id: str, *, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """Return the cursors that are committed, -1 where there is none."""
        kafka = self._network.kafka
        found = {}
        for key in partitions:
            where = (f"{group_id} {key.topic}", key.partition)
            seq = await self._network.link.call(
                f"cursor of {key.partition}",
                partial(kafka.cursor, where),
                lost=KafkaTimeoutError, refused=NotEnoughReplicasError,
            )  # fmt: skip
            found[key] = OffsetAndMetadata(seq, "")
        return found


class Coordination:
    """What `ConsumerLog.generation` reads."""

    generation = -1


class Consumer:
    """`aiokafka.AIOKafkaConsumer` in a group, driven by what FastStream's subscriber does with it."""

    def __init__(self, topics: Topics, listener: ConsumerRebalanceListener, sort: Sort) -> None:
        self.network = NETWORK.get()
        self._coordinator = Coordination()
        self._topics = topics
        self._listener = listener
        self._sort = sort
        self._positions: dict[Where, int] = {}
        self._paused: set[Where] = set()
        self._wanted = asyncio.Event()

    def assignment(self) -> set[TopicPartition]:
        """Return what the group gave to this member."""
        return {TopicPartition(*where) for where in self._positions}

    def seek(self, key: TopicPartition, offset: int) -> None:
        """Read on from an offset; what was fetched from elsewhere is dropped."""
        if tuple(key) not in self._positions:
            raise IllegalStateError(f"{key} is not assigned")
        self._positions[key.topic, key.partition] = offset
        self._wanted.set()

    def passed(self, key: TopicPartition) -> int:
        """Return up to where all was handed over."""
        return self._positions.get((key.topic, key.partition), 0)

    def pause(self, key: TopicPartition) -> None:
        """Fetch it no more."""
        self._paused.add((key.topic, key.partition))

    def resume(self, key: TopicPartition) -> None:
        """Fetch it again."""
        self._paused.discard((key.topic, key.partition))
        self._wanted.set()

    async def beginning_offsets(self, keys: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Return where the logs begin."""
        return dict.fromkeys(keys, 0)

    async def end_offsets(self, keys: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Return where the logs end."""
        kafka = self.network.kafka
        return {
            key: await self._call(f"end of {key.partition}", partial(kafka.end, (key.topic, key.partition)))
            for key in keys
        }

    async def stay(self) -> None:
        """Be a member of the group: join, take what is given, and give it back when a rebalance is heard of."""
        group, name = self.network.group, self.network.name
        while True:
            with suppress(KafkaError):
                joined = await self._call("join", partial(group.join, name))
                self._coordinator.generation = joined.generation
                await self._take(joined.parts)
                answer = "ok"
                while answer == "ok":
                    await asyncio.sleep(HEARTBEAT_MS / 1000)
                    with suppress(KafkaError):
                        answer = await self._call("heartbeat", partial(group.heartbeat, name, joined.generation))
                if answer == "unknown":
                    self._coordinator.generation = -1
                await self._listener.on_partitions_revoked(self.assignment())

    async def leave(self) -> None:
        """Leave the group; nothing is called back."""
        with suppress(KafkaError):
            await self._call("leave", partial(self.network.group.leave, self.network.name))

    async def poll(self) -> None:
        """Hand over what comes, batch by batch."""
        while True:
            wanted = {where: at for where, at in self._positions.items() if where not in self._paused}
            if not wanted:
                self._wanted.clear()
                await self._wanted.wait()
                continue
            found: dict[Where, tuple[list[CommandRecord], int]] = {}
            with suppress(KafkaError):
                found = await self._call("fetch", partial(self.network.kafka.fetch, wanted))
            batch: list[CommandRecord] = []
            for where, (records, end) in found.items():
                if self._positions.get(where) == wanted[where] and where not in self._paused:
                    self._positions[where] = end
                    batch.extend(records)
            if batch:
                self._sort(batch)

    async def _take(self, parts: Sequence[int]) -> None:
        kafka = self.network.kafka
        given = [(topic, part) for part in parts for topic in (self._topics.commands, self._topics.scheduler)]
        self._positions = {where: kafka.end(where) for where in given}
        self._paused = set()
        self._wanted.set()
        if self.network.around.chance.random() < 0.3:
            await asyncio.sleep(0.5 * self.network.around.chance.random())  # the callback may come late
        await self._listener.on_partitions_assigned(self.assignment())

    async def _call(self, what: str, work: Any) -> Any:  # noqa: ANN401 - whatever the broker answers
        return await self.network.link.call(what, work, lost=KafkaTimeoutError)


class Subscriber:
    """What `handlers.routes.subscribe` returns."""

    def __init__(self) -> None:
        self.consumer: Consumer | None = None


class Broker:
    """FastStream's broker with one subscriber: it starts its consumer, and stops it."""

    def __init__(self, _: str, **__: object) -> None:
        self._subscriber = Subscriber()
        self._opening: partial[Consumer] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def subscribe(self, topics: Topics, listener: ConsumerRebalanceListener, sort: Sort) -> Subscriber:
        """Declare the one subscriber."""
        self._opening = partial(Consumer, topics, listener, sort)
        return self._subscriber

    async def start(self) -> None:
        """Join the group and poll."""
        if self._opening is not None:
            consumer = self._subscriber.consumer = self._opening()
            self._tasks = [asyncio.create_task(consumer.stay()), asyncio.create_task(consumer.poll())]

    async def stop(self) -> None:
        """Poll no more and leave the group; no callback is called."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._subscriber.consumer is not None:
            await self._subscriber.consumer.leave()


def subscribe(
    broker: Broker, topics: Topics, *, group_id: str, listener: ConsumerRebalanceListener, sort: Sort
) -> Subscriber:
    """Stand for `handlers.routes.subscribe`."""
    del group_id
    return broker.subscribe(topics, listener, sort)


@contextmanager
def installed() -> Iterator[None]:
    """Put these where the product's modules have the real clients."""
    with (
        patch("service.broker.publishers.AIOKafkaProducer", Producer),
        patch("service.broker.publishers.AIOKafkaAdminClient", Admin),
        patch("service.worker.KafkaBroker", Broker),
        patch("service.worker.subscribe", subscribe),
        patch("service.worker.watch_consumer", _unwatched),
    ):
        yield


async def _unwatched(*_: object) -> None:
    """Leave the consumer as it is: no position leaves the log here, and nothing dies unseen."""
