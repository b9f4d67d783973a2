"""The protocol with one of its rules left out, each a mistake that somebody could make; the suite must catch all."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer

from handlers.ports import JournalRow, Publisher
from service.adapters import Adapters
from service.app import Endpoints
from service.broker.publishers import TransactionalPublisher
from service.settings import Settings
from service.store.apply import APPLY as CALLED
from tests.e2e.outside import rows, value
from tests.faults.points import Point, Points

APPLY = "select pg_get_functiondef(oid) from pg_proc where $1 like 'select ' || proname || '(%'"
FENCE = "and epoch = p_epoch and turn = p_turn and next_offset = p_expected and halted is null"
SECOND_FENCE = " and w.version <= c.version"


@dataclass(frozen=True, slots=True)
class Scene:
    """What a mutant is made of: the real adapters, and what they were made of."""

    real: Adapters
    settings: Settings
    bootstrap_servers: str
    points: Points


async def unfence(endpoints: Endpoints) -> None:
    """Take epoch, turn and offset out of apply: whoever writes, writes."""
    text = str(await value(endpoints, APPLY, CALLED))
    assert (1, 1) == (text.count(FENCE), text.count(SECOND_FENCE))
    await rows(endpoints, text.replace(FENCE, "").replace(SECOND_FENCE, ""))


class UnawaitedSends:
    """A producer whose sends are not waited for: the commit says yes to a transaction that lacks one of them."""

    def __init__(self, inner: Any) -> None:  # noqa: ANN401 - aiokafka has no types
        self._inner = inner

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the producer has
        return getattr(self._inner, name)

    async def send_batch(self, *arguments: Any, **named: Any) -> "asyncio.Future[None]":  # noqa: ANN401
        """Hand a batch over and forget it."""
        forgotten = await self._inner.send_batch(*arguments, **named)
        forgotten.add_done_callback(lambda done: done.cancelled() or done.exception())
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answered.set_result(None)
        return answered


class CursorFirst(TransactionalPublisher):
    """Reads the cursor before it fences: what the old producer still commits in between is published again."""

    points = Points()

    async def start(self) -> int | None:
        """Read the cursor, then take the producer's epoch."""
        cursor = await self._read_cursor()
        await self.points.meet(Point.CURSOR_READ, self._part)
        await self._fence()
        return cursor


class SharedProducer:
    """One producer under many publishers: started once, and left to the others by whoever lets it go."""

    def __init__(self, inner: AIOKafkaProducer) -> None:
        self._inner = inner
        self._started = False
        self.lock = asyncio.Lock()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the producer has
        return getattr(self._inner, name)

    async def start(self) -> None:
        """Start, the first time."""
        async with self.lock:
            if not self._started:
                await self._inner.start()
                self._started = True

    async def stop(self) -> None:
        """Leave it running."""


class OneProducerForAll(TransactionalPublisher):
    """Publishes through the worker's one producer, under the worker's own id: a new owner fences nobody."""

    _producer: SharedProducer

    async def _fence(self) -> None:
        await self._producer.start()

    async def publish(self, rows: Sequence[tuple[int, JournalRow]]) -> None:
        """Publish; one transaction at a time is all that one producer can."""
        async with self._producer.lock:
            await super().publish(rows)


def unchanged(scene: Scene) -> Adapters:
    """Leave nothing out."""
    return scene.real


def unawaited_sends(scene: Scene) -> Adapters:
    """Commit without having awaited the sends."""

    def publisher(part: int) -> Publisher:
        inner = _made(TransactionalPublisher, scene, part)
        inner._producer = UnawaitedSends(inner._producer)  # noqa: SLF001 - a mutant
        return inner

    return replace(scene.real, publisher=publisher)


def cursor_first(scene: Scene) -> Adapters:
    """Read the cursor before the producer's epoch."""

    def publisher(part: int) -> Publisher:
        made = _made(CursorFirst, scene, part)
        made.points = scene.points
        return made

    return replace(scene.real, publisher=publisher)


def one_producer(scene: Scene) -> Adapters:
    """Publish all partitions of a worker through one producer."""
    own_id = f"{scene.settings.group_id}-{os.getpid()}"
    options = {"bootstrap_servers": scene.bootstrap_servers, "transactional_id": own_id}
    shared = SharedProducer(AIOKafkaProducer(**options))

    def publisher(part: int) -> Publisher:
        made = _made(OneProducerForAll, scene, part)
        made._producer = shared  # noqa: SLF001 - a mutant
        return made

    return replace(scene.real, publisher=publisher)


P = TypeVar("P", bound=TransactionalPublisher)


def _made(kind: type[P], scene: Scene, part: int) -> P:
    return kind(
        part,
        bootstrap_servers=scene.bootstrap_servers,
        topics=scene.settings.topics,
        group_id=scene.settings.group_id,
        elsewhere=scene.real.elsewhere,
    )


MUTANTS: dict[str, Callable[[Scene], Adapters]] = {
    "none": unchanged,
    "unawaited-sends": unawaited_sends,
    "cursor-first": cursor_first,
    "one-producer": one_producer,
}
