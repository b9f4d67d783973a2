"""Emits ticks: the database's clock, read before the commands partition's end offset that goes with it.

Who emits them also counts the open SLAs for all, every 15 s and after the ticks: by an index, and never for long.

Any worker may emit; a session lock chooses one. A second emitter is harmless, none is an alert.
"""

import asyncio
from contextlib import suppress
from time import monotonic

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from contracts.topics import Topics
from service.broker.cluster import METADATA_MS_MAX
from service.broker.ticks import send_ticks
from service.store.leader import Leader, LeaderLostError
from service.telemetry import Telemetry

log = structlog.get_logger()

RETRY_SECONDS = 2.0
SILENT_SECONDS_MAX = 12.0
"""Longer than an emission may take: who says nothing to the database for so long leads no more."""
COUNT_SECONDS = 15.0


class TickEmitter:
    """Sends one tick per commands partition and period while it is the leader."""

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        database_url: str,
        topics: Topics,
        name: str,
        period_seconds: float,
        telemetry: Telemetry,
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._database_url = database_url
        self._topics = topics
        self._name = name
        self._period_seconds = period_seconds
        self._telemetry = telemetry
        self.leading = False
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End `run` at its next pause; its clients close what they have opened, which a cancelled one may not."""
        self._stopping.set()

    async def run(self) -> None:
        """Emit until stopped; start over after a lost connection."""
        while not self._stopping.is_set():
            try:
                await self._lead()
            except (LeaderLostError, KafkaError, OSError, TimeoutError) as error:
                log.warning("ticks.interrupted", reason=f"{type(error).__name__}: {error}")
            finally:
                self._lead_is(leading=False)
            await self._pause(RETRY_SECONDS)

    async def _lead(self) -> None:
        silent = SILENT_SECONDS_MAX + 2 * self._period_seconds
        async with Leader(self._database_url, "ticks", silent_seconds_max=silent) as leader:
            while not await leader.try_lead():
                if await self._pause(RETRY_SECONDS):
                    return
            log.info("ticks.leading", name=self._name)
            consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap_servers, metadata_max_age_ms=METADATA_MS_MAX)
            producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap_servers, metadata_max_age_ms=METADATA_MS_MAX)
            try:
                await consumer.start()
                await producer.start()
                self._lead_is(leading=True)
                counted = -COUNT_SECONDS
                while not await self._pause(self._period_seconds):
                    await self._emit(leader, consumer, producer)
                    if (now := monotonic()) - counted >= COUNT_SECONDS:
                        counted = now
                        self._telemetry.slas.opened(await leader.open_slas())
            finally:
                for client in (producer, consumer):
                    with suppress(KafkaError, OSError, TimeoutError):
                        async with asyncio.timeout(RETRY_SECONDS):
                            await client.stop()

    def _lead_is(self, *, leading: bool) -> None:
        self.leading = leading
        self._telemetry.ticks_leading.set(leading)
        if not leading:
            self._telemetry.slas.opened(None)

    async def _pause(self, seconds: float) -> bool:
        """Wait so long, or until stopped; say whether it was that."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()

    async def _emit(self, leader: Leader, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
        async with asyncio.timeout(10):
            now = await leader.clock()
            await send_ticks(consumer, producer, self._topics, time=now, name=self._name)
            await producer.flush()
        self._telemetry.tick_time.set(now.timestamp())
