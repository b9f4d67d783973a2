"""A partition's owner with parked commands: woken by answers, counted, and let go of with the partition."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import orjson

from handlers.commands import CommandsHandler
from handlers.limits import Limits
from service.ownership import PartitionOwner
from service.relay import Relay
from service.telemetry import Telemetry
from service.tokens import TokenBucket
from tests.eventually import assert_eventually
from tests.fakes.guards import HeldGuards
from tests.fakes.machines import compiled, create, door, move, sent
from tests.fakes.ports import CommandRecord, MemoryBroker, MemoryLog, numbered
from tests.fakes.store import MemoryStore

RECORDS = numbered(
    [
        sent(create("w")),
        sent(create("v")),
        sent(move("w", "pull", context={"strong": True})),
        sent(move("w", "open")),
        sent(move("v", "open")),
    ]
)

AT_ONCE = Limits(guard_budget_seconds=0, guard_seconds_max=60)


class Scene:
    """A partition's owner on a store in memory, its log already holding records; `guards` answer when let go."""

    def __init__(
        self,
        store: MemoryStore,
        broker: MemoryBroker,
        records: Sequence[CommandRecord] = RECORDS,
        limits: Limits = AT_ONCE,
    ) -> None:
        self.store, self.broker, self.records = store, broker, records
        self.guards = HeldGuards("w")
        self.telemetry = Telemetry()
        self.log = MemoryLog(end=len(records))
        self.owner = PartitionOwner(
            0,
            log_of_commands=self.log,
            claims=store,
            handler=CommandsHandler(store, self.guards, limits, timer=lambda: 0.0),  # however busy the machine is
            relays=lambda owned: Relay(
                owned,
                outbox=store,
                publishers=broker.publisher,
                tokens=TokenBucket(1_000_000, 1_000),
                telemetry=self.telemetry,
            ),
            telemetry=self.telemetry,
            turn_records_max=500,
        )

    async def published(self) -> list[int]:
        """Return the offsets of the published rows, after delivering what waits."""
        seeks = [offset for name, offset in self.log.calls if name == "seek"]
        if seeks and self.log.fetching:
            for record in self.records[seeks[-1] :]:
                self.owner.inbox.put(record)
        return [row.record_offset for _, row in self.broker.published]

    async def asked(self) -> list[str]:
        """Return whose guards are being asked."""
        return self.guards.waiting

    def shown(self, name: str, **labels: str) -> float | None:
        """Return a metric's value."""
        return self.telemetry.registry.get_sample_value(name, labels)


@asynccontextmanager
async def owning(scene: Scene) -> AsyncIterator[None]:
    """Run the owner, and drain it in the end."""
    task = asyncio.create_task(scene.owner.run())
    try:
        yield
        scene.owner.drain()
        async with asyncio.timeout(10):
            await task
    finally:
        task.cancel()


async def test_an_answer_wakes_the_partition() -> None:
    """No record and no tick is needed; meanwhile the metrics say how many wait, and why."""
    store = MemoryStore()
    store.add(compiled(door()))
    scene = Scene(store, MemoryBroker())
    async with owning(scene):
        await assert_eventually([0, 1, 4], scene.published)
        assert (2, 1, 1) == (
            scene.shown("turnstile_parked", part="0"),
            scene.shown("turnstile_commands_parked_total", reason="guard"),
            scene.shown("turnstile_commands_parked_total", reason="behind"),
        )
        await scene.guards.let_go()
        await assert_eventually([0, 1, 4, 2, 3], scene.published)
    assert 0 == scene.shown("turnstile_parked", part="0")


async def test_a_burst_beyond_the_room_waits_in_the_log() -> None:
    """Guards that answer one after another let every command through in its order, however many come at once."""
    store = MemoryStore()
    store.add(compiled(door()))
    names = ["w", "w", "w", "a", "b", "c"]
    ways = [move(name, way, f"{name} {step} {way} {turn}", context={"strong": True})
            for turn in range(40) for step, name in enumerate(names) for way in ("pull", "open", "shut")]  # fmt: skip
    burst = numbered([*(sent(create(name)) for name in sorted(set(names))), *map(sent, ways)])
    limits = Limits(
        guard_budget_seconds=0.02, guard_turn_seconds_max=0.03, parked_workflow_max=3, parked_partition_max=5
    )
    scene = Scene(store, MemoryBroker(), burst, limits)
    scene.guards.every = True

    async def all_published() -> int:
        published = len(await scene.published())
        await scene.guards.let_go()
        return published

    async with owning(scene):
        await assert_eventually(len(burst), all_published, poll_seconds=0.001)
    rows = [row for _, row in scene.broker.published]
    assert {"accepted"} == {orjson.loads(row.reply or b"")["outcome"] for row in rows}
    by_workflow = [[row.record_offset for row in rows if row.workflow_id == name] for name in set(names)]
    assert all(offsets == sorted(offsets) for offsets in by_workflow)


async def test_the_next_owner_goes_on_with_what_is_parked() -> None:
    """The first leaves no question behind; the second asks at once, without a record or a tick."""
    store, broker = MemoryStore(), MemoryBroker()
    store.add(compiled(door()))
    first = Scene(store, broker)
    async with owning(first):
        await assert_eventually([0, 1, 4], first.published)
        assert ["w"] == first.guards.waiting
    assert ([], 0) == (first.guards.waiting, first.shown("turnstile_parked", part="0"))
    second = Scene(store, broker)
    async with owning(second):
        await assert_eventually(["w"], second.asked)
        await second.guards.let_go()
        await assert_eventually([0, 1, 4, 2, 3], second.published)
