"""Brings the schema to the version this build knows, and refuses to work on one that is not meant for it.

A later schema says which builds may still work on it (`schema_floor`): so two releases run side by side while
one replaces the other.
"""

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
    """The version found, None for an empty database; the one this build knows; the oldest that may still work on it."""

    found: str | None
    known: str
    floor: str | None = None

    @property
    def fits(self) -> bool:
        """Say whether this build may work on it: it is its own, or a later one that still takes this build."""
        if self.found is None or self.floor is None:
            return False
        return self.found == self.known or self.floor <= self.known < self.found


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
    if not found.fits:
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
