"""Timers as stored: which are due, and which come next."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from handlers.ports import Ownership, Timer
from service.store.pool import Connection, faults_of

DUE = "select workflow_id, name, due_at from timer where part = $1 and due_at <= $2 order by due_at limit $3"
# Each partition by its index, so that a limit bounds what is read.
NEXT = """
select t.part, t.workflow_id, t.name, t.due_at, w.definition, w.state, w.body::jsonb -> 'slas' -> t.name ->> 'status'
  from partition p
 cross join lateral (
        select * from timer where timer.part = p.part and ($1::timestamptz is null or timer.due_at < $1)
         order by timer.due_at, timer.workflow_id limit $3
       ) as t
  left join workflow w on w.part = t.part and w.workflow_id = t.workflow_id
 where $2::int is null or p.part = $2
 order by t.due_at, t.workflow_id, t.name limit $3
"""
NEXT_OF_WORKFLOW = """
select t.part, t.workflow_id, t.name, t.due_at, w.definition, w.state, w.body::jsonb -> 'slas' -> t.name ->> 'status'
  from timer t left join workflow w on w.part = t.part and w.workflow_id = t.workflow_id
 where t.part = any (array(select part from partition)) and t.workflow_id = $4
   and ($1::timestamptz is null or t.due_at < $1) and ($2::int is null or t.part = $2)
 order by t.due_at, t.name limit $3
"""


@dataclass(frozen=True, slots=True)
class TimerFilter:
    """Which timers to list; None is any."""

    before: datetime | None = None
    workflow_id: str | None = None
    part: int | None = None
    limit: int = 50


class NextTimer(NamedTuple):
    """A timer with what it is of; `status` is the SLA's own, None where the timer has no such SLA."""

    part: int
    workflow_id: str
    sla: str
    due_at: datetime
    definition: str | None
    state: str | None
    status: str | None


async def load_due(connection: Connection, owned: Ownership, until: datetime, limit: int) -> list[Timer]:
    """Return up to `limit` timers that are due at an instant or before, the earliest first."""
    with faults_of():
        rows = await connection.fetch(DUE, owned.part, until, limit)
    return [Timer(*row) for row in rows]


async def count_due(connection: Connection, until: datetime) -> int:
    """Return how many timers of any partition are due at an instant or before."""
    with faults_of():
        return int(await connection.fetchval("select count(*) from timer where due_at <= $1", until))


async def next_timers(connection: Connection, wanted: TimerFilter) -> list[NextTimer]:
    """Return timers, the earliest first."""
    asked = (wanted.before, wanted.part, wanted.limit)
    with faults_of():
        if wanted.workflow_id is None:
            rows = await connection.fetch(NEXT, *asked)
        else:
            rows = await connection.fetch(NEXT_OF_WORKFLOW, *asked, wanted.workflow_id)
    return [NextTimer(*row) for row in rows]
