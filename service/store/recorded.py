"""What the journal keeps of decided commands: whose they are, where their records are, what was said to them."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from service.store.pool import Connection, faults_of

WORKFLOWS_AT_ONCE = 200

_CHOSEN = """
select part, workflow_id from workflow
 where definition = $1 and ($2::timestamptz is null or created_at >= $2) order by created_at desc limit $3
"""
_REPLY = "select seq, workflow_id, record_offset, digest, reply, event, decided_at from journal"
# The reply is on the last event, the change is the first: others came of it.
_CHANGE = """
select seq, workflow_id, record_offset, digest, reply, (
    select first.event from journal first
     where first.part = j.part and first.workflow_id = j.workflow_id
       and first.sequence = j.sequence + 1 - jsonb_array_length(convert_from(j.reply, 'UTF8')::jsonb -> 'events')
) as event, decided_at from journal j
"""
# A refusal whose command named another root may be on another partition: it was not about this workflow.
_ANSWERED = f"""
{_CHANGE} where part = $1 and workflow_id = any ($2) and sequence is not null and reply is not null
union all
{_REPLY} where part = $1 and workflow_id = any ($2) and kind = 'reply'
order by seq
"""
_STANDING = """
select w.definition, w.definition_version as version, count(*) filter (where w.is_open)::bigint as open
  from workflow_id r join workflow w on w.part = r.part and w.workflow_id = r.workflow_id
 where r.workflow_id = any ($1) group by 1, 2 order by 1, 2
"""
_HISTORIES = """
select workflow_id, event from journal
 where part = $1 and workflow_id = any ($2) and sequence is not null order by workflow_id, sequence
"""


@dataclass(frozen=True, slots=True)
class Answered:
    """One answered command: the offset of its record, its reply and, where it was accepted, its change.

    `decided_at` is by the database's clock, also where the reply tells logical time.
    """

    workflow_id: str
    record_offset: int
    digest: bytes | None
    event: dict[str, Any] | None
    reply: dict[str, Any]
    decided_at: datetime


class Held(NamedTuple):
    """A version that workflows are on, and how many of them are open."""

    definition: str
    version: int
    open: int


async def held(connection: Connection, workflow_ids: Sequence[str]) -> list[Held]:
    """Return what those of these workflows are on that there are."""
    with faults_of():
        rows = await connection.fetch(_STANDING, workflow_ids)
    return [Held(**dict(row)) for row in rows]


async def chosen(
    connection: Connection, definition: str, *, since: datetime | None, limit: int
) -> dict[int, list[str]]:
    """Return the newest workflows of a definition by partition, those created at or after `since` if it is given."""
    with faults_of():
        rows = await connection.fetch(_CHOSEN, definition, since, limit)
    found: dict[int, list[str]] = {}
    for row in rows:
        found.setdefault(row["part"], []).append(row["workflow_id"])
    return found


async def answered(
    connection: Connection, part: int, workflow_ids: Sequence[str]
) -> AsyncIterator[dict[str, list[Answered]]]:
    """Yield some workflows' answered commands at a time, each workflow's in the order in which they were decided."""
    for start in range(0, len(workflow_ids), WORKFLOWS_AT_ONCE):
        some = workflow_ids[start : start + WORKFLOWS_AT_ONCE]
        with faults_of():
            rows = await connection.fetch(_ANSWERED, part, some)
        found: dict[str, list[Answered]] = {workflow_id: [] for workflow_id in some}
        for row in rows:
            event = None if row["event"] is None else orjson.loads(row["event"])
            found[row["workflow_id"]].append(
                Answered(
                    row["workflow_id"],
                    row["record_offset"],
                    row["digest"],
                    event,
                    orjson.loads(row["reply"]),
                    row["decided_at"],
                )
            )
        yield found


async def histories(
    connection: Connection, part: int, workflow_ids: Sequence[str]
) -> AsyncIterator[list[list[dict[str, Any]]]]:
    """Yield some workflows' histories at a time."""
    for start in range(0, len(workflow_ids), WORKFLOWS_AT_ONCE):
        with faults_of():
            rows = await connection.fetch(_HISTORIES, part, workflow_ids[start : start + WORKFLOWS_AT_ONCE])
        found: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            found.setdefault(row["workflow_id"], []).append(orjson.loads(row["event"]))
        yield list(found.values())
