"""The commands of a measurement, and how they come to wait in the topic.

They are written in one open transaction: a worker that is up and warm reads read_committed and sees none of them until
the transaction commits, and then all of them. That moment is when the clock starts.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import cycle, islice
from time import monotonic
from typing import NamedTuple
from uuid import uuid4

import orjson
from aiokafka import AIOKafkaProducer

from handlers.placement import partition_of
from service.bench.place import DEFINITION, STATES, Place

BATCH_BYTES_MAX = 256 * 1024
TRANSACTION_MS_MAX = 600_000


class Command(NamedTuple):
    """A command as it is sent: where to, under which id and key, and its bytes."""

    part: int
    command_id: str
    key: bytes
    value: bytes


class Fleet:
    """Workflows that are all in one of two states, and always asked for the other one."""

    def __init__(self, size: int, n_parts: int, definition: str = DEFINITION) -> None:
        self._definition = definition
        self._ids = [str(uuid4()) for _ in range(size)]
        self._parts = [partition_of(workflow_id, n_parts) for workflow_id in self._ids]
        self._turns = cycle(range(size))
        self._states = [0] * size

    def creates(self) -> Iterator[Command]:
        """Yield the creation of each workflow."""
        for number in range(len(self._ids)):
            yield self._command(number, {"command_type": "create_workflow", "definition": self._definition})

    def transitions(self, count: int) -> Iterator[Command]:
        """Yield transitions, one workflow after the other, round and round."""
        for number in islice(self._turns, count):
            self._states[number] ^= 1
            target = STATES[self._states[number]]
            yield self._command(number, {"command_type": "request_transition", "target_state": target})

    def _command(self, number: int, asks: dict[str, str]) -> Command:
        workflow_id, command_id = self._ids[number], str(uuid4())
        body = {"command_id": command_id, "workflow_id": workflow_id, "requested_by": "turnstile bench", **asks}
        return Command(self._parts[number], command_id, workflow_id.encode(), orjson.dumps(body))


class Filling:
    """Writes commands that nobody sees until `release`."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, n_parts: int) -> None:
        self._producer = producer
        self._topic = topic
        self._n_parts = n_parts

    async def fill(self, commands: Iterable[Command]) -> list[int]:
        """Write commands in one transaction that stays open; return how many went to each partition."""
        await self._producer.begin_transaction()
        counts = [0] * self._n_parts
        batches = {part: self._producer.create_batch() for part in range(self._n_parts)}
        written = []
        for command in commands:
            part = command.part
            counts[part] += 1
            while batches[part].append(key=command.key, value=command.value, timestamp=None) is None:
                written.append(await self._send(part, batches[part]))
                batches[part] = self._producer.create_batch()
        for part, batch in batches.items():
            if batch.record_count():
                written.append(await self._send(part, batch))
        await asyncio.gather(*written)
        return counts

    async def release(self) -> float:
        """Let everybody see what was written; return the monotonic time at which that began."""
        began = monotonic()
        await self._producer.commit_transaction()
        return began

    async def _send(self, part: int, batch: object) -> "asyncio.Future[object]":
        sent: asyncio.Future[object] = await self._producer.send_batch(batch, self._topic, partition=part)
        return sent


@asynccontextmanager
async def filling(place: Place) -> AsyncIterator[Filling]:
    """Open the producer that fills the commands topic; durable as a careful sender's is."""
    producer = AIOKafkaProducer(
        bootstrap_servers=place.bootstrap_servers,
        transactional_id=f"{place.settings.prefix}-load",
        transaction_timeout_ms=TRANSACTION_MS_MAX,
        max_batch_size=BATCH_BYTES_MAX,
        max_request_size=4 * BATCH_BYTES_MAX,
        retry_backoff_ms=5,
    )
    await producer.start()
    try:
        yield Filling(producer, place.settings.topics.commands, place.settings.partitions)
    finally:
        await producer.stop()
