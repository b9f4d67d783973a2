"""Where a verb finds its broker and database: two settings, or the embedded ones that run in the data folder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from pydantic import ValidationError

from service.app import Endpoints, NotReadyError
from service.broker.topics import create_topics
from service.definitions.files import read_definition, shipped
from service.local.stack import LocalStack, running
from service.settings import Settings, variable_of
from service.slas.files import read_sla, shipped_slas
from service.store import schema
from service.store.definitions import apply_definition
from service.store.pool import Connection, open_pool
from service.store.schema import SchemaState
from service.store.sla_config import apply_sla
from service.store.versions import VersionTakenError


def settings() -> Settings:
    """Read the settings; raises NotReadyError naming the variable that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        faults = (
            f"{variable_of(str(fault['loc'][0]))}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        )
        raise NotReadyError(f"wrong settings: {'; '.join(faults)}") from error


def endpoints(chosen: Settings) -> Endpoints:
    """Return the broker and database to talk to; raises NotReadyError where nothing runs."""
    return Endpoints(bootstrap_servers(chosen), database_url(chosen))


def database_url(chosen: Settings) -> str:
    """Return the database's address; raises NotReadyError."""
    local = running(chosen.data_dir)
    url = chosen.database_url or (local.database_url if local else "")
    if not url:
        raise _missing("database", "TURNSTILE_DATABASE_URL")
    return url


def bootstrap_servers(chosen: Settings) -> str:
    """Return the broker's address; raises NotReadyError."""
    local = running(chosen.data_dir)
    address = chosen.bootstrap_servers or (local.bootstrap_servers if local else "")
    if not address:
        raise _missing("broker", "TURNSTILE_BOOTSTRAP_SERVERS")
    return address


@asynccontextmanager
async def embedded(chosen: Settings, *, benchmark: bool = False) -> AsyncIterator[Endpoints]:
    """Run what the settings do not give, ready for use: schema, topics and shipped definitions are there."""
    stack = LocalStack(
        chosen.data_dir,
        broker=not chosen.bootstrap_servers,
        database=not chosen.database_url,
        benchmark=benchmark,
    )
    async with stack as local:
        given = Endpoints(
            chosen.bootstrap_servers or local.bootstrap_servers, chosen.database_url or local.database_url
        )
        await prepare(chosen, given)
        yield given


async def prepare(chosen: Settings, given: Endpoints) -> None:
    """Make schema, shipped definitions and SLAs, and topics where they are missing."""
    await migrate(given.database_url)
    await create_topics(given.bootstrap_servers, chosen.topics, chosen.partitions, chosen.replication)


async def migrate(database_url: str) -> SchemaState:
    """Bring the schema to this build's version, and apply the definitions and SLAs that come with it.

    Raises SchemaError, and writes nothing, where the schema is a later build's that does not take this one any more.
    """
    state = await schema.migrate(database_url)
    schema.must_fit(state)
    async with writing(database_url) as opened:
        for text in shipped().values():
            await _apply_shipped(opened, text)
        for text in shipped_slas().values():
            await _apply_shipped_sla(opened, text)
    return state


@asynccontextmanager
async def writing(database_url: str) -> AsyncIterator[Connection]:
    """Give one connection for small writes."""
    pool = await open_pool(database_url, size=1, statement_seconds_max=30)
    try:
        async with pool.acquire() as opened:
            yield opened
    finally:
        await pool.close()


async def _apply_shipped(opened: Connection, text: str) -> None:
    parsed = read_definition(text)
    if parsed.definition is None:
        raise NotReadyError(f"a shipped definition does not check: {parsed.findings}")
    try:
        await apply_definition(opened, parsed, parsed.definition, text, applied_by="turnstile")
    except VersionTakenError:
        return  # the team has given this version content of its own


async def _apply_shipped_sla(opened: Connection, text: str) -> None:
    parsed = read_sla(text)
    if parsed.config is None:
        raise NotReadyError(f"a shipped SLA does not check: {parsed.findings}")
    with suppress(VersionTakenError):  # as above
        await apply_sla(opened, parsed, parsed.config, text, applied_by="turnstile")


def _missing(what: str, variable: str) -> NotReadyError:
    return NotReadyError(f"no {what}: start the embedded one with `turnstile dev`, or set {variable}")
