"""A store wrapped: it hands everything on to the one within, and a subclass does more on the way of a few."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime

from domain.calendar import Calendar
from domain.decision import Facts
from domain.definition import Definition
from domain.sla_config import Configured
from handlers.ports import (
    JournalRow,
    LastDecided,
    Loaded,
    Ownership,
    Parked,
    ParkedRecord,
    Session,
    Timer,
    Turn,
    Wanted,
)
from service.adapters import WholeStore


class WrappedStore:
    """All that a worker needs of a store, by another store."""

    def __init__(self, inner: WholeStore) -> None:
        self.inner = inner

    async def claim(self, part: int, generation: int) -> Ownership:
        """Claim."""
        return await self.inner.claim(part, generation)

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Apply."""
        return await self.inner.apply(owned, turn)

    def locked(
        self, owned: Ownership, counters: Sequence[str], workflow_ids: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[Session]:
        """Lock the counters."""
        return self.inner.locked(owned, counters, workflow_ids)

    async def load(self, owned: Ownership, wanted: Wanted) -> Loaded:
        """Load."""
        return await self.inner.load(owned, wanted)

    async def definition(self, name: str, version: int) -> Definition | None:
        """Return a definition."""
        return await self.inner.definition(name, version)

    async def calendar(self, name: str, version: int | None) -> Calendar | None:
        """Return a calendar."""
        return await self.inner.calendar(name, version)

    async def configured(self) -> Configured:
        """Return the configured SLAs."""
        return await self.inner.configured()

    async def due(self, owned: Ownership, until: datetime, limit: int) -> Sequence[Timer]:
        """Return timers that are due."""
        return await self.inner.due(owned, until, limit)

    async def outbox(self, part: int, seq: int, limit: int) -> list[tuple[int, JournalRow]]:
        """Return committed rows."""
        return await self.inner.outbox(part, seq, limit)

    async def note_published(self, owned: Ownership, seq: int) -> None:
        """Note the cursor."""
        await self.inner.note_published(owned, seq)

    async def last_decided(self, owned: Ownership) -> LastDecided | None:
        """Return the last command decided."""
        return await self.inner.last_decided(owned)

    async def note_halted(self, owned: Ownership, reason: str) -> None:
        """Note a halt."""
        await self.inner.note_halted(owned, reason)

    async def halts(self) -> Mapping[int, str | None]:
        """Return which partitions are halted."""
        return await self.inner.halts()

    async def halt_all(self, reason: str) -> None:
        """Halt every partition."""
        await self.inner.halt_all(reason)

    async def parked(self, owned: Ownership) -> Sequence[Parked]:
        """Return what is parked."""
        return await self.inner.parked(owned)

    async def delayed(self, owned: Ownership, until: datetime, limit: int) -> Sequence[ParkedRecord]:
        """Return what is delayed."""
        return await self.inner.delayed(owned, until, limit)

    async def parked_records(self, owned: Ownership, offsets: Sequence[int]) -> Sequence[ParkedRecord]:
        """Return the records of parked commands."""
        return await self.inner.parked_records(owned, offsets)
