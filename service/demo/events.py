"""Every committed event as the topic has it, repeats included: the client would drop those, the demo must see them."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from uuid import UUID

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from contracts.envelope import HEADER_TYPE
from contracts.events import Event

POLL_MS = 200
WITHIN_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """An event, its `ce_type` and where it stands in the topic."""

    event: Event
    ce_type: str
    partition: int
    offset: int


class EventLog:
    """Collects the events of workflows whose id begins with `prefix`, read committed, from the topic's end on.

    With `drop_repeats` it drops an id that it has, as every reader does where events are published at least once.
    """

    def __init__(self, bootstrap_servers: str, topic: str, *, prefix: str, drop_repeats: bool = False) -> None:
        self._prefix = prefix
        self._drop_repeats = drop_repeats
        self._consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=bootstrap_servers, isolation_level="read_committed", enable_auto_commit=False
        )
        self._seen: defaultdict[str, list[SeenEvent]] = defaultdict(list)
        self._ids: set[UUID] = set()
        self._positions: dict[TopicPartition, int] = {}
        self._moved = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None
        self.listener: Callable[[SeenEvent], None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._consumer.start()
            await self._consumer.seek_to_end()
            await self._note_positions()
        except BaseException:
            await self._consumer.stop()
            raise
        self._reading = asyncio.create_task(self._read(), name="demo-events")
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._consumer.stop()

    @property
    def partitions(self) -> int:
        """Return how many partitions the topic has."""
        return len(self._positions)

    def of(self, workflow_id: str) -> list[SeenEvent]:
        """Return a workflow's events in the order of the topic."""
        return list(self._seen.get(workflow_id, ()))

    def begins(self, prefix: str) -> dict[str, list[SeenEvent]]:
        """Return the events of every workflow whose id begins so."""
        return {workflow_id: list(seen) for workflow_id, seen in self._seen.items() if workflow_id.startswith(prefix)}

    def forget(self) -> None:
        """Keep nothing of what was seen."""
        self._seen.clear()
        self._ids.clear()

    async def arrived(self, event_ids: Iterable[UUID], *, within: float = WITHIN_SECONDS) -> None:
        """Wait until these events are here; give up silently, for what is missing shows in the check that counts it."""
        awaited = set(event_ids)
        await self._until(lambda: awaited <= self._ids, within)

    async def caught_up(self, *, within: float = WITHIN_SECONDS) -> None:
        """Wait until everything is here that was committed by now; give up silently."""
        ends = await self._consumer.end_offsets(list(self._positions))
        await self._until(lambda: all(self._positions[each] >= end for each, end in ends.items()), within)

    async def _until(self, condition: Callable[[], bool], within: float) -> None:
        async with self._moved:
            try:
                await asyncio.wait_for(self._moved.wait_for(condition), within)
            except TimeoutError:
                if self._reading is not None and self._reading.done():
                    self._reading.result()

    async def _read(self) -> None:
        while True:
            for records in (await self._consumer.getmany(timeout_ms=POLL_MS)).values():
                for record in records:
                    self._keep(record)
            await self._note_positions()
            async with self._moved:
                self._moved.notify_all()

    def _keep(self, record: ConsumerRecord) -> None:
        event = Event.model_validate_json(record.value or b"")
        repeated = self._drop_repeats and event.event_id in self._ids
        if repeated or not event.workflow_id.startswith(self._prefix):
            return
        ce_type = dict(record.headers).get(HEADER_TYPE, b"").decode()
        seen = SeenEvent(event, ce_type, record.partition, record.offset)
        self._seen[event.workflow_id].append(seen)
        self._ids.add(event.event_id)
        if self.listener is not None:
            self.listener(seen)

    async def _note_positions(self) -> None:
        for partition in self._consumer.assignment():
            self._positions[partition] = await self._consumer.position(partition)
