"""Replays one store's turns into another: the same rows in the same batches through the same call, with nothing around.

What PostgreSQL alone takes is the measure for what the whole service takes.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby
from time import perf_counter
from typing import Any

import asyncpg
import orjson

from domain.evolve import evolve
from domain.workflow import Workflow
from handlers.faults import Fault
from handlers.ports import JournalRow, Ownership, Turn
from service.store.apply import APPLY, arguments
from service.store.outbox import read_outbox
from service.store.partitions import claim, ensure
from service.store.pool import open_connection
from service.store.schema import migrate

DECIDED_AT = "select decided_at from journal where part = $1 and seq >= $2 order by seq limit $3"
ALL = 10_000_000


@dataclass(slots=True)
class _Lane:
    """One partition: where it is read, where it is written, and how far that got."""

    source: asyncpg.Connection
    target: asyncpg.Connection
    owned: Ownership
    workflows: dict[str, Workflow] = field(default_factory=dict)

    async def read(self) -> list[list[Any]]:
        """Return the arguments of each turn that the source has taken since the last time."""
        part, seq = self.owned.part, self.owned.next_seq
        rows = await read_outbox(self.source, part, seq, ALL)
        times = [row[0] for row in await self.source.fetch(DECIDED_AT, part, seq, len(rows))]
        return [await self._arguments(turn) for turn in self._turns([row for _, row in rows], times)]

    def _turns(self, rows: Sequence[JournalRow], times: Sequence[datetime]) -> Iterator[Turn]:
        """Put rows together again that were decided at one time: a turn reads the clock once."""
        for now, group in groupby(zip(times, rows, strict=True), key=lambda pair: pair[0]):
            batch = [row for _, row in group]
            yield self._turn(now, batch)

    def _turn(self, now: datetime, rows: list[JournalRow]) -> Turn:
        before = dict.fromkeys(row.workflow_id for row in rows if row.workflow_id is not None)
        known = {workflow_id for workflow_id in before if workflow_id in self.workflows}
        for row in rows:
            if row.event is None or row.workflow_id is None:
                raise Fault(f"a replay takes events alone, partition {self.owned.part} has a {row.kind}")
            self.workflows[row.workflow_id] = evolve(self.workflows.get(row.workflow_id), orjson.loads(row.event))
        return Turn(
            next_offset=rows[-1].record_offset + 1,
            now=now,
            created=[self.workflows[workflow_id] for workflow_id in before if workflow_id not in known],
            changed=[self.workflows[workflow_id] for workflow_id in before if workflow_id in known],
            rows=rows,
        )

    async def _arguments(self, turn: Turn) -> list[Any]:
        prepared = await arguments(self.owned, turn)
        self.owned = replace(
            self.owned,
            turn=self.owned.turn + 1,
            next_offset=turn.next_offset,
            next_seq=self.owned.next_seq + len(turn.rows),
        )
        return prepared

    async def write(self, turns: Sequence[Sequence[Any]]) -> None:
        """Apply turns one after another, as an owner does."""
        for prepared in turns:
            await self.target.fetchval(APPLY, *prepared)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay took: rows and turns written, in how many seconds."""

    rows: int
    turns: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Replay:
    """A fresh store that follows another one, one connection per partition."""

    lanes: Sequence[_Lane]

    async def follow(self) -> Replayed:
        """Replay what came since the last time; what is read and made ready beforehand is not timed."""
        seqs = sum(lane.owned.next_seq for lane in self.lanes)
        work = [await lane.read() for lane in self.lanes]
        started = perf_counter()
        await asyncio.gather(*(lane.write(turns) for lane, turns in zip(self.lanes, work, strict=True)))
        seconds = perf_counter() - started
        return Replayed(sum(lane.owned.next_seq for lane in self.lanes) - seqs, sum(map(len, work)), seconds)


@asynccontextmanager
async def replaying(source_url: str, target_url: str, *, n_parts: int) -> AsyncIterator[Replay]:
    """Make the target database ready and give a replay that has written nothing yet."""
    await migrate(target_url)
    async with AsyncExitStack() as stack:

        async def opened(url: str) -> asyncpg.Connection:
            connection = await open_connection(url)
            stack.push_async_callback(connection.close)
            return connection

        source, first = await opened(source_url), await opened(target_url)
        await ensure(first, cluster_id="replay", n_parts=n_parts)
        lanes = []
        for part in range(n_parts):
            owned = await claim(first, part, owner="replay", generation=0, damper=timedelta())
            lanes.append(_Lane(source, await opened(target_url), owned))
        yield Replay(lanes)
