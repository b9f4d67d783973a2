"""Chooses one process for a job by a session lock, which goes with its connection.

The database ends a session that says nothing for too long: a process that is frozen, or whose host is gone, must not
keep the job from the others.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Self, cast
from zlib import crc32

import asyncpg

from service.store.pool import DatabaseUnreachableError, open_connection

LOCK_CLASS = 7404
COUNT_SECONDS_MAX = 0.5
STATUSES = ("on_track", "at_risk", "breached")
OPEN_SLAS = "select status, count(*) from sla where is_open group by status"


class LeaderLostError(Exception):
    """The connection that held the lock is gone."""


class Leader:
    """One session that may hold the lock of a job, for as long as it asks something every `silent_seconds_max`."""

    def __init__(self, database_url: str, job: str, *, silent_seconds_max: float) -> None:
        self._database_url = database_url
        self._key = crc32(job.encode()) % 2**31
        self._silent_seconds_max = silent_seconds_max
        self._connection: asyncpg.Connection | None = None

    async def __aenter__(self) -> Self:
        limit = f"{self._silent_seconds_max * 1000:.0f}ms"
        try:
            self._connection = await open_connection(self._database_url, idle_session_timeout=limit)
        except DatabaseUnreachableError as error:
            raise LeaderLostError(str(error)) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.terminate()

    async def try_lead(self) -> bool:
        """Say whether this session holds the lock now."""
        return bool(await self._value("select pg_try_advisory_lock($1, $2)", LOCK_CLASS, self._key))

    async def clock(self) -> datetime:
        """Return the database's clock, by the very session that holds the lock."""
        return cast("datetime", await self._value("select clock_timestamp()"))

    async def open_slas(self) -> dict[str, int] | None:
        """Return how many SLAs are open, by status; None where counting takes longer than ticks may wait for it."""
        try:
            with self._leading() as connection:
                rows = await connection.fetch(OPEN_SLAS, timeout=COUNT_SECONDS_MAX)
        except TimeoutError:
            return None
        return dict.fromkeys(STATUSES, 0) | {row["status"]: row["count"] for row in rows}

    async def _value(self, query: str, *arguments: int) -> object:
        try:
            with self._leading() as connection:
                return await connection.fetchval(query, *arguments)
        except TimeoutError as error:
            raise LeaderLostError("the database does not answer in time") from error

    @contextmanager
    def _leading(self) -> Iterator[asyncpg.Connection]:
        """Give the session; raises LeaderLostError where it is gone, and TimeoutError."""
        if self._connection is None:
            raise LeaderLostError("not connected")
        try:
            yield self._connection
        except TimeoutError:  # it is an OSError too
            raise
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
            # InternalClientError is what comes of a session that the server ended just as it was spoken to.
            raise LeaderLostError(f"{type(error).__name__}: {error}") from error
