"""Writes a turn: one round trip, one commit, the fence first. Conflicts come back as facts."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import orjson

from domain.canonical import canonical
from domain.decision import Facts
from domain.workflow import Workflow, dump
from handlers.breath import Breath
from handlers.faults import Fenced, OutcomeUnknown
from handlers.ports import JournalRow, Ownership, SlaRow, Turn
from handlers.written import kept_headers
from service.store.pool import CONFLICT, DEADLOCK, Connection, Pool, faults_of

APPLY = f"select apply_v3({', '.join(f'${number}' for number in range(1, 71 + 1))})"
LOCK_PARTITION = "select 1 from partition where part = $1 and epoch = $2 and turn = $3 for update"
LOCK_COUNTERS = """
select definition, max_open - open as room from open_count
 where definition = any ($1) and max_open is not null order by definition for update
"""

TAKEN = "select workflow_id, root_id from workflow_id where workflow_id = any ($1)"


async def apply(connection: Connection, owned: Ownership, turn: Turn) -> Ownership | Facts:
    """Apply a turn; returns the ownership after it, or the facts of a conflict."""
    with faults_of(lost=OutcomeUnknown):
        try:
            first_seq = await connection.fetchval(APPLY, *await arguments(owned, turn))
        except asyncpg.PostgresError as error:
            if error.sqlstate == DEADLOCK:  # over an id, with a turn under the lock of a counter: nothing was written
                return Facts()
            if error.sqlstate != CONFLICT:
                raise
            detail = orjson.loads(error.detail or "{}")
            return Facts(detail.get("taken") or {}, detail.get("room") or {})
    if first_seq != owned.next_seq:
        raise Fenced(f"partition {owned.part} gave seq {first_seq}, its owner expected {owned.next_seq}")
    return replace(owned, turn=owned.turn + 1, next_offset=turn.next_offset, next_seq=owned.next_seq + len(turn.rows))


@dataclass(frozen=True, slots=True)
class LockedSession:
    """A transaction that holds the partition and its counters until the turn is applied."""

    connection: Connection
    facts: Facts

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Apply within the lock, once: a conflict ends the transaction, and its commit then writes nothing.

        Not in a savepoint: apply_v3 tells the ids of its own turn by the transaction's id.
        """
        return await apply(self.connection, owned, turn)


@asynccontextmanager
async def locked(
    pool: Pool, owned: Ownership, counters: Sequence[str], workflow_ids: Sequence[str]
) -> AsyncIterator[LockedSession]:
    """Hold the partition and the counters, locked in this order, for one turn; who filled them may have taken ids."""
    with faults_of(lost=OutcomeUnknown):
        async with pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(LOCK_PARTITION, owned.part, owned.epoch, owned.turn) is None:
                raise Fenced(f"partition {owned.part} has another owner")
            rows = await connection.fetch(LOCK_COUNTERS, list(counters))
            taken = await connection.fetch(TAKEN, list(workflow_ids)) if workflow_ids else ()
            facts = Facts(
                {row["workflow_id"]: row["root_id"] for row in taken}, {row["definition"]: row["room"] for row in rows}
            )
            yield LockedSession(connection, facts)


async def arguments(owned: Ownership, turn: Turn) -> list[Any]:
    """Return what `APPLY` is called with; others have the loop between workflows that take long to write."""
    return [
        owned.part,
        owned.epoch,
        owned.turn,
        owned.next_offset,
        turn.next_offset,
        owned.tick_time,
        owned.published_seq,
        turn.now,
        *_created(turn.created, await _dumped(turn.created)),
        *_changed(turn.changed, await _dumped(turn.changed)),
        *_columns(turn.rows),
        list(turn.open_deltas),
        list(turn.open_deltas.values()),
        *(_parked(turn) if turn.parked or turn.postponed or turn.unparked else _NOTHING_PARKED),
        *(_slas(turn.slas) if turn.slas else _NO_SLAS),
        *([list(column) for column in zip(*turn.timers, strict=True)] if turn.timers else _NO_TIMERS),
    ]


_NOTHING_PARKED: list[list[Any]] = [[]] * 20
_NO_SLAS: list[list[Any]] = [[]] * 9
_NO_TIMERS: list[list[Any]] = [[]] * 3


def _parked(turn: Turn) -> list[list[Any]]:
    parked = [record.parked for record in turn.parked]
    return [
        [each.offset for each in parked],
        [each.workflow_id for each in parked],
        [each.command_id for each in parked],
        [each.reason for each in parked],
        [each.detail for each in parked],
        [each.parked_at for each in parked],
        [each.attempts for each in parked],
        [each.not_before for each in parked],
        [each.expires_at for each in parked],
        [record.topic for record in turn.parked],
        [record.timestamp for record in turn.parked],
        [record.key for record in turn.parked],
        [record.value for record in turn.parked],
        [orjson.dumps(kept_headers(record)[0]).decode() for record in turn.parked],
        [each.offset for each in turn.postponed],
        [each.reason for each in turn.postponed],
        [each.detail for each in turn.postponed],
        [each.attempts for each in turn.postponed],
        [each.not_before for each in turn.postponed],
        [each.offset for each in turn.unparked],
    ]


async def _dumped(workflows: Sequence[Workflow]) -> list[str]:
    breath = Breath()
    bodies = []
    for workflow in workflows:
        bodies.append(dump(workflow).decode())
        await breath.taken()
    return bodies


def _created(workflows: Sequence[Workflow], bodies: list[str]) -> list[list[Any]]:
    return [
        [workflow.workflow_id for workflow in workflows],
        [workflow.root_id for workflow in workflows],
        [workflow.tenant for workflow in workflows],
        [workflow.definition for workflow in workflows],
        [workflow.definition_version for workflow in workflows],
        [workflow.state for workflow in workflows],
        [workflow.version for workflow in workflows],
        [workflow.completed_at is None for workflow in workflows],
        [workflow.created_at for workflow in workflows],
        [workflow.updated_at for workflow in workflows],
        bodies,
    ]


def _changed(workflows: Sequence[Workflow], bodies: list[str]) -> list[list[Any]]:
    return [
        [workflow.workflow_id for workflow in workflows],
        [workflow.state for workflow in workflows],
        [workflow.version for workflow in workflows],
        [workflow.completed_at is None for workflow in workflows],
        [workflow.definition_version for workflow in workflows],
        [workflow.updated_at for workflow in workflows],
        bodies,
    ]


def _slas(rows: Sequence[SlaRow]) -> list[list[Any]]:
    return [
        [row.workflow_id for row in rows],
        [row.name for row in rows],
        [row.body["run"] for row in rows],
        [row.body["status"] for row in rows],
        [row.body.get("stopped_at") is None for row in rows],
        [row.body["started_at"] for row in rows],
        [row.body.get("due_at") for row in rows],
        [row.body.get("next_at") for row in rows],
        [canonical(row.body).decode() for row in rows],
    ]


def _columns(rows: Sequence[JournalRow]) -> list[list[Any]]:
    """Return the rows column by column, in the order of apply_v3's arguments.

    A column without a value is sent empty: the server fills it up, and the driver need not look at each.
    """
    order = ("kind", "key", "workflow_id", "sequence", "type", "command_id", "digest", "event", "reply")
    columns = dict(zip(JournalRow._fields, map(list, zip(*rows, strict=True)), strict=False)) if rows else {}
    found = (columns.get(name, []) for name in (*order, "traceparent", "record_offset"))
    return [[] if column.count(None) == len(column) else column for column in found]
