"""Definitions as stored: immutable once applied; their limit is counted from the moment one is declared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domain.definition import Definition
from service.definitions.files import Parsed
from service.store.calendars import check_promise
from service.store.pool import Connection, faults_of
from service.store.versions import Stored, is_applied


@dataclass(frozen=True, slots=True)
class StoredDefinition(Stored):
    """A definition's version; `open` counts workflows that are not in a terminal state."""

    workflows: int
    open: int


async def apply_definition(
    connection: Connection, parsed: Parsed, definition: Definition, source: str, *, applied_by: str | None
) -> bool:
    """Store a version; returns False where the same is stored already.

    Raises VersionTakenError, and CalendarError where an SLA is reckoned by no calendar that is stored.
    """
    name, version = definition.name, definition.version
    with faults_of():
        async with connection.transaction():
            if await is_applied(connection, "definition", name, version, parsed.digest):
                return False
            for terms in definition.slas.values():
                await check_promise(connection, terms)
            await connection.execute(
                """
                insert into definition (name, version, body, source, digest, applied_by)
                values ($1, $2, $3, $4, $5, $6)
                """,
                name,
                version,
                parsed.canonical.decode(),
                source,
                parsed.digest,
                applied_by,
            )
            await _limit(connection, name)
    return True


async def _limit(connection: Connection, name: str) -> None:
    """Let the latest version's limit count. A first limit waits for turns in flight and counts what is open."""
    max_open = await connection.fetchval(
        """
        select (body::jsonb #>> '{limits,max_open}')::bigint from definition
         where name = $1 order by version desc limit 1
        """,
        name,
    )
    counted = await connection.fetchval("select true from open_count where definition = $1", name)
    if counted:
        await connection.execute("update open_count set max_open = $2 where definition = $1", name, max_open)
    elif max_open is not None:
        await connection.execute("select 1 from partition order by part for update")
        await connection.execute(
            """
            insert into open_count (definition, open, max_open)
            select $1, count(*), $2 from workflow where definition = $1 and is_open
            """,
            name,
            max_open,
        )


async def list_definitions(connection: Connection, name: str | None = None) -> Sequence[StoredDefinition]:
    """Return every version, newest first, with the workflows on it."""
    with faults_of():
        rows = await connection.fetch(
            """
            select d.name, d.version, d.digest, d.applied_at, d.applied_by, d.source,
                   coalesce(w.workflows, 0)::bigint as workflows, coalesce(w.open, 0)::bigint as open
              from definition d
              left join (select definition, definition_version, count(*) as workflows,
                                count(*) filter (where is_open) as open
                           from workflow group by 1, 2) w
                on w.definition = d.name and w.definition_version = d.version
             where $1::text is null or d.name = $1
             order by d.name, d.version desc
            """,
            name,
        )
    return [StoredDefinition(**dict(row)) for row in rows]


async def open_by_state(connection: Connection, name: str, version: int) -> Mapping[str, int]:
    """Count a version's open workflows by their state."""
    with faults_of():
        rows = await connection.fetch(
            """
            select state, count(*) as open from workflow
             where definition = $1 and definition_version = $2 and is_open group by state
            """,
            name,
            version,
        )
    return {row["state"]: row["open"] for row in rows}
