"""Databases that live as long as a measurement, and whether a database keeps what it says is committed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg

from service.store.pool import DatabaseUnreachableError, open_connection, plain_url

DURABILITY = ("fsync", "synchronous_commit", "full_page_writes")


async def told(database_url: str) -> dict[str, str]:
    """Return the settings that durability rests on, as a session of ours finds them, and the server's version."""
    connection = await open_connection(database_url)
    try:
        return {name: str(await connection.fetchval(f"show {name}")) for name in (*DURABILITY, "server_version")}
    finally:
        await connection.close()


@asynccontextmanager
async def throwaway(database_url: str, name: str) -> AsyncIterator[str]:
    """Make a database beside the given one and give its URL; it is dropped afterwards, whoever is connected."""
    await _execute(database_url, f'create database "{name}"')
    try:
        yield urlsplit(plain_url(database_url))._replace(path=f"/{name}").geturl()
    finally:
        await _execute(database_url, f'drop database if exists "{name}" with (force)')


async def _execute(database_url: str, statement: str) -> None:
    connection = await open_connection(database_url)
    try:
        await connection.execute(statement, timeout=60)
    except asyncpg.PostgresError as error:
        raise DatabaseUnreachableError(f"{statement}: {error}") from error
    finally:
        await connection.close()
