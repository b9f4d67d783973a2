"""The broker as a server: logs with markers and last stable offsets, transaction coordinators with epochs, cursors.

A transaction is decided in one moment and becomes visible partition by partition a little later, as markers arrive.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from aiokafka.errors import InvalidTxnState, ProducerFenced

from tests.fakes.ports import CommandRecord
from tests.fakes.store import START
from tests.simulation.network import Surroundings

PARTS = 2
TRANSACTION_SECONDS_MAX = 10.0
MARKER_SECONDS_MAX = 0.03
FETCH_SECONDS_MAX = 1.0
FETCH_RECORDS_MAX = 7

Where = tuple[str, int]


@dataclass(eq=False, slots=True)
class Transaction:
    """What a producer wrote under one epoch; `decided` is None while it is open, else whether it is committed."""

    decided: bool | None = None
    unmarked: list[Where] = field(default_factory=list)
    cursors: dict[Where, int] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Entry:
    """One offset of a log: a record, or a marker (None), and the transaction it belongs to."""

    record: CommandRecord | None
    transaction: Transaction | None = None


@dataclass(slots=True)
class Coordinator:
    """What the broker knows of one transactional id."""

    epoch: int = -1
    current: Transaction | None = None


class Kafka:
    """The cluster; `shown` hears of each record of a topic as it becomes readable under read_committed."""

    def __init__(self, around: Surroundings, *, shown: Callable[[CommandRecord], None]) -> None:
        self._around = around
        self._shown = shown
        self._logs: dict[Where, list[Entry]] = {}
        self._seen: dict[Where, int] = {}
        self._coordinators: dict[str, Coordinator] = {}
        self._cursors: dict[Where, int] = {}
        self._changed: list[asyncio.Event] = []

    def end(self, where: Where) -> int:
        """Return the next offset to be written."""
        return len(self._logs.get(where, ()))

    def readable(self, topic: str, part: int) -> list[CommandRecord]:
        """Return what read_committed shows of a partition."""
        records, _ = self.read((topic, part), 0, self.end((topic, part)))
        return records

    def idle(self) -> bool:
        """Say that no transaction is open or waits for its markers."""
        return all(each.current is None or each.current.ended.is_set() for each in self._coordinators.values())

    def append(self, where: Where, record: CommandRecord | None, transaction: Transaction | None = None) -> int:
        """Write a record or a marker and return its offset."""
        log = self._logs.setdefault(where, [])
        if record is not None:
            milliseconds = int((START.timestamp() + self._around.loop.time()) * 1000)
            topic, part = where
            record = replace(record, topic=topic, partition=part, offset=len(log), timestamp=milliseconds)
        log.append(Entry(record, transaction))
        if transaction is None:
            self._show(where)
        return len(log) - 1

    def read(self, where: Where, start: int, limit: int) -> tuple[list[CommandRecord], int]:
        """Return committed records from an offset on, below the last stable offset, and where to read on."""
        log = self._logs.get(where, [])
        found: list[CommandRecord] = []
        for offset in range(start, len(log)):
            entry = log[offset]
            transaction = entry.transaction
            if len(found) >= limit or (transaction is not None and self._unstable(transaction, where)):
                return found, offset
            if entry.record is not None and (transaction is None or transaction.decided):
                found.append(entry.record)
        return found, len(log)

    async def fetch(self, wanted: dict[Where, int]) -> dict[Where, tuple[list[CommandRecord], int]]:
        """Return what follows the wanted offsets, waiting a while for some."""
        changed = asyncio.Event()
        self._changed.append(changed)
        try:
            async with asyncio.timeout(FETCH_SECONDS_MAX):
                while True:
                    changed.clear()
                    found = {
                        where: self.read(where, start, 1 + int(FETCH_RECORDS_MAX * self._around.chance.random()))
                        for where, start in wanted.items()
                    }
                    if any(end > wanted[where] for where, (_, end) in found.items()):
                        return found
                    await changed.wait()
        except TimeoutError:
            return {}
        finally:
            self._changed.remove(changed)

    # Producers.

    async def init_producer(self, transactional_id: str) -> int:
        """Raise the id's epoch, end what is open under it, and return the epoch once that is done."""
        coordinator = self._coordinators.setdefault(transactional_id, Coordinator())
        coordinator.epoch += 1
        epoch = coordinator.epoch
        if coordinator.current is not None:
            if coordinator.current.decided is None:
                self._around.struck["transactions aborted by a successor"] += 1
                self.decide(coordinator.current, commit=False)
            await coordinator.current.ended.wait()
        return epoch

    async def produce(
        self, transactional_id: str | None, epoch: int, where: Where, records: Sequence[CommandRecord]
    ) -> None:
        """Write records, within a transaction where the producer has an id."""
        transaction = None if transactional_id is None else await self._transaction(transactional_id, epoch)
        if transaction is not None and where not in transaction.unmarked:
            transaction.unmarked.append(where)
        for record in records:
            self.append(where, record, transaction)

    async def move_cursor(self, transactional_id: str, epoch: int, key: Where, seq: int) -> None:
        """Let the cursor move with the transaction."""
        (await self._transaction(transactional_id, epoch)).cursors[key] = seq

    def end_transaction(self, transactional_id: str, epoch: int, *, commit: bool) -> None:
        """Decide the transaction of this epoch; its markers follow."""
        coordinator = self._of(transactional_id, epoch)
        if coordinator.current is None:
            raise InvalidTxnState
        if coordinator.current.decided is None:
            self.decide(coordinator.current, commit=commit)

    def cursor(self, key: Where) -> int:
        """Return a committed cursor, -1 if there is none."""
        return self._cursors.get(key, -1)

    async def _transaction(self, transactional_id: str, epoch: int) -> Transaction:
        coordinator = self._of(transactional_id, epoch)
        while coordinator.current is not None and coordinator.current.decided is not None:
            if coordinator.current.ended.is_set():
                coordinator.current = None
            else:
                await coordinator.current.ended.wait()
                coordinator = self._of(transactional_id, epoch)
        if coordinator.current is None:
            coordinator.current = opened = Transaction()
            asyncio.get_running_loop().call_later(TRANSACTION_SECONDS_MAX, self._time_out, coordinator, opened)
        return coordinator.current

    def _of(self, transactional_id: str, epoch: int) -> Coordinator:
        coordinator = self._coordinators[transactional_id]
        if coordinator.epoch != epoch:
            self._around.struck["fenced producers"] += 1
            raise ProducerFenced
        return coordinator

    def _time_out(self, coordinator: Coordinator, transaction: Transaction) -> None:
        if coordinator.current is transaction and transaction.decided is None:
            self._around.struck["transactions timed out"] += 1
            coordinator.epoch += 1
            self.decide(transaction, commit=False)

    def decide(self, transaction: Transaction, *, commit: bool) -> None:
        """End a transaction; each partition gets its marker in its own time."""
        transaction.decided = commit
        loop, chance = self._around.loop, self._around.chance
        if not transaction.unmarked:
            self._finish(transaction)
        for where in list(transaction.unmarked):
            loop.call_later(MARKER_SECONDS_MAX * chance.random() ** 2, self._mark, where, transaction)

    def _mark(self, where: Where, transaction: Transaction) -> None:
        transaction.unmarked.remove(where)
        self.append(where, None)
        if not transaction.unmarked:
            self._finish(transaction)

    def _finish(self, transaction: Transaction) -> None:
        if transaction.decided:
            self._cursors |= transaction.cursors
        transaction.ended.set()

    def _unstable(self, transaction: Transaction, where: Where) -> bool:
        return transaction.decided is None or where in transaction.unmarked

    def _show(self, where: Where) -> None:
        found, self._seen[where] = self.read(where, self._seen.get(where, 0), self.end(where))
        for record in found:
            self._shown(record)
        for changed in self._changed:
            changed.set()
