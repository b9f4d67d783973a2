"""Sorts what the consumer hands over into one inbox per owned partition; it decides nothing and never raises.

A full inbox pauses its partition, so one slow partition never holds another.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from handlers.decode import Unreadable
from handlers.ports import Log, Record
from handlers.ticks import ReceivedTick, read_tick

INBOX_RECORDS_MAX = 4000
INBOX_BYTES_MAX = 64 * 1024 * 1024
TURN_BYTES_MAX = 4 * 1024 * 1024
RECORD_BYTES = 500  # what a record costs in memory besides its own bytes
HEADER_BYTES = 150
BAD_TICKS_KEPT = 100


class Inbox:
    """The records of one partition that wait for their turn, and the newest tick."""

    def __init__(self, part: int, log: Log) -> None:
        self.part = part
        self._log = log
        self._records: deque[Record] = deque()
        self._bytes = 0
        self._bad_ticks: deque[Unreadable] = deque(maxlen=BAD_TICKS_KEPT)
        self._tick: ReceivedTick | None = None
        self._earlier: deque[ReceivedTick] = deque(maxlen=BAD_TICKS_KEPT)
        self._open = False
        self._paused = True
        self._expected = 0
        self._arrived = asyncio.Event()

    def open_at(self, offset: int) -> None:
        """Take records from `offset` on."""
        self._forget()
        self._expected = offset
        self._open = True
        self._log.seek(self.part, offset)
        self._log.resume(self.part)
        self._paused = False

    def shut(self) -> None:
        """Take nothing more and forget what has not been taken."""
        self._open = False
        self._forget()
        if not self._paused:
            self._log.pause(self.part)
            self._paused = True

    def put(self, record: Record) -> None:
        """Keep a command's record; one that was had already, or comes while shut, is dropped."""
        if not self._open or record.offset < self._expected:
            return
        self._expected = record.offset + 1
        self._records.append(record)
        self._bytes += size_of(record)
        self._arrived.set()
        if not self._paused and (len(self._records) >= INBOX_RECORDS_MAX or self._bytes >= INBOX_BYTES_MAX):
            self._log.pause(self.part)
            self._paused = True

    def put_tick(self, record: Record) -> None:
        """Keep the newest tick, those before it, since one of them may be forged, and those that cannot be read."""
        received = read_tick(record)
        if isinstance(received, Unreadable):
            self._bad_ticks.append(received)
        else:
            if self._tick is not None:
                self._earlier.append(self._tick)
            self._tick = received
        self._arrived.set()

    def wake(self) -> None:
        """Let whoever waits look again."""
        self._arrived.set()

    async def arrived(self) -> None:
        """Wait until there is something to take, or `wake` was called."""
        await self._arrived.wait()
        self._arrived.clear()

    def take(self, limit: int) -> list[Record]:
        """Take up to `limit` records, in offset order; fewer where they are large, so that a turn stays short."""
        records = self._records
        taken: list[Record] = []
        size = 0
        while records and len(taken) < limit and size < TURN_BYTES_MAX:
            size += size_of(records[0])
            taken.append(records.popleft())
        self._bytes -= size
        if records:
            self._arrived.set()
        roomy = len(records) < INBOX_RECORDS_MAX // 2 and self._bytes < INBOX_BYTES_MAX // 2
        if self._open and self._paused and roomy:
            self._log.resume(self.part)
            self._paused = False
        return taken

    def put_back(self, records: Sequence[Record]) -> None:
        """Keep records that were taken, and not decided, before all others."""
        if self._open and records:
            self._records.extendleft(reversed(records))
            self._bytes += sum(map(size_of, records))
            self._arrived.set()

    def take_ticks(self) -> tuple[ReceivedTick | None, list[ReceivedTick], list[Unreadable]]:
        """Take the newest tick, those before it and the unreadable ones."""
        taken = self._tick, list(self._earlier), list(self._bad_ticks)
        self._tick = None
        self._earlier.clear()
        self._bad_ticks.clear()
        return taken

    def decided(self, next_offset: int) -> int:
        """Return up to where nothing is undecided, given the offset after the last command that was taken."""
        return next_offset if self._records else max(next_offset, self._log.passed(self.part))

    def __len__(self) -> int:
        return len(self._records)

    def _forget(self) -> None:
        self._records.clear()
        self._bytes = 0


def size_of(record: Record) -> int:
    """Return about how many bytes a record takes: of headers there may be as many as there is room for."""
    held = RECORD_BYTES + len(record.key or b"") + len(record.value or b"")
    return held + sum(HEADER_BYTES + len(name) + len(value or b"") for name, value in record.headers)


def sort(
    records: Iterable[Record],
    inboxes: Mapping[int, Inbox],
    *,
    scheduler_topic: str,
    unowned: Callable[[Record], None] = lambda _: None,
) -> None:
    """Put each record into its partition's inbox."""
    for record in records:
        inbox = inboxes.get(record.partition)
        if inbox is None:
            unowned(record)
        elif record.topic == scheduler_topic:
            inbox.put_tick(record)
        else:
            inbox.put(record)
