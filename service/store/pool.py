"""Connections to PostgreSQL: one place for their settings and for what their errors mean.

What an error means goes by its SQLSTATE; what is neither transient nor poison is ours and stops the process.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from handlers.faults import Fault, Fenced, Overlong, Poison, Transient

SCHEMA = "turnstile"
FENCED = "TS001"
CONFLICT = "TS002"
DEADLOCK = "40P01"
CANCELED = "57014"  # by its statement timeout, as a rule
APPLY_SECONDS_MAX = 5
READ_SECONDS_MAX = 2
OPEN_SECONDS_MAX = 15.0

Pool = asyncpg.Pool
Connection = asyncpg.Connection | PoolConnectionProxy

# 08 connection, 25 read-only or idle too long, 40 deadlock, 53 disk or memory or connections are full, 55 locked,
# 57 shut down or out of time, 58 the system's input and output: each passes without us, so we wait, and claim again.
# XX stays ours: a broken page or index must not be tried for ever in silence.
_TRANSIENT_CLASSES = frozenset({"08", "25", "40", "53", "55", "57", "58"})
# 22 a value is refused, 54 a value is too large for what it is to become, such as a key in an index.
_POISON_CLASSES = frozenset({"22", "54"})
# InternalClientError is what comes of a connection that the server ended just as it was taken up.
_LOST = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class DatabaseUnreachableError(Exception):
    """PostgreSQL does not answer; the message says where and why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the database does not answer ({reason}); check TURNSTILE_DATABASE_URL and that it runs")


def unreachable(error: Exception) -> DatabaseUnreachableError:
    """Return what a failed connection comes to."""
    silence = f"no answer within {OPEN_SECONDS_MAX:g} s"
    return DatabaseUnreachableError(f"{type(error).__name__}: {error}" if str(error) else silence)


async def open_pool(database_url: str, *, size: int, statement_seconds_max: int = APPLY_SECONDS_MAX) -> Pool:
    """Open a pool whose statements end by themselves; raises DatabaseUnreachableError."""
    pool = asyncpg.create_pool(
        plain_url(database_url),
        min_size=1,
        max_size=size,
        command_timeout=2 * statement_seconds_max,
        max_inactive_connection_lifetime=0,
        reset=_keep,
        server_settings={
            "search_path": SCHEMA,
            "application_name": "turnstile",
            "statement_timeout": f"{statement_seconds_max}s",
            "lock_timeout": "2s",
            "idle_in_transaction_session_timeout": "5s",
            "timezone": "UTC",
            "jit": "off",
            "tcp_keepalives_idle": "5",
            "tcp_keepalives_interval": "2",
            "tcp_keepalives_count": "3",
        },
    )
    try:
        async with asyncio.timeout(OPEN_SECONDS_MAX):
            return await pool
    except (asyncpg.PostgresError, *_LOST) as error:
        raise unreachable(error) from error


async def _keep(_: Connection) -> None:
    """Leave a connection as it is between two users: none sets anything, and a reset is a round trip each time.

    An open transaction is rolled back all the same, before this is called.
    """


async def open_connection(database_url: str, **server_settings: str) -> asyncpg.Connection:
    """Open one connection that stays, with settings of its own; raises DatabaseUnreachableError."""
    settings = {"search_path": SCHEMA, "timezone": "UTC"} | server_settings
    try:
        return await asyncpg.connect(
            plain_url(database_url), timeout=OPEN_SECONDS_MAX, command_timeout=10, server_settings=settings
        )
    except (asyncpg.PostgresError, *_LOST) as error:
        raise unreachable(error) from error


@contextmanager
def faults_of(lost: type[Transient] = Transient) -> Iterator[None]:
    """Turn the driver's errors into our faults; `lost` is what a lost connection means here."""
    try:
        yield
    except asyncpg.PostgresConnectionError as error:
        raise lost(str(error)) from error
    except asyncpg.PostgresError as error:
        raise _fault(error) from error
    except _LOST as error:
        raise lost(f"{type(error).__name__}: {error}") from error


def _fault(error: asyncpg.PostgresError) -> Fault:
    state = error.sqlstate or ""
    if isinstance(error, asyncpg.InvalidCachedStatementError):  # a migration changed what the plan was made for
        return Transient(f"{state}: {error}")
    if state == FENCED:
        return Fenced(str(error))
    if state == CANCELED:
        return Overlong(f"{state}: {error}")
    if state[:2] in _TRANSIENT_CLASSES:
        return Transient(f"{state}: {error}")
    if state[:2] in _POISON_CLASSES:
        return Poison(f"{state}: {error}")
    return Fault(f"{state}: {error}")


def plain_url(database_url: str) -> str:
    """Return the URL as asyncpg reads it."""
    scheme, _, rest = database_url.partition("://")
    return f"postgresql://{rest}" if scheme in {"postgres", "postgresql+asyncpg"} else database_url


@asynccontextmanager
async def fresh_database(database_url: str, name: str) -> AsyncIterator[str]:
    """Give a new, empty database beside the one of the URL, and drop it in the end."""
    server = await open_connection(database_url)
    try:
        await server.execute(f'create database "{name}"')
        try:
            yield urlunsplit(urlsplit(plain_url(database_url))._replace(path=f"/{name}"))
        finally:
            await server.execute(f'drop database "{name}" with (force)')
    finally:
        await server.close()
