"""Brings the schema to the version this build knows, and refuses to work on one it does not."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from service.store.pool import SCHEMA, DatabaseUnreachableError, alchemy_url

# Two processes that start at once must not migrate at once.
MIGRATION_LOCK = 7_404_211_905


class SchemaError(Exception):
    """The database's schema is not the one this build works with; the message says what to do."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The version found, None for an empty database, and the one this build knows."""

    found: str | None
    known: str


async def migrate(database_url: str) -> SchemaState:
    """Run the missing steps; safe to call at the same time from several processes."""
    return await _on_connection(database_url, _upgrade)


async def state(database_url: str) -> SchemaState:
    """Return the version found and the version known."""
    return await _on_connection(database_url, _state)


async def check(database_url: str) -> None:
    """Raise SchemaError unless the schema is the one this build knows."""
    found = await state(database_url)
    if found.found is None:
        raise SchemaError("the database has no schema yet: run `turnstile db migrate`")
    if found.found != found.known:
        raise SchemaError(
            f"the database's schema is {found.found}, this build knows {found.known}: "
            "run `turnstile db migrate`, or start the release that belongs to it"
        )


async def _on_connection(database_url: str, work: Callable[[Connection], SchemaState]) -> SchemaState:
    engine = create_async_engine(alchemy_url(database_url))
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    except (OSError, DBAPIError) as error:
        raise DatabaseUnreachableError(str(error)) from error
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> SchemaState:
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    connection.execute(text(f"create schema if not exists {SCHEMA}"))
    connection.execute(text(f"set local search_path to {SCHEMA}"))
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return _state(connection)


def _state(connection: Connection) -> SchemaState:
    context = MigrationContext.configure(
        connection, opts={"version_table": "schema_version", "version_table_schema": SCHEMA}
    )
    known = ScriptDirectory.from_config(_config()).get_current_head()
    return SchemaState(context.get_current_revision(), known or "")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("service.store.migrations")))
    return config
