"""Holds the store against its own history: what is folded from the journal must be what the rows say, byte for byte.

All of it in one snapshot through cursors, so a running service may go on and memory stays small however much there is.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import orjson

from domain.definition import Definition
from domain.evolve import evolve
from domain.ids import event_id
from domain.instants import written
from domain.workflow import Workflow, dump
from service.store.load import load_definition
from service.store.pool import Connection, faults_of, open_connection

WORKFLOWS_AT_ONCE = 500
SHOWN_MAX = 20

WORKFLOWS = "select * from workflow order by part, workflow_id"
EVENTS = """
select workflow_id, key, sequence, event from journal
 where part = $1 and workflow_id = any ($2) and sequence is not null order by workflow_id, sequence
"""
# Each gives the bad rows as text, the first by place; one that gives none is well.
ACROSS = {
    "journal": """
        select format('partition %s: row %s is missing', part, before + 1) from (
            select part, seq, coalesce(lag(seq) over (partition by part order by seq), 0) as before from journal
            union all select part, next_seq, coalesce((select max(seq) from journal j where j.part = p.part), 0)
              from partition p
        ) as placed where seq <> before + 1 order by part, before
    """,
    "outcome": """
        select format('command %s of root %s has %s outcomes', command_id, key, count(*))
          from journal where command_id is not null group by key, command_id having count(*) > 1 order by 1
    """,
    "history": """
        select format('%s: it has events and no row', workflow_id) from (
            select distinct j.workflow_id from journal j
              left join workflow w on w.part = j.part and w.workflow_id = j.workflow_id
             where j.sequence is not null and w.workflow_id is null
        ) as orphan order by workflow_id
    """,
    "registry": """
        select format('%s: the registry has partition %s and root %s, the row partition %s and root %s', workflow_id,
                      coalesce(r.part::text, 'none'), coalesce(r.root_id, 'none'),
                      coalesce(w.part::text, 'none'), coalesce(w.root_id, 'none'))
          from workflow w full join workflow_id r using (workflow_id)
         where w.part is distinct from r.part or w.root_id is distinct from r.root_id order by workflow_id
    """,
    "open_count": """
        with latest as (
            select distinct on (name) name, (body::jsonb #>> '{limits,max_open}')::bigint as max_open
              from definition order by name, version desc
        ), counted as (select definition, count(*) as open from workflow where is_open group by definition)
        select format('%s: %s are open, its counter says %s', coalesce(c.definition, latest.name),
                      coalesce(counted.open, 0), coalesce(c.open::text, 'nothing'))
          from open_count c full join latest on latest.name = c.definition
          left join counted on counted.definition = coalesce(c.definition, latest.name)
         where (c.definition is not null or latest.max_open is not null)
           and c.open is distinct from coalesce(counted.open, 0) order by 1
    """,
}


class Problem(NamedTuple):
    """One thing that is not as it must be; `kind` names the check."""

    kind: str
    what: str


class Progress(NamedTuple):
    """How many of the snapshot's workflows are folded."""

    workflows: int
    total: int


@dataclass(slots=True)
class Verified:
    """What was looked at, how many problems of each kind there are, and the first of them."""

    workflows: int = 0
    events: int = 0
    found: dict[str, int] = field(default_factory=dict)
    first: list[Problem] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.found

    def note(self, kind: str, what: str) -> None:
        """Count a problem, and keep it if it is among the first of its kind."""
        self.found[kind] = self.found.get(kind, 0) + 1
        if self.found[kind] <= SHOWN_MAX:
            self.first.append(Problem(kind, what))


async def verify(database_url: str, report: Callable[[Progress], None] = lambda _: None) -> Verified:
    """Check every workflow and what binds them together; raises DatabaseUnreachableError and Fault."""
    result = Verified()
    async with _snapshot(database_url) as connection:
        incarnations = {
            row["part"]: row["incarnation"] for row in await connection.fetch("select part, incarnation from partition")
        }
        folding = _Folding(connection, incarnations, result)
        total = await connection.fetchval("select count(*) from workflow")
        batch: list[asyncpg.Record] = []
        async for row in connection.cursor(WORKFLOWS, prefetch=WORKFLOWS_AT_ONCE):
            if batch and (len(batch) == WORKFLOWS_AT_ONCE or batch[0]["part"] != row["part"]):
                await folding.check(batch)
                report(Progress(result.workflows, total))
                batch = []
            batch.append(row)
        if batch:
            await folding.check(batch)
        report(Progress(result.workflows, total))
        for kind, query in ACROSS.items():
            async for row in connection.cursor(query):
                result.note(kind, row[0])
    return result


@asynccontextmanager
async def _snapshot(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Give a connection that sees one moment; its statements may take long, as there may be much to read."""
    connection = await open_connection(database_url, seconds_max=None)
    try:
        with faults_of():
            # Rows come in their index's order: sorting the whole journal first would need its size on disk.
            await connection.execute("set enable_sort = off")
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield connection
    finally:
        await connection.close()


@dataclass(slots=True)
class _Folding:
    """Folds the events of workflows beside their rows."""

    connection: Connection
    incarnations: dict[int, UUID]
    result: Verified
    definitions: dict[tuple[str, int], Definition | None] = field(default_factory=dict)

    async def check(self, rows: list[asyncpg.Record]) -> None:
        """Check workflows of one partition; of their events only one is held at a time."""
        part = rows[0]["part"]
        histories = {row["workflow_id"]: _History(row["workflow_id"], self.incarnations.get(part)) for row in rows}
        for row in rows:
            await self._load(row["definition"], row["definition_version"])
        cursor = self.connection.cursor(EVENTS, part, list(histories), prefetch=WORKFLOWS_AT_ONCE)
        async for event in cursor:
            self.result.events += 1
            histories[event["workflow_id"]].take(event, self.definitions)
        for row in rows:
            self.result.workflows += 1
            self._compare(row, histories[row["workflow_id"]])

    async def _load(self, name: str, version: int) -> None:
        if (name, version) not in self.definitions:
            self.definitions[(name, version)] = await load_definition(self.connection, name, version)

    def _compare(self, row: asyncpg.Record, history: "_History") -> None:
        workflow_id = row["workflow_id"]
        for problem in history.problems:
            self.result.note(*problem)
        if history.workflow is None:
            if not history.problems:
                self.result.note("history", f"{workflow_id}: it has a row and no events")
            return
        if not history.broken and dump(history.workflow).decode() != row["body"]:
            self.result.note("fold", f"{workflow_id}: its row is not what its history gives")
        for problem in _columns(row, self.definitions):
            self.result.note(*problem)


class _History:
    """One workflow's events as they come: folded, and judged against what must hold between them."""

    def __init__(self, workflow_id: str, incarnation: UUID | None) -> None:
        self.workflow: Workflow | None = None
        self.problems: list[Problem] = []
        self.broken = False
        self._id = workflow_id
        self._incarnation = incarnation
