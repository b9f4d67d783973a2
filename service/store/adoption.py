"""The store's side of taking a parted partition up again: what it knows of events, and a row that says what was done.

The `adopted` row stands where the journal goes on. It names where the journal ended and the incarnation until then, so
that `verify` finds the gap explained and each event's id right; it publishes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import orjson

from handlers.faults import Fenced
from service.store.pool import Connection, faults_of

TYPE = "turnstile.partition_adopted"
ROW = """
insert into journal (part, seq, kind, type, event, record_offset, decided_at)
values ($1, $2, 'adopted', $3, $4, $5, clock_timestamp())
"""
MOVE = """
update partition
   set epoch = epoch + 1, owner = null, group_generation = 0, incarnation = $2, cluster_id = $3, next_offset = $4,
       next_seq = $5 + 1, published_seq = greatest(published_seq, $6), halted = null, touched_at = clock_timestamp()
 where part = $1
"""
# A parked command's offset orders it before what is read from now on, and must be no offset of the other log.
ASIDE = "update parked set record_offset = record_offset - (1::bigint << 40) where part = $1"
EVENTS = """
select workflow_id, sequence, event from journal
 where part = $1 and sequence is not null
   and (workflow_id, sequence) in (select * from unnest($2::text[], $3::bigint[]))
"""
# What is before an earlier adoption may be of another log, whose offsets were others'.
DECIDED = """
select record_offset, reply from journal
 where part = $1 and reply is not null and record_offset between $2 and $3
   and seq > coalesce((select max(seq) from journal where part = $1 and kind = 'adopted'), 0)
 order by seq desc limit 1
"""


class Named(NamedTuple):
    """An event by its place in its workflow, and its id."""

    workflow_id: str
    sequence: int
    event_id: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A halted partition as its row has it."""

    part: int
    epoch: int
    cluster_id: str
    incarnation: UUID
    next_offset: int
    next_seq: int
    published_seq: int
    halted: str | None


async def standing(connection: Connection, part: int) -> Standing | None:
    """Return a partition's row, None where there is none."""
    with faults_of():
        row = await connection.fetchrow(
            """
            select part, epoch, cluster_id, incarnation, next_offset, next_seq, published_seq, halted
              from partition where part = $1
            """,
            part,
        )
    return None if row is None else Standing(**dict(row))


async def last_decided_ms(connection: Connection, part: int) -> int | None:
    """Return when the newest row was decided, in milliseconds since 1970."""
    with faults_of():
        at = await connection.fetchval(
            "select decided_at from journal where part = $1 order by seq desc limit 1",
            part,
        )
    return None if at is None else int(at.timestamp() * 1000)


async def unknown(connection: Connection, part: int, events: Sequence[Named]) -> list[Named]:
    """Return those of published events that the store does not have, under their very ids."""
    with faults_of():
        rows = await connection.fetch(
            EVENTS, part, [each.workflow_id for each in events], [each.sequence for each in events]
        )
    known = {(row["workflow_id"], row["sequence"], orjson.loads(row["event"])["event_id"]) for row in rows}
    return [each for each in events if tuple(each) not in known]


async def decided_within(connection: Connection, part: int, start: int, end: int) -> tuple[int, str] | None:
    """Return the newest decided command with an offset from `start` to before `end`: its offset and command id."""
    with faults_of():
        row = await connection.fetchrow(DECIDED, part, start, end - 1)
    return None if row is None else (row["record_offset"], str(orjson.loads(row["reply"])["command_id"]))


async def adopt(
    connection: Connection, before: Standing, *, cluster_id: str, next_offset: int, next_seq: int, by: str
) -> UUID:
    """Take a halted partition up in a new incarnation; raises Fenced where its row has changed meanwhile.

    `next_seq` is where the journal goes on: not below the store's own, nor below what was published.
    """
    incarnation = uuid4()
    details = {
        "reason": before.halted,
        "by": by,
        "cluster_id": before.cluster_id,
        "incarnation": str(before.incarnation),
        "next_offset": before.next_offset,
        "next_seq": before.next_seq,
    }
    with faults_of():
        async with connection.transaction():
            locked = await connection.fetchval("select true from partition where part = $1 for update", before.part)
            if not locked or await standing(connection, before.part) != before:
                raise Fenced(f"partition {before.part} changed meanwhile: look again")
            published = next_seq if next_seq > before.next_seq else 0
            await connection.execute(MOVE, before.part, incarnation, cluster_id, next_offset, next_seq, published)
            if next_offset < before.next_offset or cluster_id != before.cluster_id:
                await connection.execute(ASIDE, before.part)
            await connection.execute(ROW, before.part, next_seq, TYPE, orjson.dumps(details), before.next_offset)
    return incarnation


class Incarnations:
    """Which incarnation a partition's row was written in."""

    def __init__(self, current: UUID, adopted: Iterable[Any]) -> None:
        self._current = current
        self._until = [(row["seq"], UUID(orjson.loads(row["event"])["incarnation"])) for row in adopted]

    def of(self, seq: int) -> UUID:
        """Return the incarnation of row `seq`."""
        return next((incarnation for until, incarnation in self._until if seq < until), self._current)


async def incarnations(connection: Connection) -> dict[int, Incarnations]:
    """Return every partition's incarnations."""
    with faults_of():
        current = await connection.fetch("select part, incarnation from partition")
        adopted = await connection.fetch(
            "select part, seq, event from journal where kind = 'adopted' order by part, seq"
        )
    return {
        row["part"]: Incarnations(row["incarnation"], [each for each in adopted if each["part"] == row["part"]])
        for row in current
    }
