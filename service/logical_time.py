"""Moves logical time: ticks that say what time it is, sent by whoever simulates instead of by a worker.

A tick comes after every command that the broker had when it was made, and a lost one does not matter, except the last:
what is due by then is waited for, and the tick sent again meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from contracts.topics import Topics
from service.broker.ticks import send_ticks

EMIT_SECONDS_MAX = 10.0
RETRY_SECONDS = 1.0
LOOK_SECONDS = 0.05
AGAIN_SECONDS = 2.0

Due = Callable[[datetime], Awaitable[int]]
"""How many timers of the store are due at an instant."""


class LogicalTime:
    """Where the logical time of a service is moved to; never back, as far as the service goes."""

    def __init__(self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, topics: Topics, name: str) -> None:
        self._consumer = consumer
        self._producer = producer
        self._topics = topics
        self._name = name

    async def tick(self, time: datetime) -> None:
        """Say that it is so late after all commands that were sent; retries until the broker has it."""
        while True:
            with suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(EMIT_SECONDS_MAX):
                    await asyncio.gather(
                        *await send_ticks(self._consumer, self._producer, self._topics, time=time, name=self._name)
                    )
                    return
            await asyncio.sleep(RETRY_SECONDS)

    async def reach(self, time: datetime, due: Due, *, seconds_max: float | None = None) -> int:
        """Say that it is so late until nothing is due any more; return what is still due after so many seconds."""
        now = asyncio.get_running_loop().time
        began = said_at = now()
        await self.tick(time)
        while (left := await due(time)) and (seconds_max is None or now() - began < seconds_max):
            await asyncio.sleep(LOOK_SECONDS)
            if now() - said_at >= AGAIN_SECONDS:
                said_at = now()
                await self.tick(time)
        return left


@asynccontextmanager
async def logical_time(bootstrap_servers: str, topics: Topics, *, name: str) -> AsyncIterator[LogicalTime]:
    """Open what moves logical time; `name` says in each tick who did."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers)
    try:
        await consumer.start()
        await producer.start()
        yield LogicalTime(consumer, producer, topics, name)
    finally:
        for client in (producer, consumer):
            with suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS):
                    await client.stop()
