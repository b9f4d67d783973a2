"""A real store in which workflows have lived, one command or tick a turn, without a broker."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import orjson

from contracts.ticks import Tick
from handlers.commands import CommandsHandler, Taken, Wakeup
from handlers.parking import Parking
from handlers.ports import Ownership
from handlers.ticks import Clock, ReceivedTick
from service.definitions.files import read_definition
from service.predicates.cel import CelEngine
from service.store import schema
from service.store.adapter import PostgresStore
from service.store.definitions import apply_definition
from service.store.partitions import ensure
from service.store.pool import Pool, fresh_database, open_pool
from service.store.reads import get_workflow
from tests.fakes.ports import CommandRecord, numbered

Document = dict[str, Any]


class Lived(NamedTuple):
    """A database, and each workflow's row as each command left it."""

    database_url: str
    rows: dict[str, list[bytes]]


@contextmanager
def lived(
    server_url: str,
    definitions: Iterable[Document],
    steps: Iterable[Document | datetime],
    *,
    clock: Clock = Clock(),  # noqa: B008 - immutable
) -> Iterator[Lived]:
    """Give a database of its own with the definitions, in which commands were decided and ticks came at instants."""
    with asyncio.Runner() as runner:
        database = fresh_database(server_url, f"l{uuid4().hex[:12]}")
        url = runner.run(database.__aenter__())
        try:
            yield Lived(url, runner.run(_live(url, definitions, steps, clock)))
        finally:
            runner.run(database.__aexit__(None, None, None))


async def _live(
    url: str, definitions: Iterable[Document], steps: Iterable[Document | datetime], clock: Clock
) -> dict[str, list[bytes]]:
    await schema.migrate(url)
    rows: dict[str, list[bytes]] = {}
    pool = await open_pool(url, size=2)
    try:
        await _apply(pool, definitions)
        store = PostgresStore(pool, owner="me", damper=timedelta(seconds=1))
        handler, owned = CommandsHandler(store, CelEngine(), clock=clock), await store.claim(0, 1)
        for step in steps:
            if isinstance(step, datetime):
                owned = await _tick(handler, owned, step)
                continue
            record = CommandRecord(orjson.dumps(step), timestamp=int(time.time() * 1000))
            owned = await handler.take_turn(
                owned, numbered([record], first=owned.next_offset), Wakeup(), parking=Parking(), applied=_ignore
            )
            async with pool.acquire() as connection:
                found = await get_workflow(connection, step["workflow_id"])
            assert found is not None, step
            rows.setdefault(step["workflow_id"], []).append(found.body)
    finally:
        await pool.close()
    return rows


async def _tick(handler: CommandsHandler, owned: Ownership, time: datetime) -> Ownership:
    tick = Tick(partition=0, time=time, commands_end_offset=owned.next_offset, emitter="me")
    received = ReceivedTick(CommandRecord(None, topic="turnstile.scheduler"), tick)
    owned = await handler.take_turn(owned, [], Wakeup(received), parking=Parking(), applied=_ignore)
    more = True
    while more:
        owned, more = await handler.fire(owned, received, parking=Parking(), applied=_ignore)
    return owned


async def _apply(pool: Pool, definitions: Iterable[Document]) -> None:
    async with pool.acquire() as connection:
        await ensure(connection, cluster_id="c", n_parts=1)
        for document in definitions:
            text = orjson.dumps(document).decode()
            parsed = read_definition(text)
            assert parsed.definition is not None, parsed.findings
            await apply_definition(connection, parsed, parsed.definition, text, applied_by="a test")


def _ignore(_: Taken) -> None:
    """Publish nothing."""
