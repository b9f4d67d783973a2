"""The client whose log the checker reads: it sends steadily, notes when and where, and sees the replies come.

It never waits for a reply before it sends on, but it does see them: what it sends then was sent knowing them.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from service.app import Endpoints
from service.broker.publishers import let_go
from service.settings import Settings
from tests.e2e.outside import Put, committed_reader, put
from tests.faults.history import NUMBER, Sent

STEP_SECONDS = 0.1
PENDING_MAX = 4000
WRONG_PARTITION, UNREADABLE, INVALID = 0.03, 0.01, 0.02
PATIENCE_MS = 120_000
"""How long a record may wait for a broker that is away; then its fate is unknown."""


def spoilt(bodies: Iterator[dict[str, Any]], *, seed: int, partitions: int) -> Iterator[Put]:
    """Yield the records of commands, some on a wrong partition, some that are none."""
    chance = random.Random(seed)
    for body in bodies:
        record, kind = put(body), chance.random()
        if kind < WRONG_PARTITION:
            record = record._replace(partition=chance.randrange(partitions))
        elif kind < WRONG_PARTITION + UNREADABLE:
            record = record._replace(value=b'{"cut off')
        elif kind < WRONG_PARTITION + UNREADABLE + INVALID:
            record = record._replace(value=orjson.dumps(body | {"expected_version": "seven"}))
        yield record


class Sender:
    """A steady client of one service that sends a stream without end; `log` and `answers` are what it knows."""

    def __init__(
        self,
        settings: Settings,
        endpoints: Endpoints,
        stream: Iterator[Put],
        *,
        per_second: int = 300,
    ) -> None:
        self.log: list[Sent] = []
        self.answers: dict[str, float] = {}
        self._settings, self._endpoints = settings, endpoints
        self._per_step = max(1, round(per_second * STEP_SECONDS))
        self._stream = stream
        self._pending: set[asyncio.Future[None]] = set()
        self._enough = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None

    async def settle(self) -> None:
        """Send no more, and wait until the broker has answered for everything."""
        self._enough.set()
        if self._sending is not None:
            await self._sending

    async def _send(self) -> None:
        """Send until it is enough; called off, wait for no answer: a broker that is away might be away for long."""
        while not self._enough.is_set():
            opened = AIOKafkaProducer(
                bootstrap_servers=self._endpoints.bootstrap_servers,
                acks="all",
                enable_idempotence=True,
                request_timeout_ms=PATIENCE_MS,
            )
            try:
                with suppress(KafkaError):  # its last record is of unknown fate
                    await opened.start()
                    await self._keep_sending(opened)
                await asyncio.gather(*self._pending)
                await asyncio.sleep(STEP_SECONDS)
            finally:
                for noting in self._pending:
                    noting.cancel()
                await let_go(opened)

    async def _keep_sending(self, producer: AIOKafkaProducer) -> None:
        loop = asyncio.get_running_loop()
        next_step = loop.time()
        while not self._enough.is_set():
            room = PENDING_MAX - len(self._pending)
            for _ in range(min(self._per_step, room)):
                await self._send_one(producer, len(self.log))
            next_step = max(next_step + STEP_SECONDS, loop.time() - 1)
            await asyncio.sleep(max(0, next_step - loop.time()))

    async def _send_one(self, producer: AIOKafkaProducer, number: int) -> None:
        record = next(self._stream)
        sent_at = asyncio.get_running_loop().time()
        self.log.append(Sent(number, None, sent_at))
        answer = await producer.send(
            self._settings.topics.commands,
            record.value,
            record.key,
            partition=record.partition,
            headers=[(NUMBER, str(number).encode())],
        )
        noting = asyncio.ensure_future(self._note(number, answer))
        self._pending.add(noting)
        noting.add_done_callback(self._pending.discard)

    async def _note(self, line: int, answer: "asyncio.Future[TopicPartition]") -> None:
        with suppress(KafkaError):
            at = await answer
            self.log[line] = self.log[line]._replace(place=f"{at.partition}/{at.offset}")

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        async with committed_reader(self._endpoints, self._settings.topics.replies) as consumer:
            while True:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        name = next(text.decode() for key, text in record.headers if key == "ce_id")
                        self.answers.setdefault(name, loop.time())

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Sender"]:
        """Send and watch during the block; `settle` ends the sending earlier."""
        watching = asyncio.create_task(self._watch())
        sending = self._sending = asyncio.create_task(self._send())
        try:
            yield self
            await self.settle()
        finally:
            for task in (sending, watching):
                task.cancel()
            await asyncio.wait({sending, watching})
