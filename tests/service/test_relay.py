"""The relay over ports in memory: order, no gap, no repeat, whatever its publishers do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from handlers.faults import Fault, Fenced, Parted, Transient
from handlers.ports import JournalRow, Ownership, Publisher, Turn
from service import relay as module
from service.relay import Relay
from service.telemetry import Telemetry
from service.tokens import TokenBucket
from tests.eventually import assert_eventually
from tests.fakes.ports import MemoryBroker, MemoryPublisher
from tests.fakes.store import START, MemoryStore


@dataclass
class FaultyPublisher:
    """A publisher that fails as its script says: before it publishes, or after, when nobody knows."""

    inner: MemoryPublisher
    script: list[str]

    async def start(self) -> int | None:
        """Start, unless the script says otherwise."""
        if self._next("start"):
            raise Transient("no broker")
        return await self.inner.start()

    async def publish(self, rows: Sequence[tuple[int, JournalRow]]) -> None:
        """Publish, and fail before or after as scripted."""
        if self._next("before"):
            raise Transient("refused")
        await self.inner.publish(rows)
        if self._next("after"):
            raise Transient("no answer")

    async def close(self) -> None:
        """Let go."""
        await self.inner.close()

    def _next(self, moment: str) -> bool:
        if self.script and self.script[0] == moment:
            self.script.pop(0)
            return True
        return False


@dataclass
class Scene:
    """A partition's store, broker and relay."""

    store: MemoryStore = field(default_factory=MemoryStore)
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    script: list[str] = field(default_factory=list)
    publishers: Callable[[int], Publisher] | None = None

    async def relay(self) -> Relay:
        """Claim, and make the relay of this claim."""
        self.owned = await self.store.claim(0, 1)
        return Relay(
            self.owned,
            outbox=self.store,
            publishers=self.publishers or self._faulty,
            tokens=TokenBucket(1_000_000, 1_000),
            telemetry=Telemetry(),
        )

    async def commit(self, count: int, relay: Relay | None, *, size: int = 1) -> None:
        """Commit some rows, and tell the relay if there is one."""
        rows = [JournalRow("reply", "r", "w", "turnstile.reply", 0, reply=b"." * size) for _ in range(count)]
        outcome = await self.store.apply(self.owned, Turn(self.owned.next_offset + 1, START, rows=rows))
        assert isinstance(outcome, Ownership)
        first_seq, self.owned = self.owned.next_seq, outcome
        if relay is not None:
            relay.committed(first_seq, rows)

    async def published(self) -> list[int]:
        """Return the seqs that were published."""
        return self.broker.seqs

    def _faulty(self, part: int) -> Publisher:
        return FaultyPublisher(self.broker.publisher(part), self.script)


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator["asyncio.Task[None]"]:
    """Run a started relay, and stop it in the end."""
    await relay.start()
    task = asyncio.create_task(relay.run())
    try:
        yield task
        relay.stop()
        await task
    finally:
        task.cancel()
        await relay.close()


async def test_rows_are_published_once_and_in_order() -> None:
    """What is committed while it runs comes out gapless, and the cursor follows."""
    scene = Scene()
    relay = await scene.relay()
    async with running(relay):
        for count in (1, 3, 500, 2):
            await scene.commit(count, relay)
        await assert_eventually([*range(1, 507)], scene.published)
        assert (507, 0) == (relay.cursor, relay.backlog)
    assert 507 == scene.store.rows[0].published_seq


async def test_what_an_earlier_owner_left_comes_first() -> None:
    """Rows committed and not published before the claim are read back from the outbox."""
    scene = Scene()
    first = await scene.relay()
    await scene.commit(2500, None)
    del first
    relay = await scene.relay()
    assert 2500 == relay.backlog
    async with running(relay):
        await scene.commit(2, relay)
        await assert_eventually([*range(1, 2503)], scene.published)


class HeldPublisher(MemoryPublisher):
    """A publisher that is stuck until it is let go."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.go = asyncio.Event()
        self._asked = False

    async def asked(self) -> bool:
        """Say whether it holds rows."""
        return self._asked

    async def publish(self, rows: Sequence[tuple[int, JournalRow]]) -> None:
        """Wait, then publish."""
        self._asked = True
        await self.go.wait()
        await super().publish(rows)


async def test_the_outbox_ages_while_nothing_goes_out() -> None:
    """The age is that of the oldest unpublished row since we know of it, later rows do not make it younger."""
    scene = Scene()
    held = HeldPublisher(scene.broker)
    scene.publishers = lambda _: held
    relay = await scene.relay()

    async def age() -> float:
        return relay.age_seconds()

    async def older_than(seconds: float) -> bool:
        return relay.age_seconds() > seconds

    async with running(relay):
        assert 0.0 == relay.age_seconds()
        await scene.commit(2, relay)
        await assert_eventually(expected=True, actual=lambda: older_than(0.02))
        before = relay.age_seconds()
        await scene.commit(3, relay)
        assert before <= relay.age_seconds()
        held.go.set()
        await assert_eventually([1, 2, 3, 4, 5], scene.published)
        await assert_eventually(0.0, age)


async def test_what_an_earlier_owner_left_ages_too() -> None:
    """A backlog that is found at a claim counts from the claim on."""
    scene = Scene()
    await scene.relay()
    await scene.commit(2, None)
    held = HeldPublisher(scene.broker)
    scene.publishers = lambda _: held
    relay = await scene.relay()

    async def ages() -> bool:
        return relay.age_seconds() > 0

    async with running(relay):
        await assert_eventually(expected=True, actual=ages)
        held.go.set()
        await assert_eventually([1, 2], scene.published)
    assert 0.0 == relay.age_seconds()


@pytest.mark.parametrize("script", [["before"], ["after"], ["before", "start", "after"]])
async def test_after_an_error_a_new_publisher_goes_on_from_the_cursor(script: list[str]) -> None:
    """Rows that did not get out are published, rows that did are not repeated, and each failed publisher is closed."""
    scene = Scene(script=list(script))
    relay = await scene.relay()
    async with running(relay):
        await scene.commit(3, relay)
        await scene.commit(2, relay)
        await assert_eventually([1, 2, 3, 4, 5], scene.published)
    assert [] == scene.script
    assert len(script) + 1 == scene.broker.made
    assert scene.broker.made == scene.broker.closed


@pytest.mark.parametrize(("cursor", "expected"), [(None, [3, 4, 5]), (1, [3, 4, 5]), (4, [4, 5]), (6, [])])
async def test_the_further_of_both_cursors_counts(cursor: int | None, expected: list[int]) -> None:
    """The broker's cursor leads; where it is missing or behind, the store's note stands in."""
    scene = Scene()
    await scene.relay()
    await scene.commit(5, None)
    await scene.store.note_published(scene.owned, 3)
    scene.broker.cursor = cursor
    async with running(await scene.relay()):
        await assert_eventually(expected, scene.published)
    assert expected == scene.broker.seqs


async def test_a_cursor_beyond_the_store_is_parted() -> None:
    """An older database came back: nothing is published, the partition is to be halted."""
    scene = Scene()
    await scene.relay()
    await scene.commit(5, None)
    scene.broker.cursor = 7
    relay = await scene.relay()
    with pytest.raises(Parted, match="at row 7, the store only at 6"):
        await relay.start()
    assert [] == scene.broker.seqs


async def test_a_cursor_that_another_owner_moved_is_no_parted_log() -> None:
    """An owner that lost its partition without knowing must claim again, not halt it."""
    scene = Scene(script=["before"])
    relay = await scene.relay()
    await relay.start()
    await scene.commit(1, relay)
    scene.broker.cursor = 9
    with pytest.raises(Fenced):
        await relay.run()
    await relay.close()
    assert [] == scene.broker.seqs


@dataclass
class GappyOutbox:
    """An outbox that lost a row."""

    inner: MemoryStore
    lost: int

    async def outbox(self, part: int, seq: int, limit: int) -> list[tuple[int, JournalRow]]:
        """Return all rows but one."""
        return [pair for pair in await self.inner.outbox(part, seq, limit) if pair[0] != self.lost]

    async def note_published(self, owned: Ownership, seq: int) -> None:
        """Note it."""
        await self.inner.note_published(owned, seq)


@pytest.mark.parametrize("lost", [1, 3, 5])
async def test_a_gap_is_never_published_over(lost: int) -> None:
    """A row that is missing is a fault of ours: nothing at or behind it goes out."""
    scene = Scene()
    await scene.relay()
    await scene.commit(5, None)
    owned = await scene.store.claim(0, 1)
    relay = Relay(
        owned, outbox=GappyOutbox(scene.store, lost), publishers=scene.broker.publisher,
        tokens=TokenBucket(1_000_000, 1_000), telemetry=Telemetry(),
    )  # fmt: skip
    await relay.start()
    with pytest.raises(Fault, match="not gapless"):
        await relay.run()
    await relay.close()
    assert [seq for seq in range(1, lost) if lost == 5] == scene.broker.seqs


@dataclass
class Interrupted:
    """A publisher in the middle of whose work something else happens."""

    inner: MemoryPublisher
    meanwhile: Callable[[], Awaitable[object]]

    async def start(self) -> int | None:
        """Start."""
        return await self.inner.start()

    async def publish(self, rows: Sequence[tuple[int, JournalRow]]) -> None:
        """Publish, after something else happened."""
        await self.meanwhile()
        await self.inner.publish(rows)

    async def close(self) -> None:
        """Let go."""
        await self.inner.close()


async def test_memory_that_overflowed_leaves_no_gap() -> None:
    """Rows not kept, because too many wait, are read back between those that were."""
    scene = Scene()

    async def commit_more() -> None:
        if scene.owned.next_seq < 10_000:
            await scene.commit(600, relay)

    scene.publishers = lambda part: Interrupted(scene.broker.publisher(part), commit_more)
    relay = await scene.relay()
    await relay.start()
    for _ in range(12):
        await scene.commit(600, relay)

    async def unpublished() -> int:
        return scene.owned.next_seq - 1 - len(scene.broker.seqs)

    task = asyncio.create_task(relay.run())
    await assert_eventually(0, unpublished)
    relay.stop()
    await task
    await relay.close()
    assert scene.owned.next_seq > 10_000
    assert [*range(1, scene.owned.next_seq)] == scene.broker.seqs


@dataclass
class ReadOutbox:
    """An outbox that knows how much was read in it."""

    inner: MemoryStore
    sizes: list[int] = field(default_factory=list)

    async def outbox(self, part: int, seq: int, limit: int) -> list[tuple[int, JournalRow]]:
        """Return the rows."""
        rows = await self.inner.outbox(part, seq, limit)
        self.sizes.append(sum(len(row.reply or b"") for _, row in rows))
        return rows

    async def note_published(self, owned: Ownership, seq: int) -> None:
        """Note it."""
        await self.inner.note_published(owned, seq)


async def test_memory_holds_rows_by_their_size() -> None:
    """Large ones are left to the outbox and come out of it in pieces, in order like any."""
    scene = Scene()
    size, turns = 900_000, 20
    outbox = ReadOutbox(scene.store)
    owned = scene.owned = await scene.store.claim(0, 1)
    relay = Relay(
        owned, outbox=outbox, publishers=scene.broker.publisher,
        tokens=TokenBucket(1_000_000, 1_000), telemetry=Telemetry(),
    )  # fmt: skip
    await relay.start()
    for _ in range(turns):
        await scene.commit(4, relay, size=size)
    task = asyncio.create_task(relay.run())
    await assert_eventually([*range(1, 4 * turns + 1)], scene.published)
    relay.stop()
    await task
    await relay.close()
    assert sum(outbox.sizes) >= 4 * turns * size - module.KEPT_BYTES_MAX - 4 * size
    assert max(outbox.sizes) <= module.BYTES_MAX + size


async def test_large_rows_travel_in_several_transactions() -> None:
    """No transaction carries much more than its bound, and a row above it goes alone."""
    sizes: list[int] = []

    @dataclass
    class Weighing:
        inner: MemoryPublisher

        async def start(self) -> int | None:
            return await self.inner.start()

        async def publish(self, rows: Sequence[tuple[int, JournalRow]]) -> None:
            sizes.append(len(rows))
            await self.inner.publish(rows)

        async def close(self) -> None:
            await self.inner.close()

    scene = Scene()
    scene.publishers = lambda part: Weighing(scene.broker.publisher(part))
    relay = await scene.relay()
    await relay.start()
    await scene.commit(5, relay, size=module.BYTES_MAX // 2)
    await scene.commit(2, relay, size=module.BYTES_MAX + 1)
    relay.stop()
    await relay.run()
    await relay.close()
    assert [2, 2, 1, 1, 1] == sizes
    assert [*range(1, 8)] == scene.broker.seqs


async def test_too_large_a_backlog_holds_intake_back() -> None:
    """Whoever asks for room waits until it is waived, as a drain does, where nothing gets published."""
    scene = Scene()
    relay = await scene.relay()
    await relay.start()
    await relay.room()
    await scene.commit(module.BACKLOG_ROWS_MAX + 1, relay)
    waiting = asyncio.create_task(relay.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    relay.waive_room()
    async with asyncio.timeout(10):
        await waiting
    await relay.close()


async def test_room_comes_back_as_rows_go_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait ends by itself once enough is published."""
    monkeypatch.setattr(module, "BACKLOG_ROWS_MAX", 2000)
    scene = Scene()
    relay = await scene.relay()
    await relay.start()
    await scene.commit(4000, relay)
    waiting = asyncio.create_task(relay.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    task = asyncio.create_task(relay.run())
    async with asyncio.timeout(10):
        await waiting
    assert relay.backlog <= 1000
    relay.stop()
    await task
    await relay.close()


async def test_an_old_outbox_holds_intake_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where publishing goes on, but slower than commands come: until the oldest row is half as old as may be."""
    loop = asyncio.get_running_loop()
    began, now = loop.time(), 0
    monkeypatch.setattr(loop, "time", lambda: began + now)
    scene = Scene()
    transactions = asyncio.Semaphore(0)
    scene.publishers = lambda part: Interrupted(scene.broker.publisher(part), transactions.acquire)
    relay = await scene.relay()
    async with running(relay):
        for now in (0, 25, 50):  # noqa: B007 - the loop's time
            await relay.room()
            await scene.commit(module.ROWS_MAX, relay)
        now = 61
        waiting = asyncio.create_task(relay.room())
        for rest in (2, 1):
            assert not (await asyncio.wait({waiting}, timeout=0))[0]
            transactions.release()
            while relay.backlog > rest * module.ROWS_MAX:  # noqa: ASYNC110 - time stands still
                await asyncio.sleep(0)
        await waiting
        assert module.ROWS_MAX == relay.backlog
        transactions.release()


async def test_room_comes_back_where_nobody_heard_that_rows_went_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction whose end was not answered may have been the last there was to publish."""
    monkeypatch.setattr(module, "BACKLOG_ROWS_MAX", 10)
    scene = Scene(script=["after"])
    relay = await scene.relay()
    async with running(relay):
        await scene.commit(20, relay)
        async with asyncio.timeout(10):
            await relay.room()
    assert [*range(1, 21)] == scene.broker.seqs


async def test_what_was_published_before_it_was_heard_of_does_not_age() -> None:
    """A row that is read back between others may be so new that its turn has not told of it yet."""
    scene = Scene()
    await scene.relay()
    await scene.commit(2, None)
    relay = await scene.relay()
    rows = [JournalRow("reply", "r", "w", "turnstile.reply", 0, reply=b"{}")]
    scene.store.journal[0] += rows
    async with running(relay):
        await assert_eventually([1, 2, 3], scene.published)
        relay.committed(3, rows)
        await asyncio.sleep(0)
        assert (0, 0.0) == (relay.backlog, relay.age_seconds())


async def test_stopping_publishes_what_is_left() -> None:
    """A relay told to stop ends only once its memory is empty, and notes how far it got."""
    scene = Scene()
    relay = await scene.relay()
    await relay.start()
    await scene.commit(1500, relay)
    relay.stop()
    async with asyncio.timeout(10):
        await relay.run()
    await relay.close()
    assert [*range(1, 1501)] == scene.broker.seqs
    assert 1501 == scene.store.rows[0].published_seq


async def test_stopping_leaves_the_outbox_to_the_next_owner() -> None:
    """What was read of it goes out; the rest waits, in the store, for whoever comes."""
    scene = Scene()
    await scene.relay()
    await scene.commit(2 * module.ROWS_MAX + 500, None)
    held = HeldPublisher(scene.broker)
    scene.publishers = lambda _: held
    relay = await scene.relay()
    async with running(relay):
        await assert_eventually(expected=True, actual=held.asked)
        relay.stop()
        held.go.set()
    assert [*range(1, module.ROWS_MAX + 1)] == scene.broker.seqs
    assert module.ROWS_MAX + 1 == scene.store.rows[0].published_seq


async def test_stopping_does_not_insist_on_a_broker_that_is_away() -> None:
    """One error while stopping ends the relay: the next owner goes on from the outbox."""
    scene = Scene(script=["before", "before"])
    relay = await scene.relay()
    await relay.start()
    await scene.commit(2, relay)
    relay.stop()
    async with asyncio.timeout(10):
        await relay.run()
    await relay.close()
    assert (["before"], [], 2) == (scene.script, scene.broker.seqs, relay.backlog)
    scene.script.clear()
    again = replace(await scene.store.claim(0, 1))
    assert (3, 1) == (again.next_seq, again.published_seq)
    async with running(await scene.relay()):
        await assert_eventually([1, 2], scene.published)


async def test_only_the_newest_publisher_writes() -> None:
    """A relay that was overtaken publishes nothing more; the new one publishes each row once."""
    scene = Scene()
    old = await scene.relay()
    await old.start()
    await scene.commit(2, old)
    new = await scene.relay()
    async with running(new):
        await assert_eventually([1, 2], scene.published)
        old.stop()
        await old.run()
    await old.close()
    assert [1, 2] == scene.broker.seqs
