"""What people ask the store, in plain bounded SQL on a connection of its own that cannot write and ends after 2 s.

A workflow is found through the id registry, which knows its part; every other read follows an index or a limit.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args
from uuid import UUID

import asyncpg
import orjson

from domain.workflow import Workflow, parse
from handlers.faults import Fault
from service.store.pool import READ_SECONDS_MAX, Connection, faults_of, open_pool
from service.store.schema import SchemaError

Sort = Literal["created_at", "updated_at", "workflow_id", "definition", "state", "version"]
SORTS: tuple[str, ...] = get_args(Sort)
PAGE = 500

_ROW = "select part, is_open, body from workflow"
_FIND = f"{_ROW} w where (part, workflow_id) = (select part, workflow_id from workflow_id r where r.workflow_id = $1)"  # noqa: S608 - names of ours
_MATCHES = """
 where ($1::text is null or definition = $1) and ($2::text is null or state = $2)
   and ($3::text is null or tenant = $3) and ($4::boolean is null or is_open = $4)
   and ($5::text is null or body::jsonb ->> 'service_area' = $5)
   and ($6::text is null or exists (
       select from (
           select distinct on (s.name) s.status from sla s
            where s.part = workflow.part and s.workflow_id = workflow.workflow_id order by s.name, s.run desc
       ) newest where newest.status = $6
   ))
"""
_HISTORY = """
select event from journal
 where part = (select part from workflow_id where workflow_id = $1)
   and workflow_id = $1 and sequence > $2 order by sequence limit $3
"""
# What an SLA or a command on it tells meanwhile brings a workflow nowhere. Only what has the field's name is parsed:
# metadata may be large, and there may be much of it.
_LAST_CHANGE = """
select part, seq, decided_at, event from journal
 where part = (select part from workflow_id where workflow_id = $1)
   and workflow_id = $1 and sequence is not null
   and case when position('"to_state":'::bytea in event) > 0
            then convert_from(event, 'UTF8')::json -> 'to_state' is not null end
 order by sequence desc limit 1
"""
_GUARDED = """
select event from journal
 where part = (select part from workflow_id where workflow_id = $1)
   and workflow_id = $1 and sequence is not null
   and case when position('"verdict":'::bytea in event) > 0
            then convert_from(event, 'UTF8')::json -> 'verdict' is not null end
 order by sequence desc limit $2
"""
_REPLIES = "select part, seq, kind, key, workflow_id, type, record_offset, decided_at, reply from journal"
# A refusal is where its command's root is, which need not be where the id is taken: each partition is asked, by index.
_REPLIED = f"""
{_REPLIES} where part = any (array(select part from partition)) and workflow_id = $1 and kind = 'reply'
"""  # noqa: S608 - as above
_ACCEPTED = f"""
{_REPLIES} where part = (select part from workflow_id where workflow_id = $1)
   and workflow_id = $1 and sequence is not null and reply is not null
"""  # noqa: S608 - as above
_OUTCOMES = f"""
({_REPLIED} order by decided_at desc, seq desc limit $2) union all ({_ACCEPTED} order by sequence desc limit $2)
order by decided_at desc, seq desc limit $2
"""
# Canonical JSON escapes quotation marks inside a value, so these marks are nothing but the field.
_REFUSALS = f"""
{_REPLIED} and ($2::timestamptz is null or decided_at >= $2) and position('"outcome":"rejected"'::bytea in reply) > 0
   and convert_from(reply, 'UTF8')::json -> 'duplicate' is null
 order by decided_at desc, seq desc limit $3
"""
_PARKED = """
select part, record_offset, workflow_id, command_id::text, reason, detail, parked_at, attempts, not_before, expires_at
  from parked where workflow_id = $1 or command_id = $2 order by part, record_offset limit $3
"""
_LETTERS = "select part, seq, decided_at, {letter} as letter from journal where kind = 'dead_letter'"
# The page is chosen before the values are taken out: a value may be as large as a record.
_PAGE_OF_LETTERS = """
 and (part, seq) in (
     select part, seq from journal where kind = 'dead_letter'
      order by decided_at desc, part, seq desc limit $1 offset $2
 ) order by decided_at desc, part, seq desc
"""
_WHOLE = "convert_from(event, 'UTF8')"
# Base64 has no quotation marks.
_WITHOUT_VALUE = f"""regexp_replace({_WHOLE}, '"value":"[^"]*"', '"value":null')"""


class TooSlowError(Exception):
    """A read took longer than people may keep the database busy."""


@dataclass(frozen=True, slots=True)
class Found:
    """A workflow's row: where it is, whether it counts as open, and the workflow, parsed and as it is written."""

    part: int
    is_open: bool
    workflow: Workflow
    body: bytes


@dataclass(frozen=True, slots=True)
class Filter:
    """Which workflows to list; None is any."""

    definition: str | None = None
    state: str | None = None
    tenant: str | None = None
    is_open: bool | None = None
    service_area: str | None = None
    sla: str | None = None
    """The status of one of its SLAs, of its newest run."""


class Page(NamedTuple):
    """Which of the matching workflows to list: `limit` of them from `offset` on, in an order."""

    sort: Sort = "created_at"
    descending: bool = True
    limit: int = 50
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Listed:
    """One page, and how many match in all."""

    rows: Sequence[Found]
    total: int


class LastChange(NamedTuple):
    """The event that brought a workflow into its state, and its place in the partition's journal."""

    part: int
    seq: int
    decided_at: datetime
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One command's outcome as the journal keeps it; `kind` is "event" where it was accepted, else "reply"."""

    part: int
    seq: int
    kind: str
    root_id: str
    workflow_id: str
    type: str
    record_offset: int
    decided_at: datetime
    reply: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """A dead letter as the journal keeps it; `letter` is contracts.dead_letters.DeadLetter as JSON."""

    part: int
    seq: int
    decided_at: datetime
    letter: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ParkedCommand:
    """A command whose outcome is still open; `reason` is handlers.ports.ParkReason."""

    part: int
    record_offset: int
    workflow_id: str
    command_id: str | None
    reason: str
    detail: str
    parked_at: datetime
    attempts: int
    not_before: datetime
    expires_at: datetime | None


@asynccontextmanager
async def reading(database_url: str, *, seconds_max: int = READ_SECONDS_MAX) -> AsyncIterator[Connection]:
    """Give a connection for reads alone; raises TooSlowError, SchemaError and DatabaseUnreachableError."""
    pool = await open_pool(database_url, size=1, statement_seconds_max=seconds_max)
    try:
        async with pool.acquire() as connection:
            with faults_of():
                await connection.execute("set default_transaction_read_only = on")
            yield connection
    except Fault as fault:
        if isinstance(fault.__cause__, asyncpg.QueryCanceledError):
            problem = f"the database did not answer within {seconds_max} s; narrow the question, e.g. by definition"
            raise TooSlowError(problem) from fault
        if isinstance(fault.__cause__, asyncpg.UndefinedTableError):
            raise SchemaError("the database has no schema yet: run `turnstile db migrate`") from fault
        raise
    finally:
        await pool.close()


async def get_workflow(connection: Connection, workflow_id: str) -> Found | None:
    """Return a workflow as it stands."""
    with faults_of():
        row = await connection.fetchrow(_FIND, workflow_id)
    return None if row is None else _found(row)


async def list_workflows(connection: Connection, wanted: Filter, page: Page = Page()) -> Listed:  # noqa: B008 - immutable
    """Return a page of the workflows that match, and their number, both as of one moment."""
    if page.sort not in SORTS:
        raise ValueError(f"no such order: {page.sort}")
    direction = "desc" if page.descending else "asc"
    order = f"order by {page.sort} {direction}, workflow_id {direction}"
    filters = (wanted.definition, wanted.state, wanted.tenant, wanted.is_open, wanted.service_area, wanted.sla)
    with faults_of():
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            total = await connection.fetchval(f"select count(*) from workflow {_MATCHES}", *filters)  # noqa: S608
            query = f"{_ROW} {_MATCHES} {order} limit $7 offset $8"
            rows = await connection.fetch(query, *filters, page.limit, page.offset)
    return Listed([_found(row) for row in rows], int(total))


async def history(connection: Connection, workflow_id: str, *, after: int = 0, limit: int | None = PAGE) -> list[bytes]:
    """Return a workflow's events by sequence, as they were written, those above sequence `after`; all without limit."""
    with faults_of():
        rows = await connection.fetch(_HISTORY, workflow_id, after, limit)
    return [row["event"] for row in rows]


async def last_change(connection: Connection, workflow_id: str) -> LastChange | None:
    """Return what a workflow's state comes from."""
    with faults_of():
        row = await connection.fetchrow(_LAST_CHANGE, workflow_id)
    return None if row is None else LastChange(row["part"], row["seq"], row["decided_at"], orjson.loads(row["event"]))


async def guarded(connection: Connection, workflow_id: str, *, limit: int = PAGE) -> list[dict[str, Any]]:
    """Return the newest events of a workflow whose guard was asked, by sequence."""
    with faults_of():
        rows = await connection.fetch(_GUARDED, workflow_id, limit)
    return [orjson.loads(row["event"]) for row in reversed(rows)]


async def outcomes(connection: Connection, workflow_id: str, *, limit: int = PAGE) -> list[Outcome]:
    """Return the outcomes of a workflow's commands, repeats among them, the newest first."""
    with faults_of():
        rows = await connection.fetch(_OUTCOMES, workflow_id, limit)
    return [_outcome(row) for row in rows]


async def refusals(
    connection: Connection, workflow_id: str, *, since: LastChange | None = None, limit: int = PAGE
) -> list[Outcome]:
    """Return the decisions against a workflow's commands since an event of it, the newest first, without repeats."""
    with faults_of():
        rows = await connection.fetch(_REFUSALS, workflow_id, None if since is None else since.decided_at, limit)
    found = map(_outcome, rows)
    # One turn decides many commands at one instant.
    return [each for each in found if since is None or each.part != since.part or each.seq > since.seq]


async def outcomes_of_command(connection: Connection, command_id: UUID) -> list[Outcome]:
    """Return the outcomes bound to a command id: one per root that used it."""
    with faults_of():
        rows = await connection.fetch(f"{_REPLIES} where command_id = $1 order by decided_at", command_id)
    return [_outcome(row) for row in rows]


async def parked(
    connection: Connection, workflow_id: str, command_id: UUID | None = None, *, limit: int = PAGE
) -> list[ParkedCommand]:
    """Return the parked commands of a workflow, or of a command id, in their order."""
    with faults_of():
        rows = await connection.fetch(_PARKED, workflow_id, command_id, limit)
    return [ParkedCommand(**dict(row)) for row in rows]


async def dead_letters(connection: Connection, *, limit: int = PAGE, offset: int = 0) -> list[DeadLetterRow]:
    """Return dead letters, the newest first, without their values."""
    query = _LETTERS.format(letter=_WITHOUT_VALUE) + _PAGE_OF_LETTERS
    with faults_of():
        rows = await connection.fetch(query, limit, offset)
    return [_letter(row) for row in rows]


async def dead_letter(connection: Connection, part: int, seq: int) -> DeadLetterRow | None:
    """Return one dead letter, whole."""
    with faults_of():
        row = await connection.fetchrow(f"{_LETTERS.format(letter=_WHOLE)} and part = $1 and seq = $2", part, seq)
    return None if row is None else _letter(row)


async def clocks(connection: Connection, part: int) -> tuple[datetime, datetime | None]:
    """Return the database's clock, and the time of a partition's newest tick, None where there was none yet."""
    with faults_of():
        [row] = await connection.fetch(
            "select clock_timestamp() as now, (select tick_time from partition where part = $1) as tick_time", part
        )
    return row["now"], row["tick_time"]


async def server_version(connection: Connection) -> str:
    """Return PostgreSQL's version, e.g. 18.6."""
    with faults_of():
        return str(await connection.fetchval("show server_version"))


def _found(row: asyncpg.Record) -> Found:
    body = row["body"].encode()
    return Found(row["part"], row["is_open"], parse(body), body)


def _outcome(row: asyncpg.Record) -> Outcome:
    return Outcome(
        row["part"],
        row["seq"],
        row["kind"],
        row["key"],
        row["workflow_id"],
        row["type"],
        row["record_offset"],
        row["decided_at"],
        orjson.loads(row["reply"]),
    )


def _letter(row: asyncpg.Record) -> DeadLetterRow:
    return DeadLetterRow(row["part"], row["seq"], row["decided_at"], orjson.loads(row["letter"]))
