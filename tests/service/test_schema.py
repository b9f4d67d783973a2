"""Which schema a build works on: its own, or a later one that still takes it."""

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from service.app import Endpoints
from service.cli import surroundings
from service.settings import Settings
from service.store import schema
from service.store.pool import SCHEMA, DatabaseUnreachableError, fresh_database, open_connection

pytestmark = pytest.mark.stack


@pytest.fixture
async def database(servers: Endpoints) -> AsyncIterator[str]:
    """Give an empty database."""
    async with fresh_database(servers.database_url, f"schema-{uuid4().hex[:12]}") as url:
        yield url


async def test_an_empty_database_is_refused_until_it_is_migrated(database: str) -> None:
    """A worker says what to run; after that it starts, and migrating again changes nothing."""
    with pytest.raises(schema.SchemaError, match="turnstile db migrate"):
        await schema.check(database)
    migrated = await schema.migrate(database)
    await schema.check(database)
    assert migrated == await schema.migrate(database)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
async def test_each_way_of_writing_the_address_reaches_the_database(database: str, scheme: str) -> None:
    """Hosts of databases give addresses in any of them, and what follows a ? besides; nobody reads it another way."""
    query = "sslmode=prefer&application_name=mine"
    given = Settings(database_url=f"{scheme}://{database.partition('://')[2]}?{query}").database_url
    assert given is not None
    migrated = await schema.migrate(given)
    await schema.check(given)
    connection = await open_connection(given)
    try:
        assert migrated.known == await connection.fetchval("select version_num from schema_version")
    finally:
        await connection.close()


@pytest.mark.parametrize("query", ["ssl=require", "sslmode=never", "sslmode=require"])
async def test_an_address_that_does_not_work_is_told_in_a_sentence(database: str, query: str) -> None:
    """Whether the driver refuses it or the server; what works says the same as what migrates."""
    for reach in (schema.migrate, schema.check, open_connection):
        with pytest.raises(DatabaseUnreachableError, match="TURNSTILE_DATABASE_URL"):
            await reach(f"{database}?{query}")


async def test_a_later_schema_that_still_takes_this_build_is_worked_on(database: str) -> None:
    """While a new release replaces this one, its workers may start anew; migrating does not take the schema back."""
    known = (await schema.migrate(database)).known
    await _becomes(database, "9000", floor=known)
    await schema.check(database)
    assert "9000" == (await schema.migrate(database)).found


async def test_a_later_schema_that_this_build_would_break_is_refused(database: str) -> None:
    """A build that is older than the floor does not start, and migrating writes nothing of what comes with it."""
    await schema.migrate(database)
    await _becomes(database, "9000", floor="8999")
    for refused in (schema.check, surroundings.migrate):
        with pytest.raises(schema.SchemaError, match=r"9000.*start the release"):
            await refused(database)


async def test_an_older_schema_is_refused(database: str) -> None:
    """A build never works on a schema from before its own."""
    await schema.migrate(database)
    await _becomes(database, "0000", floor="0000")
    with pytest.raises(schema.SchemaError, match="0000"):
        await schema.check(database)


async def _becomes(database: str, version: str, *, floor: str) -> None:
    connection = await asyncpg.connect(database, server_settings={"search_path": SCHEMA})
    try:
        await connection.execute("update schema_version set version_num = $1", version)
        await connection.execute("update schema_floor set version = $1", floor)
    finally:
        await connection.close()
