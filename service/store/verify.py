"""Holds the store against its own history: what is folded from the journal must be what the rows say, byte for byte.

All of it in one snapshot through cursors, so a running service may go on and memory stays small however much there is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import asyncpg
import orjson

from domain.definition import Definition
from domain.evolve import MIGRATION, evolve
from domain.ids import event_id
from domain.instants import read
from domain.migration import fault_of
from domain.workflow import Workflow, dump, parse
from service.store import reconcile
from service.store.adoption import Incarnations, incarnations
from service.store.load import load_definition
from service.store.pool import Connection, faults_of, open_connection
from service.store.problems import SECONDS_MAX, Problems, ask
from service.store.versions import UnreadableVersionError

WORKFLOWS_AT_ONCE = 500
COLUMNS = ("root_id", "tenant", "definition", "definition_version", "state", "version")

Definitions = Mapping[tuple[str, int], Definition | None]

WORKFLOWS = "select * from workflow order by part, workflow_id"
EVENTS = """
select workflow_id, key, seq, sequence, event from journal
 where part = $1 and workflow_id = any ($2) and sequence is not null order by workflow_id, sequence
"""
# Each gives the bad rows as text, the first by place; one that gives none is well.
ACROSS = {
    "journal": """
        select format('partition %s: %s %s comes after row %s', part, what, seq, before) from (
            select 'row' as what, part, seq, coalesce(lag(seq) over (partition by part order by seq), 0) as before,
                   case kind when 'adopted' then (convert_from(event, 'UTF8')::jsonb ->> 'next_seq')::bigint
                             else seq end as due
              from journal
            union all
            select 'its next row', part, next_seq, coalesce((select max(seq) from journal j where j.part = p.part), 0),
                   next_seq
              from partition p
        ) as placed where due <> before + 1 order by part, before
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


class Progress(NamedTuple):
    """How many of the snapshot's workflows are folded."""

    workflows: int
    total: int


@dataclass(slots=True)
class Verified(Problems):
    """What was looked at, how many problems of each kind there are, and the first of them."""

    workflows: int = 0
    events: int = 0


async def verify(database_url: str, report: Callable[[Progress], None] = lambda _: None) -> Verified:
    """Check every workflow and what binds them together; raises DatabaseUnreachableError and Fault."""
    result = Verified()
    connection = await open_connection(database_url)
    try:
        with faults_of():
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await _fold_all(connection, result, report)
                await ask(connection, ACROSS | reconcile.CHECKS, result)
    finally:
        await connection.close()
    return result


async def _fold_all(connection: Connection, result: Verified, report: Callable[[Progress], None]) -> None:
    """Fold workflow after workflow, of one partition at a time; of their events few are held at once."""
    lives = await incarnations(connection)
    definitions = await _definitions(connection, result)
    total = await connection.fetchval("select count(*) from workflow", timeout=SECONDS_MAX)
    # Rows in their index's order: the plan that starts fast, not the one that sorts them all first.
    await connection.execute("set local cursor_tuple_fraction = 0.0001")
    await connection.execute(f"declare standing no scroll cursor for {WORKFLOWS}")
    report(Progress(0, total))
    while rows := await connection.fetch(f"fetch {WORKFLOWS_AT_ONCE} from standing", timeout=SECONDS_MAX):
        for part, group in groupby(rows, key=itemgetter("part")):
            expected = {row["workflow_id"]: row for row in group}
            histories = {each: History(each, definitions, lives.get(part), result.note) for each in expected}
            events = connection.cursor(EVENTS, part, list(expected), prefetch=WORKFLOWS_AT_ONCE, timeout=SECONDS_MAX)
            async for event in events:
                histories[event["workflow_id"]].take(event)
                result.events += 1
            for workflow_id, row in expected.items():
                histories[workflow_id].compare(row)
        result.workflows += len(rows)
        report(Progress(result.workflows, total))


async def _definitions(connection: Connection, result: Verified) -> Definitions:
    found = {}
    for name, version in await connection.fetch("select name, version from definition order by name, version"):
        try:
            found[(name, version)] = await load_definition(connection, name, version)
        except UnreadableVersionError as error:
            result.note("definition", str(error))
    return found


class History:
    """One workflow's events as they come: folded, judged against the one before, and at the end against the row."""

    def __init__(
        self, workflow_id: str, definitions: Definitions, lives: Incarnations | None, note: Callable[[str, str], None]
    ) -> None:
        self._id = workflow_id
        self._definitions = definitions
        self._lives = lives
        self._note = note
        self._workflow: Workflow | None = None
        self._last: dict[str, Any] | None = None  # of those that are changes
        self._broken = False

    def take(self, row: asyncpg.Record) -> None:
        """Fold the next event's row; the first that does not follow ends the folding."""
        sequence, root_id = row["sequence"], row["key"]
        before = self._workflow
        due = 1 if before is None else before.sequence + 1
        if self._broken:
            return
        if sequence != due:
            self._bad("sequence", f"event {sequence} stands where event {due} is due")
            self._broken = True
            return
        try:
            event = orjson.loads(row["event"])
            after = evolve(before, event)
            if (after.workflow_id, after.root_id) != (self._id, root_id):
                self._bad("history", f"event {sequence} speaks of {after.workflow_id} in the tree of {after.root_id}")
            self._judge(before, after, event, row["seq"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._bad("history", f"event {sequence} cannot be folded: {error!r}")
            self._broken = True
            return
        self._workflow = after
        if before is None or after.version != before.version:
            self._last = event

    def compare(self, row: asyncpg.Record) -> None:
        """Hold the workflow's row against its history and its columns against its body."""
        if self._workflow is None:
            if not self._broken:
                self._bad("history", "it has a row and no events")
        elif not self._broken and dump(self._workflow).decode() != row["body"]:
            self._bad("fold", "its row is not what its history gives")
        definition = self._definitions.get((row["definition"], row["definition_version"]))
        if definition is None:
            self._bad("definition", f"{row['definition']} version {row['definition_version']} is not in the store")
        elif row["state"] not in definition.states:
            self._bad("state", f"{row['state']} is no state of {definition.name} version {definition.version}")
        try:
            body = parse(row["body"].encode())
            meant = {name: getattr(body, name) for name in COLUMNS}
            meant |= {name: read(getattr(body, name)) for name in ("created_at", "updated_at")}
        except (ValueError, TypeError) as error:
            self._bad("columns", f"its body is no workflow: {error}")
            return
        if definition is not None:
            meant["is_open"] = body.state not in definition.terminal
        for name, value in meant.items():
            if row[name] != value:
                self._bad("columns", f"its column {name} is {row[name]}, its body says {value}")

    def _judge(self, before: Workflow | None, after: Workflow, event: dict[str, Any], seq: int) -> None:
        """Judge an event that folds: its id, its version, and whether its definition has this way."""
        expected_id = None if self._lives is None else event_id(self._lives.of(seq), self._id, after.sequence)
        if event["event_id"] != expected_id:
            self._bad("event_id", f"event {after.sequence} has id {event['event_id']}, must have {expected_id}")
        # What comes of a command's change, or of time, is no change of its own.
        command_id = event.get("command_id")
        derived = command_id is None or command_id == (self._last or {}).get("command_id")
        version = 1 if before is None else before.version + (not derived)
        if after.version != version:
            self._bad("version", f"event {after.sequence} has version {after.version}, must have {version}")
        definition = self._definitions.get((after.definition, after.definition_version))
        if before is not None and event.get("category") == MIGRATION:
            versions = self._definitions.get((before.definition, before.definition_version)), definition
            if (problem := fault_of(before, event, self._last, versions)) is not None:
                self._bad("migration", f"event {after.sequence}: {problem}")
            return
        if definition is None or "to_state" not in event:
            return
        if before is None:
            if after.state != definition.initial:
                self._bad("transition", f"it was created in {after.state}, not in {definition.initial}")
            return
        way = definition.by_name.get((before.state, event.get("transition", "")))
        if way is None or way.target != after.state or event.get("from_state") != before.state:
            self._bad(
                "transition",
                f"event {after.sequence} takes {event.get('transition')} from {before.state} to {after.state}, "
                f"which {definition.name} version {definition.version} does not have",
            )

    def _bad(self, kind: str, what: str) -> None:
        self._note(kind, f"{self._id}: {what}")
