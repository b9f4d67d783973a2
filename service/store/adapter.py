"""The store as the handlers and the protocol see it, on a pool of connections."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import cast

from domain.calendar import Calendar
from domain.decision import Facts
from domain.definition import Definition
from domain.sla_config import Configured
from handlers.faults import OutcomeUnknown
from handlers.ports import JournalRow, LastDecided, Loaded, Ownership, Parked, ParkedRecord, Timer, Turn, Wanted
from service.store import apply as writing
from service.store import load as reading
from service.store import partitions
from service.store.calendars import load_calendar, newest_calendar
from service.store.outbox import read_outbox
from service.store.parked import load_delayed, load_parked, load_parked_records
from service.store.pool import Connection, Pool, faults_of
from service.store.sla_config import load_configured
from service.store.timers import load_due

DEFINITIONS_KEPT = 1000
NEWEST_SECONDS = 1.0


class PostgresStore:
    """Implements `handlers.ports.Store` and what ownership and relay need besides."""

    def __init__(self, pool: Pool, *, owner: str, damper: timedelta) -> None:
        self._pool = pool
        self._owner = owner
        self._damper = damper
        self._definitions: dict[tuple[str, int], Definition] = {}
        self._calendars: dict[tuple[str, int], Calendar] = {}
        self._newest: dict[str, tuple[int | None, float]] = {}
        self._configured: tuple[Configured, float | None] = (Configured(), None)

    async def claim(self, part: int, generation: int) -> Ownership:
        """Become a partition's owner."""
        async with self._connection() as connection:
            return await partitions.claim(
                connection, part, owner=self._owner, generation=generation, damper=self._damper
            )

    async def load(self, owned: Ownership, wanted: Wanted) -> Loaded:
        """Read everything a turn needs."""
        async with self._connection() as connection:
            return await reading.load(connection, owned, wanted)

    async def parked(self, owned: Ownership) -> list[Parked]:
        """Return what the partition has parked."""
        async with self._connection() as connection:
            return await load_parked(connection, owned)

    async def parked_records(self, owned: Ownership, offsets: Sequence[int]) -> list[ParkedRecord]:
        """Return the records of parked commands."""
        async with self._connection() as connection:
            return await load_parked_records(connection, owned, offsets)

    async def delayed(self, owned: Ownership, until: datetime, limit: int) -> list[ParkedRecord]:
        """Return delayed commands whose time has come."""
        async with self._connection() as connection:
            return await load_delayed(connection, owned, until, limit)

    async def definition(self, name: str, version: int) -> Definition | None:
        """Return a definition's version, compiled once."""
        kept = self._definitions.get((name, version))
        if kept is not None:
            return kept
        async with self._connection() as connection:
            found = await reading.load_definition(connection, name, version)
        if found is not None:
            if len(self._definitions) >= DEFINITIONS_KEPT:
                self._definitions.clear()
            self._definitions[(name, version)] = found
            self._newest = {}  # it may be made for a calendar that was applied just before it
        return found

    async def calendar(self, name: str, version: int | None) -> Calendar | None:
        """Return a calendar's version, compiled once; which one is the newest is asked once a second."""
        if version is None:
            newest = self._newest  # which another turn may begin anew while this one asks
            found, asked = newest.get(name, (None, 0.0))
            now = asyncio.get_running_loop().time()
            if found is None or now - asked > NEWEST_SECONDS:
                async with self._connection() as connection:
                    found = await newest_calendar(connection, name)
                newest[name] = found, now
            version = found
        if version is None:
            return None
        kept = self._calendars.get((name, version))
        if kept is None:
            async with self._connection() as connection:
                stored = await load_calendar(connection, name, version)
            if stored is None:
                return None
            kept = self._calendars[name, version] = stored.compiled()
        return kept

    async def configured(self) -> Configured:
        """Return the configured SLAs, each version compiled once; which there are is asked once a second."""
        now = asyncio.get_running_loop().time()
        kept, asked = self._configured
        if asked is None or now - asked > NEWEST_SECONDS:
            async with self._connection() as connection:
                found = await load_configured(connection, kept)
            if found.versions.keys() != kept.versions.keys():
                self._newest = {}  # as above
            kept = found
            self._configured = kept, now
        return kept

    async def due(self, owned: Ownership, until: datetime, limit: int) -> list[Timer]:
        """Return the timers that are due."""
        async with self._connection() as connection:
            return await load_due(connection, owned, until, limit)

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Apply a turn; never cancelled once it has begun."""
        return await asyncio.shield(self._apply(owned, turn))

    async def _apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        async with self._connection(OutcomeUnknown) as connection:
            return await writing.apply(connection, owned, turn)

    @asynccontextmanager
    async def locked(
        self, owned: Ownership, counters: Sequence[str], workflow_ids: Sequence[str] = ()
    ) -> AsyncIterator[writing.LockedSession]:
        """Hold the counters for a turn that met a full one."""
        async with writing.locked(self._pool, owned, counters, workflow_ids) as session:
            yield session

    async def outbox(self, part: int, seq: int, limit: int) -> list[tuple[int, JournalRow]]:
        """Return committed rows from `seq` on."""
        async with self._connection() as connection:
            return await read_outbox(connection, part, seq, limit)

    async def note_published(self, owned: Ownership, seq: int) -> None:
        """Remember how far the relay got."""
        async with self._connection() as connection:
            await partitions.note_published(connection, owned.part, owned.epoch, seq)

    async def last_decided(self, owned: Ownership) -> LastDecided | None:
        """Return the last command before the next offset."""
        async with self._connection() as connection:
            return await partitions.last_decided(connection, owned)

    async def note_halted(self, owned: Ownership, reason: str) -> None:
        """Remember why a partition is halted."""
        async with self._connection() as connection:
            await partitions.note_halted(connection, owned, reason)

    async def halts(self) -> dict[int, str | None]:
        """Return each partition, and why it is halted if it is."""
        async with self._connection() as connection:
            return await partitions.halts(connection)

    async def halt_all(self, reason: str) -> None:
        """Halt every partition."""
        async with self._connection() as connection:
            await partitions.halt(connection, None, reason)

    async def clock(self) -> datetime:
        """Return the database's clock."""
        async with self._connection() as connection:
            return cast("datetime", await connection.fetchval("select clock_timestamp()"))

    @asynccontextmanager
    async def _connection(self, lost: type[OutcomeUnknown] | None = None) -> AsyncIterator[Connection]:
        with faults_of(lost) if lost is not None else faults_of():
            async with self._pool.acquire() as connection:
                yield connection
