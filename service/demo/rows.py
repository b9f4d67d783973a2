"""Reads the store's rows as they are, past the service: what the scenarios hold replies and events against."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

import orjson

from service.store.pool import Connection, faults_of


@dataclass(frozen=True, slots=True)
class StoredWorkflow:
    """A workflow's row; `body` is the canonical JSON of all its fields, `fields` the same read."""

    part: int
    workflow_id: str
    root_id: str
    definition: str
    state: str
    version: int
    is_open: bool
    body: str

    @property
    def fields(self) -> dict[str, Any]:
        """Return every field that is not at its default."""
        return dict(orjson.loads(self.body))


COLUMNS = tuple(field.name for field in fields(StoredWorkflow))


class Rows:
    """Reads on one connection, one after another."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._free = asyncio.Lock()

    async def workflow(self, workflow_id: str) -> StoredWorkflow | None:
        """Return the row of one workflow."""
        return next(iter(await self._workflows("workflow_id = $1", workflow_id)), None)

    async def workflows(self, prefix: str) -> dict[str, StoredWorkflow]:
        """Return the rows of every workflow whose id begins so."""
        return {row.workflow_id: row for row in await self._workflows("starts_with(workflow_id, $1)", prefix)}

    async def left_open(self, prefix: str, *, idle_seconds: float = 0) -> Sequence[StoredWorkflow]:
        """Return the open workflows whose id begins so and that nothing has touched for a while."""
        return await self._workflows(
            "starts_with(workflow_id, $1) and is_open and updated_at <= clock_timestamp() - make_interval(secs => $2)",
            prefix,
            float(idle_seconds),
        )

    async def history(self, prefix: str) -> dict[str, list[dict[str, Any]]]:
        """Return the stored events of every workflow whose id begins so, each in the order of `seq`."""
        found = await self._fetch(
            """
            select workflow_id, event from journal
             where kind = 'event' and starts_with(workflow_id, $1) order by part, seq
            """,
            prefix,
        )
        histories: dict[str, list[dict[str, Any]]] = {}
        for row in found:
            histories.setdefault(row["workflow_id"], []).append(orjson.loads(row["event"]))
        return histories

    async def outcomes(self, command_ids: Sequence[UUID]) -> dict[UUID, int]:
        """Return how many outcomes bind each of these commands; absent means none."""
        found = await self._fetch(
            """
            select command_id, count(*) as outcomes from journal where command_id = any($1::uuid[]) group by command_id
            """,
            list(command_ids),
        )
        return {UUID(str(row["command_id"])): row["outcomes"] for row in found}

    async def registered(self, workflow_id: str) -> int:
        """Return how often the store-wide registry of ids has this one."""
        return int(
            (await self._fetch("select count(*) as n from workflow_id where workflow_id = $1", workflow_id))[0]["n"]
        )

    async def open_of(self, definition: str) -> tuple[int, int]:
        """Return how many workflows of a limited definition are open: as counted by the store, and by its rows."""
        (found,) = await self._fetch(
            """
            select coalesce((select open from open_count where definition = $1), 0) as counted,
                   (select count(*) from workflow where definition = $1 and is_open) as rows
            """,
            definition,
        )
        return found["counted"], found["rows"]

    async def _workflows(self, condition: str, *arguments: object) -> list[StoredWorkflow]:
        found = await self._fetch(
            f"select {', '.join(COLUMNS)} from workflow where {condition}",  # noqa: S608 - both are this file's own
            *arguments,
        )
        return [StoredWorkflow(**dict(row)) for row in found]

    async def _fetch(self, query: str, *arguments: object) -> list[Any]:
        async with self._free:
            with faults_of():
                return list(await self._connection.fetch(query, *arguments))
