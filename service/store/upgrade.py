"""Runs and reads the schema's steps through Alembic; `service.store.schema` says what they mean."""

from collections.abc import Callable
from importlib.resources import files

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from service.store import pool
from service.store.pool import SCHEMA, plain_url
from service.store.schema import SchemaState

# Two processes that start at once must not migrate at once.
MIGRATION_LOCK = 7_404_211_905


async def upgrade(database_url: str) -> SchemaState:
    """Run the missing steps, one process at a time."""
    return await _on_connection(database_url, _upgrade)


async def look(database_url: str) -> SchemaState:
    """Return the version found and the version known."""
    return await _on_connection(database_url, _state)


async def _on_connection(database_url: str, work: Callable[[Connection], SchemaState]) -> SchemaState:
    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(plain_url(database_url), timeout=pool.OPEN_SECONDS_MAX)

    # Whoever works connects the same way: SQLAlchemy reads what an address says after its ? as something else.
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, DBAPIError) as error:
        raise pool.unreachable(error) from error
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> SchemaState:
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    connection.execute(text(f"create schema if not exists {SCHEMA}"))
    connection.execute(text(f"set local search_path to {SCHEMA}"))
    state = _state(connection)
    if state.found is None or state.found < state.known:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return _state(connection)


def _state(connection: Connection) -> SchemaState:
    context = MigrationContext.configure(
        connection, opts={"version_table": "schema_version", "version_table_schema": SCHEMA}
    )
    known = ScriptDirectory.from_config(_config()).get_current_head()
    found = context.get_current_revision()
    floor = None
    if found is not None:
        floor = connection.scalar(text(f"select version from {SCHEMA}.schema_floor"))  # noqa: S608 - a name of ours
    return SchemaState(found, known or "", floor)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("service.store.migrations")))
    return config
