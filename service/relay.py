"""Publishes one partition's committed rows in order, each once: from memory while all goes well, else from the outbox.

After any error the publisher is thrown away; a new one fences it, says how far it got, and goes on from there.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice

import structlog

from handlers.faults import Fault, Fenced, Parted, Transient
from handlers.ports import JournalRow, Outbox, Ownership, Publisher
from service.telemetry import Telemetry
from service.tokens import TokenBucket

ROWS_MAX = 1000
BYTES_MAX = 4 * 1024 * 1024
KEPT_ROWS_MAX = 5000
KEPT_BYTES_MAX = 16 * 1024 * 1024
BACKLOG_ROWS_MAX = 50_000
BACKLOG_SECONDS_MAX = 60.0
BACKOFF_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
NOTE_SECONDS = 1.0

log = structlog.get_logger()

SeqRow = tuple[int, JournalRow]


class Relay:
    """One partition's relay, from a claim to its end."""

    def __init__(
        self,
        owned: Ownership,
        *,
        outbox: Outbox,
        publishers: Callable[[int], Publisher],
        tokens: TokenBucket,
        telemetry: Telemetry,
    ) -> None:
        self._owned = owned
        self._outbox = outbox
        self._publishers = publishers
        self._tokens = tokens
        self._telemetry = telemetry
        self._publisher: Publisher | None = None
        self._kept: deque[SeqRow] = deque()
        self._kept_bytes = 0
        self._next_seq = owned.next_seq
        self._cursor = owned.published_seq
        self._noted = owned.published_seq
        self._progress = asyncio.Event()
        self._work = asyncio.Event()
        self._stopping = False
        self._waived = False
        # Of each turn that is not published whole: the seq after it, and when we heard of it.
        self._waiting: deque[tuple[int, float]] = deque()

    @property
    def cursor(self) -> int:
        """Return the next seq to publish."""
        return self._cursor

    @property
    def backlog(self) -> int:
        """Return how many committed rows are not published yet."""
        return self._next_seq - self._cursor

    def age_seconds(self) -> float:
        """Return how long the oldest unpublished row has waited here; 0 if there is none."""
        return asyncio.get_running_loop().time() - self._waiting[0][1] if self._waiting else 0.0

    async def start(self) -> None:
        """Fence earlier publishers and find out how far they got; raises Parted or Transient."""
        publisher = self._publishers(self._owned.part)
        self._publisher = publisher
        cursor = await publisher.start()
        if cursor is not None and cursor > self._next_seq:
            raise Parted(
                self._owned.part,
                f"the events topic is at row {cursor}, the store only at {self._next_seq}: "
                "the database is older than what was published; see docs/operations.md, parted log",
            )
        self._advance(max(cursor or 0, self._cursor))
        if not self._waiting:
            self._waits()
        self._telemetry.age_of_backlog(self._owned.part, self.age_seconds)

    def committed(self, first_seq: int, rows: Sequence[JournalRow]) -> None:
        """Hear of rows that were just committed; kept only where they follow on, so that memory has no gap."""
        self._next_seq = first_seq + len(rows)
        follows = self._kept[-1][0] + 1 if self._kept else self._cursor
        if follows == first_seq and len(self._kept) < KEPT_ROWS_MAX and self._kept_bytes < KEPT_BYTES_MAX:
            self._keep([*enumerate(rows, start=first_seq)])
        self._waits()
        self._show_backlog()
        self._work.set()

    async def room(self) -> None:
        """Wait where too much is committed and not published, or for too long, until it is half of that."""
        if self._crowded(1.0):
            self._telemetry.intake_paused.labels(self._owned.part).set(1)
            while not self._waived and self._crowded(0.5):
                self._progress.clear()
                await self._progress.wait()
            self._telemetry.intake_paused.labels(self._owned.part).set(0)

    def waive_room(self) -> None:
        """Keep nobody waiting for room any more."""
        self._waived = True
        self._progress.set()

    def stop(self) -> None:
        """End after what is kept in memory has been published, or could not be."""
        self._stopping = True
        self._work.set()

    async def run(self) -> None:
        """Publish until stopped; raises Fenced where somebody else published, or a fault that is ours."""
        failures = 0
        last_note = asyncio.get_running_loop().time()
        while True:
            try:
                if self._publisher is None:
                    await self._start_again()
                if not await self._has_work():
                    break
                await self._publish()
                failures = 0
            except Fenced:
                raise
            except Transient as fault:
                await self._drop_publisher()
                if self._stopping:
                    log.warning("relay.unfinished", part=self._owned.part, backlog=self.backlog, reason=str(fault))
                    break
                log.warning("relay.retry", part=self._owned.part, reason=str(fault), failures=failures)
                self._telemetry.relay_restarts.inc()
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                failures += 1
            now = asyncio.get_running_loop().time()
            if now - last_note >= NOTE_SECONDS:
                last_note = now
                await self._note()
        await self._note()

    async def close(self) -> None:
        """Let the publisher go."""
        await self._drop_publisher()

    async def _start_again(self) -> None:
        """Replace a publisher; another owner may have published meanwhile, and only a new claim can tell."""
        try:
            await self.start()
        except Parted as parted:
            raise Fenced(parted.reason) from parted

    async def _publish(self) -> None:
        """Publish what is there when it is this partition's turn: the longer it waited, the more goes at once."""
        loop = asyncio.get_running_loop()
        async with self._tokens.spend():
            rows = await self._next_rows()
            if self._publisher is None:
                raise Transient("the publisher is gone")
            started = loop.time()
            await self._publisher.publish(rows)
        self._advance(rows[-1][0] + 1)
        self._telemetry.published(rows, loop.time() - started)

    async def _has_work(self) -> bool:
        """Wait until there is something to publish; false only when stopping with nothing left in memory."""
        while self._cursor >= self._next_seq or (self._stopping and not self._kept):
            if self._stopping:
                return False
            self._work.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._work.wait(), NOTE_SECONDS)
            if self._cursor >= self._next_seq and self._noted < self._cursor:
                await self._note()
        return True

    async def _next_rows(self) -> Sequence[SeqRow]:
        """Return the next rows to publish, from memory or the outbox."""
        if not self._kept or self._kept[0][0] != self._cursor:
            found = await self._outbox.outbox(self._owned.part, self._cursor, ROWS_MAX)
            self._forget()
            self._keep(found)
        rows = _bounded(islice(self._kept, ROWS_MAX))
        if not rows or rows[0][0] != self._cursor or rows[-1][0] != self._cursor + len(rows) - 1:
            self._forget()
            raise Fault(f"the outbox of partition {self._owned.part} has no row {self._cursor}: it is not gapless")
        return rows

    def _keep(self, rows: Sequence[SeqRow]) -> None:
        self._kept.extend(rows)
        self._kept_bytes += sum(_size(row) for _, row in rows)

    def _forget(self) -> None:
        self._kept.clear()
        self._kept_bytes = 0

    async def _note(self) -> None:
        if self._noted < self._cursor:
            with suppress(Transient):
                await self._outbox.note_published(self._owned, self._cursor)
                self._noted = self._cursor

    async def _drop_publisher(self) -> None:
        if self._publisher is not None:
            publisher, self._publisher = self._publisher, None
            await publisher.close()

    def _waits(self) -> None:
        if self.backlog > 0:  # a row that was read back may be published before we hear that it was committed
            self._waiting.append((self._next_seq, asyncio.get_running_loop().time()))

    def _advance(self, cursor: int) -> None:
        """Move the cursor and forget what lies before it."""
        self._cursor = cursor
        while self._kept and self._kept[0][0] < cursor:
            self._kept_bytes -= _size(self._kept.popleft()[1])
        while self._waiting and self._waiting[0][0] <= cursor:
            self._waiting.popleft()
        self._progress.set()
        self._show_backlog()

    def _show_backlog(self) -> None:
        self._telemetry.backlog.labels(self._owned.part).set(self.backlog)

    def _crowded(self, share: float) -> bool:
        """Say whether more than this share waits of what may."""
        return self.backlog > BACKLOG_ROWS_MAX * share or self.age_seconds() > BACKLOG_SECONDS_MAX * share


def _bounded(rows: "islice[SeqRow]") -> list[SeqRow]:
    """Return as many rows as one transaction should carry."""
    taken: list[SeqRow] = []
    size = 0
    for seq, row in rows:
        size += _size(row)
        if taken and size > BYTES_MAX:
            break
        taken.append((seq, row))
    return taken


def _size(row: JournalRow) -> int:
    return len(row.event or b"") + len(row.reply or b"")
