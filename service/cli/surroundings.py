"""Where a verb finds its broker and database: two settings, or the embedded ones that run in the data folder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import ValidationError

from service.app import Endpoints, NotReadyError
from service.broker.topics import create_topics
from service.definitions.files import read_definition, shipped
from service.local.stack import LocalStack, running
from service.settings import Settings
from service.store import schema
from service.store.definitions import DefinitionConflictError, apply_definition
from service.store.pool import Connection, open_pool


def settings() -> Settings:
    """Read the settings; raises NotReadyError naming the variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        faults = "; ".join(f"TURNSTILE_{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors())
        raise NotReadyError(f"wrong settings: {faults}") from error


def endpoints(chosen: Settings) -> Endpoints:
    """Return the broker and database to talk to; raises NotReadyError where nothing runs."""
    local = running(chosen.data_dir)
    bootstrap_servers = chosen.bootstrap_servers or (local.bootstrap_servers if local else "")
    database_url = chosen.database_url or (local.database_url if local else "")
    if not bootstrap_servers or not database_url:
        missing = " and ".join(
            name for name, value in (("broker", bootstrap_servers), ("database", database_url)) if not value
        )
        raise NotReadyError(
            f"no {missing}: start the embedded ones with `turnstile dev`, "
            "or set TURNSTILE_BOOTSTRAP_SERVERS and TURNSTILE_DATABASE_URL"
        )
    return Endpoints(bootstrap_servers, database_url)


@asynccontextmanager
async def connection(chosen: Settings) -> AsyncIterator[Connection]:
    """Give one connection for reads and small writes."""
    pool = await open_pool(endpoints(chosen).database_url, size=1, statement_seconds_max=30)
    try:
        async with pool.acquire() as opened:
            yield opened
    finally:
        await pool.close()


@asynccontextmanager
async def embedded(chosen: Settings, *, benchmark: bool = False) -> AsyncIterator[Endpoints]:
    """Run what the settings do not give, ready for use: schema, topics and shipped definitions are there."""
    stack = LocalStack(
        chosen.data_dir,
        broker=chosen.bootstrap_servers is None,
        database=chosen.database_url is None,
        benchmark=benchmark,
    )
    async with stack as local:
        given = Endpoints(
            chosen.bootstrap_servers or local.bootstrap_servers, chosen.database_url or local.database_url
        )
        await prepare(chosen, given)
        yield given


async def prepare(chosen: Settings, given: Endpoints) -> None:
    """Make schema, topics and shipped definitions where they are missing."""
    await schema.migrate(given.database_url)
    await create_topics(given.bootstrap_servers, chosen.topics, chosen.partitions, chosen.replication)
    pool = await open_pool(given.database_url, size=1)
    try:
        async with pool.acquire() as opened:
            for text in shipped().values():
                await _apply_shipped(opened, text)
    finally:
        await pool.close()


async def _apply_shipped(opened: Connection, text: str) -> None:
    parsed = read_definition(text)
    if parsed.definition is None:
        raise NotReadyError(f"a shipped definition does not check: {parsed.findings}")
    try:
        await apply_definition(opened, parsed, parsed.definition, text, applied_by="turnstile")
    except DefinitionConflictError:
        return  # the team has given this version content of its own
