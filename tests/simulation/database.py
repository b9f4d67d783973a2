"""The database as a server, with row locks and transactions that wait for a client, and the store's port over a link.

What a turn writes and what fences it is `tests/fakes/store.py`; here is only what time and a network add to it.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from domain.calendar import Calendar
from domain.decision import Facts
from domain.definition import Definition
from domain.sla_config import Configured
from handlers.faults import Fault, Fenced, OutcomeUnknown, Transient
from handlers.ports import JournalRow, LastDecided, Loaded, Ownership, Parked, ParkedRecord, Timer, Turn, Wanted
from tests.fakes.store import START, MemoryStore
from tests.simulation.network import Link, Surroundings

LOCK_SECONDS_MAX = 2.0
IDLE_SECONDS_MAX = 5.0
DAMPER = timedelta(seconds=12)

Committed = Callable[[Ownership, Turn], None]


@dataclass
class Rows:
    """The locks of partitions' rows and of the counters, which the fake beneath need not have."""

    parts: dict[int, asyncio.Lock] = field(default_factory=dict)
    counters: asyncio.Lock = field(default_factory=asyncio.Lock)


class Database(MemoryStore):
    """The server: each call takes time and locks as the statements of the real one do."""

    def __init__(self, around: Surroundings, *, parts: int, committed: Committed) -> None:
        super().__init__(parts=parts, damper=DAMPER)
        self._around = around
        self._committed = committed
        self._locks = Rows({part: asyncio.Lock() for part in range(parts)})
        self.slow_seconds = 0.0

    async def claim(self, part: int, generation: int) -> Ownership:
        """Become the owner, after an apply in flight."""
        async with _locked(self._locks.parts[part]):
            self.clock()
            return await super().claim(part, generation)

    async def load(self, owned: Ownership, wanted: Wanted) -> Loaded:
        """Read what is committed now."""
        self.clock()
        return await super().load(owned, wanted)

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Write a turn: its partition's row is locked from the fence to the commit, the counters at the end."""
        async with _locked(self._locks.parts[owned.part]):
            self._fence(owned)
            await self._work()
            if not turn.open_deltas:
                return self.write(owned, turn)
            async with _locked(self._locks.counters):
                await self._work()
                return self.write(owned, turn)

    def write(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Write a turn at once, and tell whoever watches."""
        outcome = super().write(owned, turn)
        if isinstance(outcome, Facts):
            self._around.struck["ids taken" if outcome.taken else "no room"] += 1
        else:
            self._committed(owned, turn)
        return outcome

    async def begin(self, owned: Ownership, counters: Sequence[str], workflow_ids: Sequence[str] = ()) -> "Transaction":
        """Open a transaction that holds a partition and the counters until the client ends it, or is silent."""
        opened = Transaction(self, owned)
        await opened.lock(self._locks.parts[owned.part])
        try:
            self._fence(owned)
            await opened.lock(self._locks.counters)
        except BaseException:
            opened.release()
            raise
        opened.facts = self._facts(counters, workflow_ids)
        opened.expect()
        self._around.struck["locked sessions"] += 1
        return opened

    async def note_published(self, owned: Ownership, seq: int) -> None:
        """Remember how far the relay got, after an apply in flight."""
        async with _locked(self._locks.parts[owned.part]):
            await super().note_published(owned, seq)

    def rolled_back(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Answer as if a turn had been written, and write nothing."""
        trial = MemoryStore(parts=self.parts)
        for name in ("rows", "claimed", "workflows", "places", "remembered", "definitions"):
            setattr(trial, name, dict(getattr(self, name)))
        trial.claimed, trial.counts = copy.deepcopy(self.claimed), copy.deepcopy(self.counts)
        trial.journal = {part: list(rows) for part, rows in self.journal.items()}
        return trial.write(owned, turn)

    def clock(self) -> datetime:
        """Return the database's clock: virtual time."""
        self.now = START + timedelta(seconds=self._around.loop.time())
        return self.now

    def _fence(self, owned: Ownership) -> Ownership:
        try:
            return super()._fence(owned)
        except Fenced:
            self._around.struck["fenced applies"] += 1
            raise

    async def _work(self) -> None:
        await asyncio.sleep(0.002 * self._around.chance.random())
        if self._around.chance.random() < self.slow_seconds / 20:
            self._around.struck["database: slow apply"] += 1
            await asyncio.sleep(self.slow_seconds * self._around.chance.random())


class Transaction:
    """An open transaction: its locks end with it, and it ends when its client is silent for too long."""

    def __init__(self, database: Database, owned: Ownership) -> None:
        self.facts = Facts()
        self._database = database
        self._owned = owned
        self._held: list[asyncio.Lock] = []
        self._open = True
        self._idle: asyncio.TimerHandle | None = None

    async def lock(self, row: asyncio.Lock) -> None:
        """Take a row's lock."""
        await _take(row)
        self._held.append(row)

    def expect(self) -> None:
        """Wait for the client, but not for ever."""
        self.release_idle()
        self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS_MAX, self.release)

    def release_idle(self) -> None:
        """Stop the clock of a silent client."""
        if self._idle is not None:
            self._idle.cancel()

    def apply(self, owned: Ownership, turn: Turn, *, kept: bool) -> Ownership | Facts:
        """Write the turn; where its commit will be lost on the way (`kept` is false), answer and write nothing."""
        if not self._open:
            raise OutcomeUnknown("the transaction was ended by the server")
        self.expect()
        return self._database.write(owned, turn) if kept else self._database.rolled_back(owned, turn)

    def release(self) -> None:
        """End it, and let its locks go."""
        self.release_idle()
        self._open = False
        while self._held:
            self._held.pop().release()

    def end(self) -> None:
        """Commit or roll back at the client's word."""
        if not self._open:
            raise OutcomeUnknown("the transaction was ended by the server")
        self.release()


class StoreOverLink:
    """Implements `Store`, `Outbox` and `Claims` for one worker, as `service/store/adapter.py` does."""

    def __init__(self, around: Surroundings, database: Database, link: Link) -> None:
        self._around = around
        self._database = database
        self._link = link
        self._definitions: dict[tuple[str, int], Definition] = {}

    async def claim(self, part: int, generation: int) -> Ownership:
        """Become a partition's owner."""
        database = self._database
        try:
            owned = await self._link.call_slow(
                f"claim {part} in generation {generation}",
                lambda: database.claim(part, generation),
                lost=Transient, refused=Transient,
            )  # fmt: skip
        except Fenced:
            self._around.struck["stale claims"] += 1
            raise
        self._around.struck["claims"] += 1
        self._around.say(f"part {part} claimed at epoch {owned.epoch}, offset {owned.next_offset}")
        return owned

    async def load(self, owned: Ownership, wanted: Wanted) -> Loaded:
        """Read everything a turn needs."""
        return await self._link.call_slow(
            f"load {owned.part}", lambda: self._database.load(owned, wanted), lost=Transient, refused=Transient
        )

    async def parked(self, owned: Ownership) -> Sequence[Parked]:
        """Return what the partition has parked."""
        return await self._link.call_slow(
            f"parked {owned.part}", lambda: self._database.parked(owned), lost=Transient, refused=Transient
        )

    async def delayed(self, owned: Ownership, until: datetime, limit: int) -> Sequence[ParkedRecord]:
        """Return delayed commands whose time has come."""
        return await self._link.call_slow(
            f"delayed {owned.part}",
            lambda: self._database.delayed(owned, until, limit),
            lost=Transient,
            refused=Transient,
        )

    async def parked_records(self, owned: Ownership, offsets: Sequence[int]) -> Sequence[ParkedRecord]:
        """Return the records of parked commands."""
        return await self._link.call_slow(
            f"parked records {owned.part}",
            lambda: self._database.parked_records(owned, offsets),
            lost=Transient,
            refused=Transient,
        )

    async def definition(self, name: str, version: int) -> Definition | None:
        """Return a definition's version, asked for once."""
        kept = self._definitions.get((name, version))
        if kept is not None:
            return kept
        found = await self._link.call_slow(
            f"definition {name}", lambda: self._database.definition(name, version), lost=Transient, refused=Transient
        )
        if found is not None:
            self._definitions[(name, version)] = found
        return found

    async def calendar(self, name: str, version: int | None) -> Calendar | None:
        """Return a calendar's version."""
        return await self._link.call_slow(
            f"calendar {name}", lambda: self._database.calendar(name, version), lost=Transient, refused=Transient
        )

    async def configured(self) -> Configured:
        """Return the configured SLAs."""
        return await self._database.configured()  # a simulated run configures none, and a worker asks rarely

    async def due(self, owned: Ownership, until: datetime, limit: int) -> list[Timer]:
        """Return the timers that are due."""
        return await self._link.call_slow(
            f"due {owned.part}", lambda: self._database.due(owned, until, limit), lost=Transient, refused=Transient
        )

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Apply a turn; a request goes its way even if nobody waits for it any more."""
        what = f"apply {owned.part} epoch {owned.epoch} turn {owned.turn} to {turn.next_offset}"
        try:
            outcome = await self._link.call_slow(
                what, lambda: self._database.apply(owned, turn), lost=OutcomeUnknown, refused=Transient
            )
        except OutcomeUnknown:
            self._around.struck["unknown outcomes"] += 1
            raise
        self._around.say(f"{what}: {'conflict' if isinstance(outcome, Facts) else 'done'}")
        return outcome

    @asynccontextmanager
    async def locked(
        self, owned: Ownership, counters: Sequence[str], workflow_ids: Sequence[str] = ()
    ) -> AsyncIterator["SessionOverLink"]:
        """Hold the counters for a turn that met a full one."""
        opened = await self._link.call_slow(
            f"lock {owned.part}",
            lambda: self._database.begin(owned, counters, workflow_ids),
            lost=OutcomeUnknown,
            refused=Transient,
        )
        session = SessionOverLink(self._around, opened, self._link)
        try:
            yield session
        except BaseException:
            opened.release()  # the connection is closed, which needs no answer
            raise
        await self._link.call("commit", opened.end, lost=OutcomeUnknown)
        if not session.kept:
            self._around.struck["unknown outcomes"] += 1
            raise OutcomeUnknown("the connection was lost at commit")

    async def outbox(self, part: int, seq: int, limit: int) -> list[tuple[int, JournalRow]]:
        """Return committed rows from `seq` on."""
        return await self._link.call_slow(
            f"outbox {part} from {seq}",
            lambda: self._database.outbox(part, seq, limit),
            lost=Transient, refused=Transient,
        )  # fmt: skip

    async def note_published(self, owned: Ownership, seq: int) -> None:
        """Remember how far the relay got."""
        await self._link.call_slow(
            f"note {owned.part} {seq}",
            lambda: self._database.note_published(owned, seq),
            lost=Transient, refused=Transient,
        )  # fmt: skip

    async def last_decided(self, owned: Ownership) -> LastDecided | None:
        """Return the last command before the next offset."""
        return await self._link.call_slow(
            f"last decided {owned.part}",
            lambda: self._database.last_decided(owned),
            lost=Transient,
            refused=Transient,
        )

    async def note_halted(self, owned: Ownership, reason: str) -> None:
        """Halt for good; a world whose log and store stay together has no reason to."""
        await self._link.call_slow(
            f"halt {owned.part}", lambda: self._database.note_halted(owned, reason), lost=Transient, refused=Transient
        )
        raise Fault(f"partition {owned.part} halts: {reason}")

    async def halts(self) -> dict[int, str | None]:
        """Return each partition, and why it is halted if it is."""
        return await self._link.call_slow("halts", self._database.halts, lost=Transient, refused=Transient)

    async def halt_all(self, reason: str) -> None:
        """Halt every partition, as a worker does that sees another cluster."""
        raise Fault(f"every partition halts: {reason}")


class SessionOverLink:
    """A turn whose counters are locked."""

    def __init__(self, around: Surroundings, opened: Transaction, link: Link) -> None:
        self._around = around
        self._opened = opened
        self._link = link
        self.facts = opened.facts
        self.kept = True

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Write the turn within the transaction; its commit may be lost on the way."""
        self.kept = not self._link.loses_commit()
        return await self._link.call(
            f"apply {owned.part} within a lock",
            lambda: self._opened.apply(owned, turn, kept=self.kept),
            lost=OutcomeUnknown,
        )


@asynccontextmanager
async def _locked(row: asyncio.Lock) -> AsyncIterator[None]:
    await _take(row)
    try:
        yield
    finally:
        row.release()


async def _take(row: asyncio.Lock) -> None:
    try:
        async with asyncio.timeout(LOCK_SECONDS_MAX):
            await row.acquire()
    except TimeoutError as error:
        raise Transient("55P03: canceling statement due to lock timeout") from error
