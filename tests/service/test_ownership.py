"""A partition's life over ports in memory: claim, recover, turns, claim again, halt and drain."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from contracts.ticks import Tick
from domain.decision import Facts
from handlers.commands import CommandsHandler
from handlers.faults import Fault, Fenced, OutcomeUnknown, Transient
from handlers.ports import JournalRow, Ownership, Turn
from handlers.ticks import Clock
from service import relay as relay_module
from service.ownership import FIRING_BACKLOG_MAX, PartitionOwner, Phase
from service.relay import Relay
from service.telemetry import Telemetry
from service.tokens import TokenBucket
from tests.eventually import assert_eventually
from tests.fakes.machines import compiled, create, door, move, sent
from tests.fakes.ports import CommandRecord, MemoryBroker, MemoryLog, MemoryPublisher, ScriptedGuards, numbered
from tests.fakes.store import MemoryStore


@dataclass
class FaultyStore(MemoryStore):
    """A store whose applies fail as scripted: before they write, or after, when nobody knows."""

    script: list[tuple[str, Exception]] = field(default_factory=list)
    applies: int = 0

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Apply, and fail before or after as scripted."""
        self.applies += 1
        moment, fault = self.script.pop(0) if self.script else ("never", Exception())
        if moment == "before":
            raise fault
        outcome = await super().apply(owned, turn)
        if moment == "after":
            raise fault
        return outcome


@dataclass
class Scene:
    """A partition with its log, store, broker and owner; records are handed over as a consumer would."""

    records: list[CommandRecord]
    store: FaultyStore = field(default_factory=FaultyStore)
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    log: MemoryLog = field(default_factory=MemoryLog)
    turn_records_max: int = 500

    def __post_init__(self) -> None:
        self.store.add(compiled(door()))
        self.log.end = len(self.records)
        self.telemetry = Telemetry()
        self.owner = self.owned_by(CommandsHandler(self.store, ScriptedGuards()))

    def owned_by(self, handler: CommandsHandler) -> PartitionOwner:
        """Return an owner that decides by a handler."""
        return PartitionOwner(
            0,
            log_of_commands=self.log,
            claims=self.store,
            handler=handler,
            relays=self._relay,
            telemetry=self.telemetry,
            turn_records_max=self.turn_records_max,
        )

    def deliver(self) -> None:
        """Hand over what the log holds from the last seek on, as the consumer does after it."""
        seeks = [offset for name, offset in self.log.calls if name == "seek"]
        if seeks and self.log.fetching:
            for record in self.records[seeks[-1] :]:
                self.owner.inbox.put(record)

    async def published(self) -> list[str]:
        """Return which workflows' rows are published, after delivering what waits."""
        self.deliver()
        return [row.workflow_id or "" for _, row in self.broker.published]

    async def phase(self) -> Phase:
        """Return where the owner is."""
        return self.owner.phase

    def _relay(self, owned: Ownership) -> Relay:
        return Relay(
            owned,
            outbox=self.store,
            publishers=self.broker.publisher,
            tokens=TokenBucket(1_000_000, 1_000),
            telemetry=self.telemetry,
        )


def creations(count: int) -> list[CommandRecord]:
    """Return records that create as many doors."""
    return numbered(sent(create(f"w{number}")) for number in range(count))


def names(count: int) -> list[str]:
    """Return the names of as many doors."""
    return [f"w{number}" for number in range(count)]


@asynccontextmanager
async def owning(scene: Scene) -> AsyncIterator["asyncio.Task[None]"]:
    """Run the owner, and drain it in the end."""
    task = asyncio.create_task(scene.owner.run())
    try:
        yield task
        scene.owner.drain()
        async with asyncio.timeout(10):
            await task
    finally:
        task.cancel()


async def test_each_record_is_decided_and_published_once() -> None:
    """Turns follow each other until all is decided; draining closes the partition."""
    scene = Scene(creations(20), turn_records_max=3)
    async with owning(scene):
        await assert_eventually(names(20), scene.published)
    assert (Phase.CLOSED, 20, 7, 1) == (
        scene.owner.phase,
        scene.store.rows[0].next_offset,
        scene.store.rows[0].turn,
        scene.store.rows[0].epoch,
    )
    assert not scene.log.fetching


async def test_it_claims_recovers_and_only_then_reads() -> None:
    """What an earlier owner left is published, and reading begins at the last command decided, to know it again."""
    scene = Scene(creations(5))
    async with owning(scene):
        await assert_eventually(names(5), scene.published)
    scene.broker.published.clear()
    scene.broker.cursor = 2
    scene.store.rows[0] = replace(scene.store.rows[0], published_seq=1)
    second = Scene([*scene.records, *numbered([sent(create("w5"))], first=5)], scene.store, scene.broker)
    async with owning(second):
        await assert_eventually(["w1", "w2", "w3", "w4", "w5"], second.published)
    assert [("seek", 4), ("resume", 0), ("pause", 0)] == second.log.calls
    assert 2 == second.store.rows[0].epoch


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("fault", [Transient("busy"), OutcomeUnknown("lost"), Fenced("overtaken")])
async def test_after_a_transient_fault_it_claims_again_and_loses_nothing(moment: str, fault: Fault) -> None:
    """Whether the turn was written or not, each command is decided once and its rows are published once."""
    scene = Scene(creations(10), turn_records_max=4)
    scene.store.script = [("never", Exception()), (moment, fault), (moment, fault)]
    async with owning(scene):
        await assert_eventually(names(10), scene.published)
    assert (3, 10) == (scene.store.rows[0].epoch, scene.store.rows[0].next_offset)
    assert 2 == scene.telemetry.claims_lost._value.get()  # noqa: SLF001 - the metric's only way to be read back


async def test_a_refused_claim_is_tried_again() -> None:
    """While a later generation has the partition nothing is read; once it is ours, all of it is."""
    scene = Scene(creations(3))
    await scene.store.claim(0, 9)
    async with owning(scene):
        await assert_eventually(1, lambda: _value(min(int(scene.telemetry.claims_lost._value.get()), 1)))  # noqa: SLF001
        assert (Phase.CLAIMING, []) == (scene.owner.phase, scene.log.calls)
        scene.log.group_generation = 9
        await assert_eventually(names(3), scene.published)


async def _value(value: int) -> int:
    return value


async def test_a_fault_of_ours_ends_the_run() -> None:
    """What is neither transient nor a parted log is for the process to die of, with nothing half done."""
    scene = Scene(creations(2))
    scene.store.script = [("before", Fault("a bug"))]
    task = asyncio.create_task(scene.owner.run())
    await assert_eventually(Phase.ACTIVE, scene.phase)
    scene.deliver()
    with pytest.raises(Fault, match="a bug"):
        await task
    assert not scene.log.fetching
    assert scene.broker.made == scene.broker.closed


def _older_database(scene: Scene) -> None:
    scene.broker.cursor = 7


def _log_begins_later(scene: Scene) -> None:
    scene.log.start = 5


def _log_ends_earlier(scene: Scene) -> None:
    scene.log.end = 2


def _halted_by_hand(scene: Scene) -> None:
    scene.store.rows[0] = replace(scene.store.rows[0], halted="by hand")


@pytest.mark.parametrize(
    ("part_it", "reason"),
    [
        (_older_database, "the events topic is at row 7, the store only at 4"),
        (_log_begins_later, "the store has decided up to offset 3, the commands topic holds 5 to 4"),
        (_log_ends_earlier, "the store has decided up to offset 3, the commands topic holds 0 to 2"),
        (_halted_by_hand, "by hand"),
    ],
)
async def test_a_parted_partition_halts(part_it: Callable[[Scene], None], reason: str) -> None:
    """It reads and publishes nothing, says why, and still ends when it is drained."""
    first = Scene(creations(3))
    async with owning(first):
        await assert_eventually(names(3), first.published)
    scene = Scene(creations(4), first.store, first.broker)
    part_it(scene)
    async with owning(scene):
        await assert_eventually(Phase.HALTED, scene.phase)
        assert (scene.owner.reason or "").startswith(reason)
        assert 1 == scene.telemetry.halted.labels(0)._value.get()  # noqa: SLF001
        assert [] == scene.log.calls
    assert (Phase.CLOSED, 3) == (scene.owner.phase, scene.store.rows[0].next_offset)
    assert 0 == scene.telemetry.halted.labels(0)._value.get()  # noqa: SLF001


async def test_a_halt_is_remembered_and_a_resume_is_taken_up() -> None:
    """The store knows the reason; told to look again, the owner finds what has changed, without a restart."""
    scene = Scene(creations(3))
    scene.log.start = 1
    async with owning(scene):
        await assert_eventually(Phase.HALTED, scene.phase)
        assert scene.owner.reason == scene.store.rows[0].halted
        scene.owner.look_again("it was resumed")
        await assert_eventually(Phase.HALTED, scene.phase)
        scene.log.start = 0
        scene.store.rows[0] = replace(scene.store.rows[0], halted=None)
        scene.owner.look_again("it was resumed")
        await assert_eventually(names(3), scene.published)
        assert (Phase.ACTIVE, None) == (scene.owner.phase, scene.owner.reason)
        assert 0 == scene.telemetry.halted.labels(0)._value.get()  # noqa: SLF001


async def test_an_active_owner_in_doubt_claims_again() -> None:
    """What was committed goes out, and what was read and not decided is read again."""
    scene = Scene(creations(20), turn_records_max=3)
    async with owning(scene):
        await assert_eventually(Phase.ACTIVE, scene.phase)
        scene.deliver()
        scene.owner.look_again("the log no longer gives offset 0")
        await assert_eventually(names(20), scene.published)
    assert 2 == scene.store.rows[0].epoch


async def test_an_operators_halt_fences_the_owner() -> None:
    """A turn of a halted partition is refused, and its owner lets go of it."""
    scene = Scene(creations(3))
    async with owning(scene):
        await assert_eventually(Phase.ACTIVE, scene.phase)
        await scene.store.halt_all("by hand")
        scene.deliver()
        await assert_eventually(Phase.HALTED, scene.phase)
        assert ("by hand", 0) == (scene.owner.reason, scene.store.rows[0].next_offset)


def tick(scene: Scene, end: int) -> None:
    """Hand over a tick of the store's time that comes after so many commands."""
    told = Tick(partition=0, time=scene.store.now, commands_end_offset=end, emitter="e")
    scene.owner.inbox.put_tick(CommandRecord(told.model_dump_json().encode(), topic="turnstile.scheduler"))


async def test_timers_fire_between_full_turns() -> None:
    """However many rows each turn leaves, as long as they are published: a breach does not wait for a quiet hour."""
    each, turns = FIRING_BACKLOG_MAX + 100, 4
    scene = Scene(creations(1 + each * turns))
    scene.store.add(compiled(door() | {"slas": [{"name": "opening", "target": "1h", "stops": ["open"]}]}))
    end = 1

    async def decided() -> tuple[int, bool]:
        """Return how many commands are decided, and whether all is published that they left."""
        row = scene.store.rows[0]
        return row.next_offset, row.next_seq == scene.broker.cursor

    async with owning(scene):
        await assert_eventually(Phase.ACTIVE, scene.phase)
        scene.owner.inbox.put(scene.records[0])
        await assert_eventually((1, True), decided, poll_seconds=0)
        scene.store.now += timedelta(hours=2)
        for _ in range(turns):
            tick(scene, end)
            for record in scene.records[end : end + each]:
                scene.owner.inbox.put(record)
            end += each
            await assert_eventually((end, True), decided, poll_seconds=0)  # no quiet moment
        types = [row.type for row in scene.store.journal[0][:-each]]
    assert any(each.endswith(".SLA_BREACHED") for each in types)


async def _passed_over() -> Scene:
    """Decide three commands, and pass over the two offsets behind them, which have none."""
    scene = Scene(creations(3))

    async def next_offset() -> int:
        return scene.store.rows[0].next_offset

    async with owning(scene):
        await assert_eventually(names(3), scene.published)
        scene.log.read_past = 5
        tick(scene, 5)
        await assert_eventually(5, next_offset)
    return scene


async def test_a_tick_from_after_the_calendars_moves_no_logical_time() -> None:
    """It is a dead letter and nothing else: logical time never goes back, so what it moved would stay moved."""
    scene = Scene([])
    scene.owner = scene.owned_by(CommandsHandler(scene.store, ScriptedGuards(), clock=Clock(logical=True)))
    true = scene.store.now

    async def kinds() -> list[str]:
        return [row.kind for row in scene.store.journal[0]]

    async with owning(scene):
        await assert_eventually(Phase.ACTIVE, scene.phase)
        scene.store.now = true.replace(year=2150)
        tick(scene, 0)
        await assert_eventually(["dead_letter"], kinds)
        scene.store.now = true
        tick(scene, 0)
        for number, record in enumerate(creations(2), start=1):
            scene.owner.inbox.put(record)
            await assert_eventually(["dead_letter", *["event"] * number], kinds)
    assert true == scene.store.rows[0].tick_time


async def test_what_is_no_command_is_passed_over_for_good() -> None:
    """The end of a transaction has an offset: once retention has taken it with the rest, nothing was lost."""
    scene = await _passed_over()
    scene = Scene([], store=scene.store, broker=scene.broker)
    scene.log.start = scene.log.end = 5
    async with owning(scene):
        await assert_eventually(Phase.ACTIVE, scene.phase)


async def test_a_topic_made_anew_is_known_by_the_last_command_also_where_none_is_just_before() -> None:
    """Between it and the next offset there may be records that left no answer."""
    scene = await _passed_over()
    others = numbered(sent(create(f"other{number}")) for number in range(7))
    scene = Scene(others, store=scene.store, broker=scene.broker)

    async def phase() -> Phase:
        scene.deliver()
        return scene.owner.phase

    async with owning(scene):
        await assert_eventually(Phase.HALTED, phase)
    assert "was made anew" in str(scene.store.rows[0].halted)


@dataclass
class OvertakenBroker(MemoryBroker):
    """A broker that is slow to answer the first publisher's start: another owner comes, works and goes meanwhile."""

    overtake: Callable[[], Awaitable[None]] | None = None

    def publisher(self, part: int) -> MemoryPublisher:
        """Make a publisher, slow the first time."""
        self.made += 1
        return SlowToStart(self) if self.made == 1 else super().publisher(part)


class SlowToStart(MemoryPublisher):
    """Fences, and reads the cursor long after its owner claimed."""

    def __init__(self, broker: OvertakenBroker) -> None:
        super().__init__(broker)
        self._overtake = broker.overtake

    async def start(self) -> int | None:
        """Start after another owner is done."""
        if self._overtake is not None:
            await self._overtake()
        return await super().start()


async def test_an_owner_overtaken_before_it_recovered_claims_again_and_does_not_halt() -> None:
    """Its figures are older than the cursor because another owner went on, not because the database was set back."""
    scene = Scene(creations(3), broker=OvertakenBroker())
    other = Scene(scene.records, scene.store, MemoryBroker())

    async def overtake() -> None:
        async with owning(other):
            await assert_eventually(names(3), other.published)
        scene.broker.cursor = other.broker.cursor

    assert isinstance(scene.broker, OvertakenBroker)
    scene.broker.overtake = overtake
    async with owning(scene):
        await assert_eventually(Phase.ACTIVE, scene.phase)
    assert (3, 4) == (scene.store.rows[0].next_offset, scene.broker.cursor)
    assert 1 == scene.telemetry.claims_lost._value.get()  # noqa: SLF001 - the metric's only way to be read back


async def test_a_log_that_lost_unread_commands_halts() -> None:
    """A new store on a log that does not start at its beginning would skip commands in silence."""
    scene = Scene(creations(3))
    scene.log.start = 1
    async with owning(scene):
        await assert_eventually(Phase.HALTED, scene.phase)
        assert (scene.owner.reason or "").startswith("the commands topic starts at 1")


class StuckBroker(MemoryBroker):
    """A broker that takes nothing until it is let go, and then fails as told."""

    def publisher(self, part: int) -> MemoryPublisher:
        """Make a publisher that waits."""
        return StuckPublisher(self, super().publisher(part))


class StuckPublisher(MemoryPublisher):
    """Waits for `go`, then raises what it is told to."""

    go = asyncio.Event()
    fault: Exception | None = None

    def __init__(self, broker: MemoryBroker, inner: MemoryPublisher) -> None:
        super().__init__(broker)
        self._inner = inner

    async def publish(self, rows: Sequence[tuple[int, JournalRow]]) -> None:
        """Wait, then fail or publish."""
        await type(self).go.wait()
        fault = type(self).fault
        if fault is not None:
            raise fault
        await super().publish(rows)


@pytest.fixture
def stuck() -> type[StuckPublisher]:
    """Give a publisher type that is stuck anew."""
    StuckPublisher.go = asyncio.Event()
    StuckPublisher.fault = None
    return StuckPublisher


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold intake back from ten unpublished rows on."""
    monkeypatch.setattr(relay_module, "BACKLOG_ROWS_MAX", 10)


async def _decided(scene: Scene) -> int:
    scene.deliver()
    return scene.store.rows[0].next_offset


@pytest.mark.usefixtures("narrow")
async def test_unpublished_rows_hold_intake_back(stuck: type[StuckPublisher]) -> None:
    """Turns stop while the outbox is full, and go on as it empties."""
    scene = Scene(creations(40), broker=StuckBroker(), turn_records_max=4)
    async with owning(scene):
        await assert_eventually(12, lambda: _decided(scene))
        for _ in range(50):
            await asyncio.sleep(0)
        assert 12 == scene.store.rows[0].next_offset
        stuck.go.set()
        await assert_eventually(names(40), scene.published)


@pytest.mark.usefixtures("narrow")
async def test_a_drain_does_not_wait_for_room(stuck: type[StuckPublisher]) -> None:
    """An owner that is held back ends when it is drained, once its relay gives up."""
    scene = Scene(creations(40), broker=StuckBroker(), turn_records_max=4)
    async with owning(scene):
        await assert_eventually(12, lambda: _decided(scene))
        stuck.fault = Transient("the broker is away")
        scene.owner.drain()
        stuck.go.set()
    assert (Phase.CLOSED, 12) == (scene.owner.phase, scene.store.rows[0].next_offset)


@pytest.mark.usefixtures("narrow")
async def test_a_relay_that_dies_does_not_leave_its_owner_waiting(stuck: type[StuckPublisher]) -> None:
    """A fault of the relay ends an owner that waits for room, instead of leaving the partition still for ever."""
    scene = Scene(creations(40), broker=StuckBroker(), turn_records_max=4)
    task = asyncio.create_task(scene.owner.run())
    await assert_eventually(12, lambda: _decided(scene))
    stuck.fault = Fault("a bug")
    stuck.go.set()
    ended, _ = await asyncio.wait({task}, timeout=5)
    assert {task} == ended
    with pytest.raises(Fault, match="a bug"):
        task.result()


async def test_a_drain_while_claiming_ends_at_once() -> None:
    """A partition that was taken away before it was ours is let go without a turn."""
    scene = Scene(creations(3))
    scene.owner.drain()
    async with asyncio.timeout(5):
        await scene.owner.run()
    assert (Phase.CLOSED, 0) == (scene.owner.phase, scene.store.rows[0].epoch)


async def test_a_drain_finishes_what_is_committed() -> None:
    """All committed rows are published before the owner ends; what waits in the inbox is left to the next."""
    scene = Scene(creations(30), turn_records_max=10)
    async with owning(scene):
        await assert_eventually(Phase.ACTIVE, scene.phase)
        scene.deliver()
        scene.owner.drain()
    decided = scene.store.rows[0].next_offset
    assert names(30)[:decided] == [row.workflow_id for _, row in scene.broker.published]
    second = Scene(scene.records, scene.store, scene.broker)
    async with owning(second):
        await assert_eventually(names(30), second.published)


async def test_another_owner_takes_over_and_the_first_writes_no_more() -> None:
    """A zombie is fenced by the store: between two owners each command is decided once."""
    records = numbered([sent(create("w")), sent(move("w", "open")), sent(move("w", "shut")), sent(move("w", "push"))])
    first = Scene(records[:2])
    async with owning(first):
        await assert_eventually(["w", "w"], first.published)
        second = Scene(records, first.store, first.broker)
        async with owning(second):
            await assert_eventually(["w"] * 4, second.published)
            first.records, first.log.end = records, 4
            first.owner.inbox.put(records[2])
            await assert_eventually(4, lambda: _value(first.store.rows[0].next_offset))
    assert [1, 2, 3, 4] == [row.sequence for _, row in first.broker.published]
