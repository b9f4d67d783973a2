"""A worker's ports, wrapped so that points are passed on the way; what is wrapped does what it always does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

from contracts.predicates import Verdict
from domain.decision import Facts
from domain.guards import Question
from handlers.placement import partition_of
from handlers.ports import Guards, JournalRow, Ownership, Publisher, Session, Turn, verdicts
from service.adapters import Adapters, WholeStore
from service.broker.publishers import IdempotentPublisher, TransactionalPublisher
from tests.faults.points import Point, Points
from tests.wrapping import WrappedStore

LOOPS = 5
"""Rounds of the loop after which a statement or a request has left for its server."""
SLOW_OF, SLOW_SECONDS = 40, 0.3
"""One guard of so many takes longer to answer than a turn waits: its command is parked meanwhile."""


def wrapped(real: Adapters, points: Points, *, n_parts: int) -> Adapters:
    """Return the adapters with every point on their way."""
    return replace(
        real,
        store=PointedStore(real.store, points),
        guards=PointedGuards(real.guards, points, n_parts),
        publisher=_publishers(real.publisher, points),
    )


class PointedStore(WrappedStore):
    """The store with points around claims and applies."""

    def __init__(self, inner: WholeStore, points: Points) -> None:
        super().__init__(inner)
        self.points = points

    async def claim(self, part: int, generation: int) -> Ownership:
        """Claim; struck after it."""
        owned = await self.inner.claim(part, generation)
        await self.points.meet(Point.CLAIMED, part)
        return owned

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Apply; struck before, while the statement is at the server, and after."""
        await self.points.meet(Point.BEFORE_APPLY, owned.part)
        applying = asyncio.ensure_future(self.inner.apply(owned, turn))
        await _sent()
        try:
            await self.points.meet(Point.WITHIN_APPLY, owned.part)
        finally:
            applied = await applying
        await self.points.meet(Point.AFTER_APPLY, owned.part)
        return applied

    def locked(
        self, owned: Ownership, counters: Sequence[str], workflow_ids: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[Session]:
        """Lock the counters; the points of apply are on its way too."""
        return self._locked(owned, counters, workflow_ids)

    @asynccontextmanager
    async def _locked(
        self, owned: Ownership, counters: Sequence[str], workflow_ids: Sequence[str]
    ) -> AsyncIterator[Session]:
        async with self.inner.locked(owned, counters, workflow_ids) as session:
            await self.points.meet(Point.BEFORE_APPLY, owned.part)
            yield session
            await self.points.meet(Point.WITHIN_APPLY, owned.part)
        await self.points.meet(Point.AFTER_APPLY, owned.part)


@dataclass(frozen=True, slots=True)
class PointedGuards:
    """The guards with a point before each question; some, always the same, answer late."""

    inner: Guards
    points: Points
    n_parts: int

    async def ask(self, questions: Sequence[Question]) -> Sequence[Verdict]:
        """Ask; may hang for the workflows of one partition."""
        for question in questions:
            await self.points.meet(Point.ASKED, partition_of(question.inputs.workflow.root_id, self.n_parts))
            if crc32(str(question.inputs.command.command_id).encode()) % SLOW_OF == 0:
                await asyncio.sleep(SLOW_SECONDS)
        return await verdicts(self.inner, questions)


@dataclass(frozen=True, slots=True)
class PointedPublisher:
    """A publisher with points before and after; those within are on its producer's way."""

    inner: Publisher
    points: Points
    part: int

    async def start(self) -> int | None:
        """Fence, then read the cursor; struck after it."""
        cursor = await self.inner.start()
        await self.points.meet(Point.CURSOR_READ, self.part)
        return cursor

    async def publish(self, rows: Sequence[tuple[int, JournalRow]]) -> None:
        """Publish; struck before, and when all is there and nobody has noted it."""
        await self.points.meet(Point.BEFORE_PUBLISH, self.part)
        await self.inner.publish(rows)
        await self.points.meet(Point.BEFORE_CURSOR, self.part)

    async def close(self) -> None:
        """Let go."""
        await self.inner.close()


class PointedProducer:
    """An aiokafka producer with points in the middle of a transaction and around its commit."""

    def __init__(self, inner: Any, points: Points, part: int) -> None:  # noqa: ANN401 - aiokafka has no types
        self._inner, self._points, self._part = inner, points, part

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the producer has
        return getattr(self._inner, name)

    async def send_batch(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - as the producer's
        """Hand a batch over; struck before it is answered."""
        future = await self._inner.send_batch(*arguments, **named)
        await _sent()
        await self._points.meet(Point.MID_TRANSACTION, self._part)
        return future

    async def commit_transaction(self) -> None:
        """Commit; struck before, and while the commit is at the broker."""
        await self._points.meet(Point.BEFORE_COMMIT, self._part)
        committing = asyncio.ensure_future(self._inner.commit_transaction())
        await _sent()
        try:
            await self._points.meet(Point.WITHIN_COMMIT, self._part)
        finally:
            await committing


def _publishers(real: Callable[[int], Publisher], points: Points) -> Callable[[int], Publisher]:
    def publisher(part: int) -> Publisher:
        inner = real(part)
        if isinstance(inner, TransactionalPublisher | IdempotentPublisher):
            inner._producer = PointedProducer(inner._producer, points, part)  # noqa: SLF001 - the port within the port
        return PointedPublisher(inner, points, part)

    return publisher


async def _sent() -> None:
    """Let what was just begun leave for its server, without waiting for the answer."""
    for _ in range(LOOPS):
        await asyncio.sleep(0)
