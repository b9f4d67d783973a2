"""Which workflows a bulk migration is about, page by page in the order of their keys: each statement stays short."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from domain.migration import EVENT_TYPE
from domain.workflow import Workflow, parse
from service.store.load import LAST_CHANGE
from service.store.pool import Connection, faults_of

STATEMENT_SECONDS_MAX = 30

_OPEN = """
select part, workflow_id, body from workflow
 where (part, workflow_id) > ($1, $2) and definition = $3 and definition_version = $4 and is_open
 order by part, workflow_id limit $5
"""
_MIGRATIONS = f"j.sequence is not null and j.type like '%.{EVENT_TYPE}' and position($4::bytea in j.event) > 0"
_MIGRATED = f"""
with w as (
    select part, workflow_id, version, body from workflow
     where (part, workflow_id) > ($1, $2) and definition = $3 order by part, workflow_id limit $5
)
select w.*, migration.event as migration, last.event as last from w
  left join lateral (
      select j.event from journal j
       where j.part = w.part and j.workflow_id = w.workflow_id and {_MIGRATIONS} order by j.sequence desc limit 1
  ) as migration on true
  left join lateral ({LAST_CHANGE}) as last on migration.event is not null
 order by w.part, w.workflow_id
"""  # noqa: S608 - names of ours
_THESE = """
select w.body from workflow_id r join workflow w on w.part = r.part and w.workflow_id = r.workflow_id
 where r.workflow_id = any ($1)
"""
_FIRST = (-1, "")


@dataclass(frozen=True, slots=True)
class Standing:
    """A workflow as it stands; where it is to be undone, its last change and the migration's own."""

    workflow: Workflow
    last: dict[str, Any] | None = None
    migration: dict[str, Any] | None = None


async def count_open(connection: Connection, name: str, version: int) -> int:
    """Count the open workflows on a version."""
    with faults_of():
        return int(
            await connection.fetchval(
                "select count(*) from workflow where definition = $1 and definition_version = $2 and is_open",
                name,
                version,
            )
        )


class _Source:
    """The workflows of one definition, read on one connection."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    async def room(self) -> int | None:
        """Return how many more workflows of the definition may be open, None without a limit."""
        with faults_of():
            found = await self._connection.fetchval(
                "select max_open - open from open_count where definition = $1 and max_open is not null", self._name
            )
        return None if found is None else int(found)

    async def these(self, workflow_ids: Sequence[str]) -> list[Standing]:
        """Return some workflows as they stand now."""
        rows = await _page(self._connection, _THESE, list(workflow_ids))
        return [Standing(parse(row["body"].encode())) for row in rows]


class OpenWorkflows(_Source):
    """The open workflows on a version."""

    def __init__(self, connection: Connection, name: str, version: int) -> None:
        super().__init__(connection, name)
        self._version = version

    async def pages(self, limit: int) -> AsyncIterator[list[Standing]]:
        """Yield all of them; one that leaves or comes meanwhile may be in it or not."""
        after = _FIRST
        while rows := await _page(self._connection, _OPEN, *after, self._name, self._version, limit):
            after = rows[-1]["part"], rows[-1]["workflow_id"]
            yield [Standing(parse(row["body"].encode())) for row in rows]


class MovedWorkflows(_Source):
    """The workflows that a run has migrated and that were not taken back since, with their last changes."""

    def __init__(self, connection: Connection, name: str, correlation_id: str) -> None:
        super().__init__(connection, name)
        # Canonical JSON escapes quotation marks inside a value, so this is nothing but the field.
        self._mark = f'"correlation_id":"{correlation_id}"'.encode()

    async def pages(self, limit: int) -> AsyncIterator[list[Standing]]:
        """Yield all of them, open or closed."""
        after = _FIRST
        while rows := await _page(self._connection, _MIGRATED, *after, self._name, self._mark, limit):
            after = rows[-1]["part"], rows[-1]["workflow_id"]
            found = [
                Standing(parse(row["body"].encode()), orjson.loads(row["last"]), orjson.loads(row["migration"]))
                for row in rows
                if row["migration"] is not None
            ]
            yield [each for each in found if each.migration is not None and "undoes" not in each.migration["details"]]


async def _page(connection: Connection, query: str, *arguments: object) -> list[asyncpg.Record]:
    with faults_of():
        return list(await connection.fetch(query, *arguments))
