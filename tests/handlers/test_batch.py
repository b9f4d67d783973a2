"""The inbox of a partition: what it keeps, what it drops, and when it holds its partition back."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from handlers import batch as module
from handlers.batch import Inbox, sort
from tests.fakes.ports import CommandRecord, MemoryLog

SCHEDULER = "turnstile.scheduler"


@dataclass
class Scene:
    """An inbox of partition 0 and its log."""

    log: MemoryLog = field(default_factory=MemoryLog)

    def __post_init__(self) -> None:
        self.inbox = Inbox(0, self.log)

    def put(self, *offsets: int, size: int = 1) -> None:
        """Put records with these offsets."""
        for offset in offsets:
            self.inbox.put(CommandRecord(b"." * size, offset=offset))

    def take(self, limit: int = 10_000) -> list[int]:
        """Take records and return their offsets."""
        return [record.offset for record in self.inbox.take(limit)]


@pytest.fixture
def scene() -> Scene:
    """Give an inbox that is open from offset 10."""
    given = Scene()
    given.inbox.open_at(10)
    return given


def tick(time: str, *, partition: int = 0, on: int = 0) -> CommandRecord:
    """Return a tick's record."""
    body = {"partition": partition, "time": time, "commands_end_offset": 0, "emitter": "e"}
    return CommandRecord(orjson.dumps(body), topic=SCHEDULER, partition=on)


def test_opening_seeks_before_it_fetches(scene: Scene) -> None:
    """The first record to come is the one asked for."""
    assert [("seek", 10), ("resume", 0)] == scene.log.calls


def test_while_shut_everything_is_dropped() -> None:
    """Before it is opened, and after it was shut, nothing is kept."""
    scene = Scene()
    scene.put(0, 1)
    assert 0 == len(scene.inbox)
    scene.inbox.open_at(0)
    scene.put(0, 1)
    scene.inbox.shut()
    scene.put(2)
    assert (0, []) == (len(scene.inbox), scene.take())
    assert not scene.log.fetching


def test_shutting_twice_pauses_once(scene: Scene) -> None:
    """An inbox that is paused is not paused again."""
    scene.inbox.shut()
    scene.inbox.shut()
    assert [("seek", 10), ("resume", 0), ("pause", 0)] == scene.log.calls


def test_what_was_had_or_lies_before_is_dropped(scene: Scene) -> None:
    """Offsets below the next one are old news; gaps are how a log looks after a transaction."""
    scene.put(8, 9, 10, 10, 12, 11, 12, 15)
    assert [10, 12, 15] == scene.take()
    scene.put(15, 16)
    assert [16] == scene.take()


def test_opening_again_starts_over(scene: Scene) -> None:
    """After a rewind the same offsets are taken anew, and what waited is forgotten."""
    scene.put(10, 11, 12)
    scene.inbox.shut()
    scene.inbox.open_at(11)
    scene.put(10, 11, 12)
    assert [11, 12] == scene.take()


def test_a_full_inbox_pauses_and_a_half_empty_one_resumes(scene: Scene) -> None:
    """Once in each direction, and not at every record in between."""
    most = module.INBOX_RECORDS_MAX
    scene.put(*range(10, 10 + most - 1))
    assert scene.log.fetching
    scene.put(10 + most - 1, 10 + most)
    assert [("seek", 10), ("resume", 0), ("pause", 0)] == scene.log.calls
    scene.take(most // 2)
    assert not scene.log.fetching
    scene.take(2)
    assert [("seek", 10), ("resume", 0), ("pause", 0), ("resume", 0)] == scene.log.calls


def test_large_records_fill_it_too(scene: Scene) -> None:
    """Memory is bounded by bytes: a few large records pause as many small ones do."""
    size = module.INBOX_BYTES_MAX // 4
    scene.put(10, 11, 12, size=size)
    assert scene.log.fetching
    scene.put(13, size=size)
    assert not scene.log.fetching
    assert [10] == scene.take()
    assert [11] == scene.take()
    assert not scene.log.fetching
    assert [12] == scene.take()
    assert scene.log.fetching


@pytest.mark.parametrize(
    "fields",
    [
        {"key": b"k" * (module.INBOX_BYTES_MAX // 4)},
        {"headers": [("h", b"v" * (module.INBOX_BYTES_MAX // 4))]},
        {"headers": [("h" * (module.INBOX_BYTES_MAX // 4), None)]},
        {"headers": [("", None)] * (module.INBOX_BYTES_MAX // 4 // module.HEADER_BYTES)},
    ],
    ids=["a key", "a header", "a header's name", "empty headers"],
)
def test_all_of_a_record_counts(scene: Scene, fields: dict[str, Any]) -> None:
    """Keys and headers are in memory as values are."""
    for offset in range(10, 14):
        assert scene.log.fetching
        scene.inbox.put(CommandRecord(b"{}", offset=offset, **fields))
    assert not scene.log.fetching
    assert [10] == scene.take()


def test_forgotten_bytes_do_not_count(scene: Scene) -> None:
    """What was shut away is no longer in memory."""
    scene.put(10, size=module.INBOX_BYTES_MAX - 1)
    scene.inbox.shut()
    scene.inbox.open_at(10)
    scene.put(10, size=module.INBOX_BYTES_MAX // 2)
    assert scene.log.fetching


def test_a_turn_takes_no_more_than_it_may(scene: Scene) -> None:
    """By number, in order."""
    scene.put(*range(10, 20))
    assert [[10, 11, 12], [13, 14, 15], [16, 17, 18], [19], []] == [scene.take(3) for _ in range(5)]


def test_a_turn_of_large_records_is_short(scene: Scene) -> None:
    """By bytes too, yet always at least one record."""
    size = module.TURN_BYTES_MAX // 2
    scene.put(*range(10, 15), size=size)
    assert [[10, 11], [12, 13], [14]] == [scene.take() for _ in range(3)]
    scene.put(15, 16, size=module.TURN_BYTES_MAX + 1)
    assert [[15], [16]] == [scene.take() for _ in range(2)]


async def test_whoever_waits_is_woken_by_a_record_and_again_by_what_is_left(scene: Scene) -> None:
    """Nothing that waits is forgotten, and an empty inbox wakes nobody."""
    waiting = asyncio.create_task(scene.inbox.arrived())
    await asyncio.sleep(0)
    assert not waiting.done()
    scene.put(10, 11)
    async with asyncio.timeout(5):
        await waiting
        assert [10] == scene.take(1)
        await scene.inbox.arrived()
    assert [11] == scene.take(1)
    again = asyncio.create_task(scene.inbox.arrived())
    await asyncio.sleep(0)
    assert not again.done()
    scene.inbox.wake()
    async with asyncio.timeout(5):
        await again


async def test_the_newest_tick_wins(scene: Scene) -> None:
    """A tick wakes, is taken once, and hides those before it; unreadable ones are kept beside it."""
    for record in (tick("2026-11-21T09:30:00Z"), CommandRecord(b"tock", topic=SCHEDULER), tick("2026-11-21T09:31:00Z")):
        scene.inbox.put_tick(record)
    async with asyncio.timeout(5):
        await scene.inbox.arrived()
    taken, earlier, bad = scene.inbox.take_ticks()
    assert taken is not None
    assert ("2026-11-21T09:31:00+00:00", ["2026-11-21T09:30:00+00:00"], [b"tock"]) == (
        taken.tick.time.isoformat(),
        [each.tick.time.isoformat() for each in earlier],
        [each.record.value for each in bad],
    )
    assert (None, [], []) == scene.inbox.take_ticks()


def test_no_flood_of_bad_ticks_fills_the_memory(scene: Scene) -> None:
    """The newest are kept."""
    for number in range(module.BAD_TICKS_KEPT + 5):
        scene.inbox.put_tick(CommandRecord(b"tock %d" % number, topic=SCHEDULER))
    _, _, bad = scene.inbox.take_ticks()
    assert (module.BAD_TICKS_KEPT, b"tock 5") == (len(bad), bad[0].record.value)


def test_sorting_goes_by_topic_and_partition(scene: Scene) -> None:
    """Commands and ticks find their inbox; what nobody here owns is told, and costs its neighbours nothing."""
    strangers: list[int] = []
    records = [
        CommandRecord(b"a", offset=10),
        CommandRecord(b"b", partition=7, offset=3),
        tick("2026-11-21T09:30:00Z"),
        tick("2026-11-21T09:30:00Z", partition=7, on=7),
        CommandRecord(b"c", offset=11),
    ]
    sort(
        records,
        {0: scene.inbox},
        scheduler_topic=SCHEDULER,
        unowned=lambda record: strangers.append(record.partition),
    )
    assert ([10, 11], [7, 7]) == (scene.take(), strangers)
    assert scene.inbox.take_ticks()[0] is not None


def test_what_is_read_past_counts_as_decided_once_nothing_waits(scene: Scene) -> None:
    """The end of a transaction has an offset and is no command; while commands wait, theirs are what counts."""
    scene.put(10, 11)
    scene.log.read_past = 14
    assert 10 == scene.inbox.decided(10)
    scene.take()
    assert (14, 20) == (scene.inbox.decided(12), scene.inbox.decided(20))


def test_what_is_put_back_comes_first_and_counts(scene: Scene) -> None:
    """In its order, before what waits, and it holds the partition back as it did before."""
    for offset in range(10, 14):
        scene.put(offset)
    taken = scene.inbox.take(2)
    scene.inbox.put_back(taken)
    assert [10, 11, 12, 13] == scene.take()
    scene.inbox.shut()
    scene.inbox.put_back(taken)
    assert 0 == len(scene.inbox)
