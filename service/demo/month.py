"""A service of its own for a month: a database, topics and a worker whose clock is moved by whoever plays.

The demo's own worker has the real clock, so this one stands beside it, on the same servers, and goes when it is over.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from importlib.resources import files
from secrets import token_hex
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from client import Client
from contracts.replies import Reply
from domain.instants import written
from service.app import Endpoints, NotReadyError
from service.broker.cluster import TopicsError, admin
from service.calendars.files import read_calendar
from service.cli.surroundings import prepare, writing
from service.definitions.files import read_definition
from service.demo.rows import Rows
from service.demo.scene import Scene
from service.demo.worker import working
from service.logical_time import LogicalTime, logical_time
from service.settings import Settings
from service.store.calendars import apply_calendar
from service.store.definitions import apply_definition
from service.store.pool import Connection
from service.store.throwaway import throwaway
from service.store.timers import count_due

STEP = timedelta(hours=4)
PARTITIONS = 2
WITHIN_SECONDS = 20.0


@dataclass(slots=True)
class Month:
    """Logical time from `now` on: commands are sent at their time, and ticks come every four hours between."""

    scene: Scene
    now: datetime
    client: Client
    rows: Rows
    settings: Settings
    time: LogicalTime
    connection: Connection
    ticks: int = field(default=0)

    async def until(self, at: datetime) -> None:
        """Let time pass up to an instant; what is due by then has happened when this returns."""
        due = partial(count_due, self.connection)
        while self.now < at:
            self.now = min(at, self.now + STEP)
            self.ticks += 1
            left = await self.time.reach(self.now, due, seconds_max=WITHIN_SECONDS)
            if left:
                raise NotReadyError(f"{left} timers stay due at {self.now:%d %B %H:%M}")

    async def send(self, command_type: str, label: str, **fields: Any) -> Reply:  # noqa: ANN401 - whatever the command holds
        """Send a command that happens now."""
        return await self.scene.send(
            command_type, self.scene.id(label), by=self.client, occurred_at=written(self.now), **fields
        )

    async def alerts(self, number: int) -> list[dict[str, Any]]:
        """Return what is on the alerts topic, once there are so many or time is up."""
        topic = self.settings.topics.alerts
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.settings.bootstrap_servers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        await consumer.start()
        found: list[dict[str, Any]] = []
        try:
            consumer.assign([TopicPartition(topic, part) for part in range(PARTITIONS)])
            with suppress(TimeoutError):
                async with asyncio.timeout(WITHIN_SECONDS):
                    while len(found) < number:
                        for records in (await consumer.getmany(timeout_ms=200)).values():
                            found += [orjson.loads(record.value) for record in records]
        finally:
            await consumer.stop()
        return sorted(found, key=lambda alert: (alert["timestamp"], alert["workflow_id"]))


@asynccontextmanager
async def month(scene: Scene, start: datetime) -> AsyncIterator[Month]:
    """Bring up the service whose clock the block moves, and take it down after it."""
    given = scene.settings
    name = f"{given.prefix[:60]}-sla-{token_hex(3)}"
    servers = given.bootstrap_servers or ""
    async with throwaway(given.database_url or "", name) as database_url:
        own = given.model_copy(
            update={
                "database_url": database_url,
                "prefix": name,
                "group_id": name,
                "partitions": PARTITIONS,
                "clock": "logical",
                "http_port": 0,
            }
        )
        await prepare(own, Endpoints(servers, database_url))
        try:
            async with (
                writing(database_url) as opened,
                working(own, log="sla-worker.log"),
                Client(servers, topics=own.topics) as client,
                logical_time(servers, own.topics, name="demo") as time,
            ):
                await apply_support(opened)
                yield Month(scene, start, client, Rows(opened), own, time, opened)
        finally:
            await _forget(servers, own)


async def apply_support(opened: Connection) -> None:
    """Apply the support desk: a definition with a promise, and its calendar."""
    text = files("service.demo").joinpath("office.calendar.yaml").read_text(encoding="utf-8")
    calendar = read_calendar(text)
    if calendar.calendar is None:
        raise NotReadyError(f"the demo's calendar does not check: {calendar.findings}")
    await apply_calendar(opened, calendar, calendar.calendar, text, applied_by="demo")
    text = files("service.demo").joinpath("support.yaml").read_text(encoding="utf-8")
    parsed = read_definition(text)
    if parsed.definition is None:
        raise NotReadyError(f"the demo's definition does not check: {parsed.findings}")
    await apply_definition(opened, parsed, parsed.definition, text, applied_by="demo")


async def _forget(bootstrap_servers: str, settings: Settings) -> None:
    with suppress(KafkaError, TopicsError):
        async with admin(bootstrap_servers) as client:
            await client.delete_topics(list(settings.topics.all()))
