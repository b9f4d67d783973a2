"""One behaviour of the store, run on the one in memory and on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, starmap
from typing import Any, Protocol
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from domain.canonical import canonical
from domain.decision import Facts
from domain.definition import Definition, compile_document
from domain.idempotency import Remembered
from domain.instants import written
from domain.sla import SlaRecord, dump_record
from domain.workflow import Workflow
from handlers.faults import Fenced, Overlong, Poison
from handlers.ports import (
    LOADED_BYTES_MAX,
    Claims,
    JournalRow,
    Outbox,
    Ownership,
    Parked,
    ParkedRecord,
    ParkReason,
    Place,
    SlaRow,
    Store,
    Timer,
    Turn,
    Wanted,
)
from service.app import Endpoints
from service.definitions.files import read_definition
from service.settings import Settings
from service.store import schema
from service.store.adapter import PostgresStore
from service.store.apply import arguments
from service.store.definitions import apply_definition
from service.store.partitions import ensure
from service.store.pool import Pool, fresh_database, open_pool
from tests.fakes.machines import DOOR, door, identified
from tests.fakes.store import MemoryStore

AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
PARTS = 3
DAMPER = timedelta(seconds=12)
NOTHING = Wanted((), (), ())


class FullStore(Store, Outbox, Claims, Protocol):
    """All ports that a store implements."""


class Bench(Protocol):
    """A store, and what tests do to it from outside."""

    @property
    def store(self) -> FullStore:
        """The store itself."""
        ...

    async def add(self, document: dict[str, Any]) -> None:
        """Apply a definition."""
        ...

    async def open(self, definition: str) -> int | None:
        """Return how many workflows a limited definition has open."""
        ...

    async def untouched_for_long(self, part: int) -> None:
        """Let a partition look as if its owner had gone."""
        ...


@dataclass(slots=True)
class MemoryBench:
    """The store in memory."""

    store: MemoryStore

    async def add(self, document: dict[str, Any]) -> None:
        """Apply a definition."""
        compiled = compile_document(document)
        assert isinstance(compiled, Definition)
        self.store.add(compiled)

    async def open(self, definition: str) -> int | None:
        """Return how many workflows a limited definition has open."""
        count = self.store.counts.get(definition)
        return None if count is None else count.open

    async def untouched_for_long(self, part: int) -> None:
        """Let a partition look as if its owner had gone."""
        self.store.claimed[part].touched_at -= 2 * DAMPER


@dataclass(slots=True)
class PostgresBench:
    """The real store."""

    store: PostgresStore
    pool: Pool

    async def add(self, document: dict[str, Any]) -> None:
        """Apply a definition."""
        source = orjson.dumps(document).decode()
        parsed = read_definition(source)
        assert parsed.definition is not None, parsed.findings
        async with self.pool.acquire() as connection:
            await apply_definition(connection, parsed, parsed.definition, source, applied_by=None)

    async def open(self, definition: str) -> int | None:
        """Return how many workflows a limited definition has open."""
        async with self.pool.acquire() as connection:
            found: int | None = await connection.fetchval(
                "select open from open_count where definition = $1", definition
            )
        return found

    async def untouched_for_long(self, part: int) -> None:
        """Let a partition look as if its owner had gone."""
        async with self.pool.acquire() as connection:
            await connection.execute(
                "update partition set touched_at = touched_at - $2::interval where part = $1", part, 2 * DAMPER
            )


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.stack)])
def server(request: pytest.FixtureRequest) -> Endpoints | None:
    """Give the database server, None for the store in memory."""
    endpoints: Endpoints | None = request.getfixturevalue("servers") if request.param == "postgres" else None
    return endpoints


@pytest.fixture
async def bench(server: Endpoints | None, settings: Settings) -> AsyncIterator[Bench]:
    """Give an empty store of three partitions with an unlimited door."""
    async with _memory() if server is None else _postgres(server.database_url, settings.prefix) as given:
        await given.add(door())
        yield given


@asynccontextmanager
async def _memory() -> AsyncIterator[Bench]:
    yield MemoryBench(MemoryStore(PARTS, damper=DAMPER))


@asynccontextmanager
async def _postgres(database_url: str, name: str) -> AsyncIterator[Bench]:
    async with fresh_database(database_url, name) as url:
        await schema.migrate(url)
        pool = await open_pool(url, size=6)
        try:
            async with pool.acquire() as connection:
                await ensure(connection, cluster_id="c", n_parts=PARTS)
            yield PostgresBench(PostgresStore(pool, owner="tests", damper=DAMPER), pool)
        finally:
            await pool.close()


def workflow(workflow_id: str, *, state: str = "shut", version: int = 1, closed: bool = False) -> Workflow:
    """Return a door."""
    return Workflow(
        workflow_id=workflow_id,
        root_id=workflow_id,
        definition=DOOR,
        definition_version=1,
        state=state,
        version=version,
        sequence=version,
        created_at=written(AT),
        updated_at=written(AT),
        completed_at=written(AT) if closed else None,
        metadata={"colour": "rouge é \N{GRINNING FACE}", "number": 2**63 - 1},
    )


def event_row(changed: Workflow, *, offset: int = 0, command: str | None = None) -> JournalRow:
    """Return the row of a change."""
    return JournalRow(
        kind="event",
        key=changed.root_id,
        workflow_id=changed.workflow_id,
        type="shop.CREATED",
        record_offset=offset,
        sequence=changed.sequence,
        command_id=identified(command or f"{changed.workflow_id}/{changed.version}"),
        digest=b"digest of " + changed.workflow_id.encode(),
        event=b'{"event":1}',
        reply=b'{"reply":1}',
        traceparent="00-1-2-01",
    )


def creation(owned: Ownership, *workflow_ids: str, definition: str = DOOR, records: int = 1) -> Turn:
    """Return a turn that creates doors."""
    created = [workflow(workflow_id)._replace(definition=definition) for workflow_id in workflow_ids]
    return Turn(
        owned.next_offset + records,
        AT,
        created=created,
        rows=[event_row(new, offset=owned.next_offset) for new in created],
        open_deltas={definition: len(created)} if created else {},
    )


def closing(owned: Ownership, *workflow_ids: str, definition: str = DOOR, version: int = 2) -> Turn:
    """Return a turn that bricks doors up."""
    changed = [
        workflow(workflow_id, state="bricked", version=version, closed=True)._replace(definition=definition)
        for workflow_id in workflow_ids
    ]
    return Turn(
        owned.next_offset + 1,
        AT,
        changed=changed,
        rows=[event_row(each, offset=owned.next_offset) for each in changed],
        open_deltas={definition: -len(changed)},
    )


async def applied(bench: Bench, owned: Ownership, turn: Turn) -> Ownership:
    """Apply a turn that meets no conflict."""
    outcome = await bench.store.apply(owned, turn)
    assert isinstance(outcome, Ownership), outcome
    return outcome


async def held(bench: Bench, owned: Ownership, *workflow_ids: str) -> dict[str, Workflow]:
    """Return the doors that a partition holds, of those named."""
    loaded = await bench.store.load(owned, Wanted(workflow_ids, (), ()))
    return dict(loaded.workflows)


async def rows_of(bench: Bench, part: int) -> list[tuple[int, JournalRow]]:
    """Return a partition's whole journal."""
    return await bench.store.outbox(part, 1, 1000)


async def test_a_claim_raises_the_epoch_and_keeps_the_rest(bench: Bench) -> None:
    """Each claim is a new epoch at the same place, also after turns."""
    first = await bench.store.claim(0, 1)
    assert (0, 1, 0, 0, 1, 1, PARTS, None, None) == (
        first.part, first.epoch, first.turn, first.next_offset, first.next_seq, first.published_seq, first.n_parts,
        first.tick_time, first.halted,
    )  # fmt: skip
    after = await applied(bench, replace(first, tick_time=AT), creation(first, "a", records=5))
    again = await bench.store.claim(0, 1)
    assert replace(after, epoch=2) == again
    assert (1, 5, 2) == (again.turn, again.next_offset, again.next_seq)


async def test_partitions_are_apart(bench: Bench) -> None:
    """A claim and a turn of one leave the others as they were, each with an incarnation of its own."""
    owned = [await bench.store.claim(part, 1) for part in range(PARTS)]
    await applied(bench, owned[0], creation(owned[0], "a"))
    assert PARTS == len({each.incarnation for each in owned})
    assert [] == await rows_of(bench, 1)
    assert {} == await held(bench, owned[1], "a")
    assert replace(owned[1], epoch=2) == await bench.store.claim(1, 1)


async def test_a_lower_generation_is_refused_while_the_owner_lives(bench: Bench) -> None:
    """A straggler of an older generation cannot take the partition back, until its owner seems gone."""
    await bench.store.claim(0, 5)
    with pytest.raises(Fenced):
        await bench.store.claim(0, 4)
    await bench.untouched_for_long(0)
    assert 2 == (await bench.store.claim(0, 4)).epoch


@pytest.mark.parametrize(
    "stale",
    [{"epoch": 1}, {"epoch": 3}, {"turn": 0}, {"turn": 2}, {"next_offset": 0}, {"next_offset": 2}],
    ids=lambda stale: "-".join(f"{name}-{value}" for name, value in stale.items()),
)
async def test_whoever_is_stale_is_fenced_and_writes_nothing(bench: Bench, stale: dict[str, Any]) -> None:
    """A wrong epoch, turn or offset writes neither row, nor workflow, nor id, nor counter, nor offset."""
    await bench.add(door(max_open=10, version=2))
    await bench.store.claim(0, 1)
    owned = await bench.store.claim(0, 1)
    owned = await applied(bench, owned, creation(owned, "a"))
    turn = creation(owned, "b")
    turn.changed.append(workflow("a", state="open", version=2))
    with pytest.raises(Fenced):
        await bench.store.apply(replace(owned, **stale), turn)
    assert 1 == len(await rows_of(bench, 0))
    assert {"a": workflow("a")} == await held(bench, owned, "a", "b")
    assert 1 == await bench.open(DOOR)
    assert replace(owned, epoch=3) == await bench.store.claim(0, 1)


async def test_a_halted_partition_takes_no_turn(bench: Bench) -> None:
    """Its owner is fenced, and whoever claims it is told why it is halted."""
    owned = await bench.store.claim(0, 1)
    await bench.store.note_halted(owned, "the log is parted")
    with pytest.raises(Fenced):
        await bench.store.apply(owned, creation(owned, "a"))
    assert "the log is parted" == (await bench.store.claim(0, 1)).halted


async def test_a_turn_is_read_back_as_it_was_written(bench: Bench) -> None:
    """Workflows, journal rows, offset and seq are all there, and the ownership returned says so."""
    owned = await bench.store.claim(0, 1)
    turn = creation(owned, "a", "b", records=3)
    letter = JournalRow(
        kind="dead_letter", key=None, workflow_id=None, type="turnstile.dead_letter", record_offset=2, event=b"{}"
    )
    turn.rows.append(letter)
    after = await applied(bench, owned, turn)
    assert replace(owned, turn=1, next_offset=3, next_seq=4) == after
    assert [(1, turn.rows[0]), (2, turn.rows[1]), (3, letter)] == await rows_of(bench, 0)
    assert {"a": workflow("a"), "b": workflow("b")} == await held(bench, after, "a", "b", "c")


async def test_a_change_replaces_the_workflow(bench: Bench) -> None:
    """A later turn changes what an earlier one created, and counts the difference."""
    await bench.add(door(max_open=10, version=2))
    owned = await bench.store.claim(0, 1)
    owned = await applied(bench, owned, creation(owned, "a", "b"))
    owned = await applied(bench, owned, closing(owned, "a"))
    assert "bricked" == (await held(bench, owned, "a"))["a"].state
    assert 1 == await bench.open(DOOR)
    assert [1, 2, 3] == [seq for seq, _ in await rows_of(bench, 0)]


async def test_a_change_that_goes_back_is_fenced(bench: Bench) -> None:
    """A workflow that the store has at a later version was changed behind its owner."""
    owned = await bench.store.claim(0, 1)
    owned = await applied(bench, owned, creation(owned, "a"))
    turn = Turn(owned.next_offset + 1, AT, changed=[workflow("a", state="open", version=0)])
    with pytest.raises(Fenced):
        await bench.store.apply(owned, turn)
    assert {"a": workflow("a")} == await held(bench, owned, "a")


async def test_a_change_of_a_workflow_that_is_not_there_is_fenced(bench: Bench) -> None:
    """Nothing comes to be by being changed."""
    owned = await bench.store.claim(0, 1)
    with pytest.raises(Fenced):
        await bench.store.apply(owned, closing(owned, "a"))
    assert [] == await rows_of(bench, 0)


@pytest.mark.parametrize("part", [0, 1], ids=["taken by the same partition", "taken by another partition"])
async def test_a_taken_id_comes_back_as_a_fact(bench: Bench, part: int) -> None:
    """Only what is taken is named, with its root; nothing of the turn is written, and it may be decided again."""
    await bench.add(door(max_open=10, version=2))
    first = await bench.store.claim(part, 1)
    await applied(bench, first, creation(first, "a", "c"))
    owned = await bench.store.claim(0, 1)
    outcome = await bench.store.apply(owned, creation(owned, "c", "b", "a", "d"))
    assert Facts(taken={"a": "a", "c": "c"}) == outcome
    assert 2 == await bench.open(DOOR)
    after = await applied(bench, owned, creation(owned, "b", "d"))
    assert {"b", "d"} == (await held(bench, after, "b", "d")).keys()


async def test_a_full_definition_comes_back_as_a_fact(bench: Bench) -> None:
    """The room that is left is named, nothing is written, and what fits may be applied."""
    await bench.add(door(max_open=2, version=2))
    owned = await bench.store.claim(0, 1)
    owned = await applied(bench, owned, creation(owned, "a"))
    assert Facts(room={DOOR: 1}) == await bench.store.apply(owned, creation(owned, "b", "c"))
    assert {} == await held(bench, owned, "b", "c")
    owned = await applied(bench, owned, creation(owned, "b"))
    assert Facts(room={DOOR: 0}) == await bench.store.apply(owned, creation(owned, "c"))
    owned = await applied(bench, owned, closing(owned, "a"))
    await applied(bench, owned, creation(owned, "c"))
    assert 2 == await bench.open(DOOR)


async def test_closing_never_meets_the_limit(bench: Bench) -> None:
    """A limit that was lowered below what is open refuses creations, not ends."""
    owned = await bench.store.claim(0, 1)
    owned = await applied(bench, owned, creation(owned, "a", "b", "c"))
    await bench.add(door(max_open=1, version=2))
    assert 3 == await bench.open(DOOR)
    owned = await applied(bench, owned, closing(owned, "a"))
    assert Facts(room={DOOR: -1}) == await bench.store.apply(owned, creation(owned, "d"))
    assert 2 == await bench.open(DOOR)


async def test_without_a_limit_nothing_is_counted(bench: Bench) -> None:
    """A definition that names none has no counter, whatever its deltas."""
    owned = await bench.store.claim(0, 1)
    await applied(bench, owned, creation(owned, "a"))
    assert None is await bench.open(DOOR)


async def test_under_the_lock_the_room_is_exact(bench: Bench) -> None:
    """The session knows the room of each limited definition asked for, and applies what fits."""
    await bench.add(door(max_open=2, version=2))
    owned = await bench.store.claim(0, 1)
    owned = await applied(bench, owned, creation(owned, "a"))
    async with bench.store.locked(owned, [DOOR, "no.such"], ["b", "a"]) as session:
        assert Facts({"a": "a"}, {DOOR: 1}) == session.facts
        outcome = await session.apply(owned, creation(owned, "b"))
    assert replace(owned, turn=2, next_offset=2, next_seq=3) == outcome
    assert 2 == await bench.open(DOOR)
    assert {"b"} == (await held(bench, owned, "b")).keys()


async def test_under_the_lock_a_taken_id_is_a_fact_too(bench: Bench) -> None:
    """Only the taken id is named, nothing is written, and the partition can go on."""
    await bench.add(door(max_open=9, version=2))
    other = await bench.store.claim(1, 1)
    await applied(bench, other, creation(other, "taken"))
    owned = await bench.store.claim(0, 1)
    async with bench.store.locked(owned, [DOOR]) as session:
        outcome = await session.apply(owned, creation(owned, "new", "taken", "newer"))
    assert Facts(taken={"taken": "taken"}) == outcome
    assert [] == await rows_of(bench, 0)
    assert 1 == await bench.open(DOOR)
    await applied(bench, owned, creation(owned, "new"))


async def test_a_turn_under_the_lock_and_one_without_may_want_one_id(bench: Bench) -> None:
    """One of them has it; the other is told so, or to decide again, and is not given up."""
    await bench.add(door(max_open=20, version=2))
    plain, locked = await bench.store.claim(0, 1), await bench.store.claim(1, 1)
    async with bench.store.locked(locked, [DOOR], ["same"]) as session:
        waiting = asyncio.create_task(bench.store.apply(plain, creation(plain, "same")))
        await asyncio.sleep(0.1)
        outcome = await session.apply(locked, creation(locked, "same"))
    outcomes = [outcome, await waiting]
    assert 1 == sum(isinstance(each, Ownership) for each in outcomes)
    assert all(each.room == {} for each in outcomes if not isinstance(each, Ownership))


async def test_under_the_lock_a_full_definition_is_a_fact_too(bench: Bench) -> None:
    """A turn that does not heed the room it was told is not written."""
    await bench.add(door(max_open=1, version=2))
    owned = await bench.store.claim(0, 1)
    async with bench.store.locked(owned, [DOOR]) as session:
        outcome = await session.apply(owned, creation(owned, "a", "b"))
    assert Facts(room={DOOR: 1}) == outcome
    assert [] == await rows_of(bench, 0)
    assert 0 == await bench.open(DOOR)


async def test_a_lock_is_for_the_owner_alone(bench: Bench) -> None:
    """A stale owner is fenced before it could hold anything."""
    stale = await bench.store.claim(0, 1)
    await bench.store.claim(0, 1)
    with pytest.raises(Fenced):
        async with bench.store.locked(stale, [DOOR]):
            pytest.fail("a stale owner holds the lock")


async def test_the_limit_is_exact_among_partitions_that_apply_at_once(bench: Bench) -> None:
    """Partitions race one by one for the last places: as many creations fit as there is room."""
    room, each = 20, 15
    await bench.add(door(max_open=room, version=2))

    async def fill(part: int) -> int:
        owned = await bench.store.claim(part, 1)
        fitted = 0
        for number in range(each):
            outcome = await bench.store.apply(owned, creation(owned, f"{part}/{number}"))
            if isinstance(outcome, Ownership):
                owned, fitted = outcome, fitted + 1
            else:
                assert Facts(room={DOOR: 0}) == outcome
        return fitted

    fitted = await asyncio.gather(*(fill(part) for part in range(PARTS)))
    assert room == sum(fitted)
    assert room == await bench.open(DOOR)


async def test_one_id_is_created_once_by_partitions_that_apply_at_once(bench: Bench) -> None:
    """Whoever comes second is told the fact, for every id."""
    ids = [f"same {number}" for number in range(20)]

    async def create(part: int) -> list[str]:
        owned = await bench.store.claim(part, 1)
        mine = []
        for workflow_id in ids:
            outcome = await bench.store.apply(owned, creation(owned, workflow_id))
            if isinstance(outcome, Ownership):
                owned = outcome
                mine.append(workflow_id)
            else:
                assert Facts(taken={workflow_id: workflow_id}) == outcome
        return mine

    created = await asyncio.gather(*(create(part) for part in range(PARTS)))
    assert sorted(ids) == sorted(chain.from_iterable(created))


async def test_a_decided_command_is_remembered(bench: Bench) -> None:
    """By root and id, on its own partition, where its row binds the id."""
    owned = await bench.store.claim(0, 1)
    turn = creation(owned, "a")
    unbound = event_row(workflow("x"), command="unbound")._replace(kind="reply", sequence=None, event=None)
    turn.rows.append(unbound._replace(command_id=None, digest=None))
    owned = await applied(bench, owned, turn)
    wanted = Wanted((), [identified("a/1"), identified("unbound"), identified("never sent")], ())
    loaded = await bench.store.load(owned, wanted)
    assert {("a", identified("a/1")): Remembered(b"digest of a", b'{"reply":1}')} == loaded.remembered
    elsewhere = await bench.store.load(await bench.store.claim(1, 1), wanted)
    assert {} == elsewhere.remembered


async def test_one_command_id_may_be_used_in_several_roots(bench: Bench) -> None:
    """The key is root and id: one does not hide the other."""
    owned = await bench.store.claim(0, 1)
    turn = creation(owned, "a", "b")
    turn.rows = [event_row(new, command="shared") for new in turn.created]
    owned = await applied(bench, owned, turn)
    loaded = await bench.store.load(owned, Wanted((), [identified("shared")], ()))
    assert {("a", identified("shared")), ("b", identified("shared"))} == loaded.remembered.keys()


async def test_ids_stored_elsewhere_have_a_place(bench: Bench) -> None:
    """What the partition holds is a workflow, what another holds is a place, what nobody holds is neither."""
    other = await bench.store.claim(1, 1)
    turn = creation(other, "theirs")
    turn.created = [turn.created[0]._replace(root_id="their root")]
    await applied(bench, other, turn)
    owned = await bench.store.claim(0, 1)
    owned = await applied(bench, owned, creation(owned, "ours"))
    loaded = await bench.store.load(owned, Wanted(["ours", "theirs", "nobody's"], (), ()))
    assert ({"ours": workflow("ours")}, {"theirs": Place(1, "their root")}) == (loaded.workflows, loaded.places)


async def test_the_latest_version_of_each_definition_is_loaded(bench: Bench) -> None:
    """By number, not by when it was applied, and nothing for a name that is not there."""
    await bench.add(door(version=3))
    await bench.add(door(version=2))
    owned = await bench.store.claim(0, 1)
    loaded = await bench.store.load(owned, Wanted((), (), [DOOR, "no.such"]))
    assert {DOOR: 3} == loaded.latest
    assert [1, 2, 3] == [
        found.version for version in (1, 2, 3) if (found := await bench.store.definition(DOOR, version)) is not None
    ]
    assert None is await bench.store.definition(DOOR, 4)


@pytest.mark.parametrize("name", ["w", 'a "b" \\ c', "\n\t\x01\x7f\u2028 é \N{GRINNING FACE}"])
async def test_the_last_change_is_found_behind_what_came_of_it(bench: Bench, name: str) -> None:
    """The first event of the workflow's version, whatever its id and whatever events look like inside."""
    owned = await bench.store.claim(0, 1)
    inside = canonical({"version": 3, "workflow_id": name}).decode()
    told = [(1, 1, "made"), (2, 2, inside), (3, 2, "at risk"), (4, 3, "migrated"), (5, 3, inside), (6, 3, "breached")]
    events = [
        {"message": message, "metadata": {"deep": [inside, {"version": 3, "workflow_id": name}]}, "sequence": sequence}
        | {"version": version, "workflow_id": name}
        for sequence, version, message in told
    ]
    turn = creation(owned, name)
    turn.created = [workflow(name, version=3)._replace(sequence=6)]
    row = event_row(turn.created[0])._replace(reply=None, command_id=None)
    turn.rows = [row._replace(sequence=number, event=canonical(event)) for number, event in enumerate(events, start=1)]
    owned = await applied(bench, owned, turn)
    loaded = await bench.store.load(owned, Wanted([name], (), (), [name]))
    assert {name: events[3]} == loaded.last_events


async def test_the_clock_is_aware_and_does_not_go_back(bench: Bench) -> None:
    """Each load brings an instant to decide by."""
    owned = await bench.store.claim(0, 1)
    first = (await bench.store.load(owned, NOTHING)).now
    second = (await bench.store.load(owned, NOTHING)).now
    assert timedelta(0) == first.utcoffset()
    assert first <= second


async def test_the_outbox_gives_rows_in_order_from_a_place_on(bench: Bench) -> None:
    """Gapless over turns, no more than asked for, nothing beyond the end."""
    owned = await bench.store.claim(0, 1)
    for number in range(4):
        owned = await applied(bench, owned, creation(owned, f"a{number}", f"b{number}"))
    expected = [f"{letter}{number}" for number in range(4) for letter in "ab"]
    assert expected == [row.workflow_id for _, row in await rows_of(bench, 0)]
    assert [(3, "a1"), (4, "b1")] == [(seq, row.workflow_id) for seq, row in await bench.store.outbox(0, 3, 2)]
    assert [] == await bench.store.outbox(0, 9, 10)


async def test_of_large_rows_the_outbox_gives_fewer(bench: Bench) -> None:
    """As many bytes as rows of 4 KiB would have, and one row whatever its size."""
    owned = await bench.store.claim(0, 1)
    large = [event_row(workflow("a"), offset=0)._replace(reply=b"." * 900_000)] * 12
    await applied(bench, owned, Turn(1, AT, rows=large))
    asked = ((1, 1000), (7, 1000), (3, 1))
    found = [[seq for seq, _ in await bench.store.outbox(0, seq, limit)] for seq, limit in asked]
    assert [[1, 2, 3, 4, 5], [7, 8, 9, 10, 11], [3]] == found


async def test_what_is_published_is_noted_forwards_by_the_owner_alone(bench: Bench) -> None:
    """A lower note, or one by a former owner, changes nothing; a turn may carry it too."""
    stale = await bench.store.claim(0, 1)
    owned = await bench.store.claim(0, 1)
    owned = await applied(bench, owned, creation(owned, "a", "b", "c"))
    await bench.store.note_published(owned, 3)
    await bench.store.note_published(owned, 2)
    await bench.store.note_published(stale, 4)
    with pytest.raises(Fenced):
        await bench.store.note_halted(stale, "says a former owner")
    again = await bench.store.claim(0, 1)
    assert (3, None) == (again.published_seq, again.halted)
    await applied(bench, replace(again, published_seq=4), creation(again, "d"))
    assert 4 == (await bench.store.claim(0, 1)).published_seq


async def test_the_tick_never_goes_back(bench: Bench) -> None:
    """A turn keeps the newest tick, and a turn without one leaves it."""
    owned = await bench.store.claim(0, 1)
    for tick in (AT, AT - timedelta(hours=1), None):
        owned = await applied(bench, replace(owned, tick_time=tick), creation(owned, f"{tick}"))
    assert AT == (await bench.store.claim(0, 1)).tick_time


def _row_with_nul(turn: Turn) -> None:
    turn.rows[0] = turn.rows[0]._replace(traceparent="a\0b")


def _workflow_with_nul(turn: Turn) -> None:
    turn.created[0] = turn.created[0]._replace(tenant="a\0b")


@pytest.mark.parametrize("spoil", [_row_with_nul, _workflow_with_nul])
async def test_what_it_cannot_hold_is_poison(bench: Bench, spoil: Any) -> None:  # noqa: ANN401 - a function of a turn
    """A NUL in a text is refused as poison, nothing of the turn is written, and the next turn goes through."""
    owned = await bench.store.claim(0, 1)
    turn = creation(owned, "a", "b")
    spoil(turn)
    with pytest.raises(Poison):
        await bench.store.apply(owned, turn)
    assert [] == await rows_of(bench, 0)
    await applied(bench, owned, creation(owned, "a", "b"))


async def test_a_turn_applied_twice_is_applied_once(bench: Bench) -> None:
    """After a lost answer the same turn is fenced, and a new claim finds it done."""
    await bench.add(door(max_open=9, version=2))
    owned = await bench.store.claim(0, 1)
    turn = creation(owned, "a", "b")
    after = await applied(bench, owned, turn)
    before = await rows_of(bench, 0)
    with pytest.raises(Fenced):
        await bench.store.apply(owned, turn)
    again = await bench.store.claim(0, 1)
    assert replace(after, epoch=2) == again
    with pytest.raises(Fenced):
        await bench.store.apply(replace(owned, epoch=again.epoch), turn)
    assert before == await rows_of(bench, 0)
    assert 2 == await bench.open(DOOR)


async def test_two_owners_of_one_partition_apply_once(bench: Bench) -> None:
    """Of two that apply at the same time on one claim, one is fenced."""
    owned = await bench.store.claim(0, 1)
    turns = [creation(owned, "a"), creation(owned, "b")]
    outcomes = await asyncio.gather(*(bench.store.apply(owned, turn) for turn in turns), return_exceptions=True)
    assert ["Fenced", "Ownership"] == sorted(type(outcome).__name__ for outcome in outcomes)
    assert 1 == len(await rows_of(bench, 0))


async def test_what_is_too_much_at_once_is_not_loaded(bench: Bench) -> None:
    """By the bytes of workflows, replies and events; what one command names is loaded whatever it has."""
    owned = await bench.store.claim(0, 1)
    large, names, events = LOADED_BYTES_MAX // 2 * ".", ["a", "b", "c"], ["d", "e", "f"]
    turn = creation(owned, *names, *events)
    turn.created = [new._replace(metadata={"x": large}) for new in turn.created[:3]] + turn.created[3:]
    for place, row in enumerate(turn.rows[3:], start=3):
        event = canonical({"note": large, "version": 1, "workflow_id": row.workflow_id})
        turn.rows[place] = row._replace(event=event, reply=canonical({"note": large}))
    owned = await applied(bench, owned, turn)
    ids = [str(row.command_id) for row in turn.rows]
    much = [(names, (), ()), ((), ids, ()), (names[:1], ids[3:5], ()), (events, (), (), events)]
    for wanted in starmap(Wanted, much):
        with pytest.raises(Overlong):
            await bench.store.load(owned, wanted)
    loaded = await bench.store.load(owned, Wanted(names[:2], ids[3:4], (), events))
    assert (names[:2], [("d", ids[3])], events) == (
        sorted(loaded.workflows),
        list(loaded.remembered),
        sorted(loaded.last_events),
    )
    assert {*events} == (await held(bench, owned, *events)).keys()


def parked(offset: int, workflow_id: str = "w", **fields: Any) -> ParkedRecord:  # noqa: ANN401 - of a parked command
    """Return a parked command's record, with all that a record may hold."""
    entry = Parked(
        offset=offset,
        workflow_id=workflow_id,
        command_id=identified(offset),
        reason=ParkReason.GUARD,
        detail="nobody knows é",
        parked_at=AT,
        attempts=0,
        not_before=AT,
        expires_at=AT + timedelta(days=1),
        size=len(b'\xff\x00{"a":"\\u0000"}[["a header","/g=="],["a header",null]]'),
    )
    return ParkedRecord(
        topic="turnstile.commands",
        partition=0,
        offset=offset,
        timestamp=1_795_253_400_123,
        key=b"\xff\x00",
        value=b'{"a":"\\u0000"}',
        headers=[("a header", b"\xfe"), ("a header", None)],
        parked=entry._replace(**fields),
    )


async def test_what_is_parked_is_read_back_as_it_was_written(bench: Bench) -> None:
    """By offset, with or without the records, for its own partition alone, and by whoever claims it next."""
    owned = await bench.store.claim(0, 1)
    bare = parked(7, "", command_id=None, reason=ParkReason.ERROR, expires_at=None, size=len("[]"))
    bare.key, bare.value, bare.headers = None, None, []
    records = [parked(3), parked(4, "v", reason=ParkReason.BEHIND), bare]
    owned = await applied(bench, owned, Turn(8, AT, parked=records))
    again = await bench.store.claim(0, 1)
    assert (1, 8) == (again.turn, again.next_offset)
    assert [record.parked for record in records] == await bench.store.parked(again)
    assert [records[0], records[2]] == await bench.store.parked_records(again, [7, 3])
    assert [] == await bench.store.parked(await bench.store.claim(1, 1))


async def test_what_is_parked_is_postponed_and_let_go_of_by_turns(bench: Bench) -> None:
    """Such a turn need not move the offset; what it does not name stays as it was."""
    owned = await bench.store.claim(0, 1)
    owned = await applied(bench, owned, Turn(3, AT, parked=[parked(0), parked(1), parked(2)]))
    later = parked(1).parked._replace(
        reason=ParkReason.ERROR, detail="KeyError", attempts=2, not_before=AT + timedelta(minutes=1)
    )
    owned = await applied(bench, owned, Turn(3, AT, postponed=[later], unparked=[parked(0).parked]))
    assert [later, parked(2).parked] == await bench.store.parked(owned)
    early = parked(2).parked._replace(reason=ParkReason.DELAYED, not_before=AT + timedelta(hours=1))
    owned = await applied(bench, owned, Turn(3, AT, postponed=[early]))
    assert [later] == await bench.store.parked(owned)
    assert [early] == [each.parked for each in await bench.store.delayed(owned, AT + timedelta(hours=1), 10)]
    assert (3, 3) == (owned.turn, owned.next_offset)


async def test_a_fenced_turn_leaves_what_is_parked(bench: Bench) -> None:
    """A former owner neither parks, nor postpones, nor lets go of anything."""
    stale = await bench.store.claim(0, 1)
    stale = await applied(bench, stale, Turn(1, AT, parked=[parked(0)]))
    owned = await bench.store.claim(0, 1)
    for turn in (
        Turn(2, AT, parked=[parked(1)]),
        Turn(1, AT, postponed=[parked(0).parked._replace(attempts=9)]),
        Turn(1, AT, unparked=[parked(0).parked]),
    ):
        with pytest.raises(Fenced):
            await bench.store.apply(stale, turn)
    assert [parked(0).parked] == await bench.store.parked(owned)


@pytest.mark.parametrize("kind", ["postponed", "unparked"])
async def test_what_is_not_parked_is_not_let_go_of(bench: Bench, kind: str) -> None:
    """An owner whose memory is not what the store holds is fenced, and nothing of its turn is written."""
    owned = await bench.store.claim(0, 1)
    turn = creation(owned, "a")
    getattr(turn, kind).append(parked(5).parked)
    with pytest.raises(Fenced):
        await bench.store.apply(owned, turn)
    assert [] == await rows_of(bench, 0)


async def test_a_conflict_leaves_what_is_parked(bench: Bench) -> None:
    """A turn that meets a conflict parks nothing and lets go of nothing."""
    await bench.add(door(max_open=1, version=2))
    owned = await bench.store.claim(0, 1)
    owned = await applied(bench, owned, Turn(1, AT, parked=[parked(0)]))
    turn = creation(owned, "a", "b")
    turn.parked, turn.unparked = [parked(1)], [parked(0).parked]
    assert Facts(room={DOOR: 1}) == await bench.store.apply(owned, turn)
    assert [parked(0).parked] == await bench.store.parked(owned)


@pytest.mark.stack
async def test_a_worker_of_the_version_before_is_kept_from_what_it_does_not_know(
    servers: Endpoints, settings: Settings
) -> None:
    """Its functions go on working, but for a partition with parked commands: there they are fenced, and say why."""
    async with _postgres(servers.database_url, settings.prefix) as bench:
        assert isinstance(bench, PostgresBench)
        await bench.add(door(max_open=1, version=2))
        of_before = await as_before(replace(await bench.store.claim(0, 1), epoch=2), creation(_unclaimed(), "a"))
        call = f"select apply_v1({', '.join(f'${number}' for number in range(1, 37))})"
        async with bench.pool.acquire() as connection:
            assert 2 == await connection.fetchval("select epoch from claim_v1(0, 'old', 1, '12 s')")
            assert 1 == await connection.fetchval(call, *of_before)
            with pytest.raises(asyncpg.PostgresError) as full:
                await connection.fetchval(call, *await as_before(_unclaimed(turn=1, next_offset=1), _second()))
            assert ("TS002", '{"room": {"shop.door": 0}, "taken": {}}') == (full.value.sqlstate, full.value.detail)
            owned = await bench.store.claim(0, 1)
            owned = await applied(bench, owned, Turn(2, AT, parked=[parked(1)]))
            stands = await connection.fetchrow("select * from partition where part = 0")
            for query, given in (
                ("select * from claim_v1(0, 'old', 1, '12 s')", []),
                (call, await as_before(owned, creation(owned, "b"))),
            ):
                with pytest.raises(asyncpg.PostgresError, match="partition 0 has parked commands") as fenced:
                    await connection.fetch(query, *given)
                assert "TS001" == fenced.value.sqlstate
            assert stands == await connection.fetchrow("select * from partition where part = 0")
            assert 1 == await connection.fetchval("select epoch from claim_v1(1, 'old', 1, '12 s')")
            await applied(bench, owned, Turn(2, AT, unparked=[parked(1).parked]))
            assert 4 == await connection.fetchval("select epoch from claim_v1(0, 'old', 1, '12 s')")


async def as_before(owned: Ownership, turn: Turn) -> list[Any]:
    """Return what apply_v1 is called with: without when workflows were changed, parked commands, SLAs and timers."""
    later = {16, 17, 24}
    return [each for place, each in enumerate((await arguments(owned, turn))[:39]) if place not in later]


def _unclaimed(turn: int = 0, next_offset: int = 0) -> Ownership:
    return Ownership(0, 2, turn, next_offset, 1 + turn, 1, UUID(int=1), PARTS)


def _second() -> Turn:
    return creation(_unclaimed(turn=1, next_offset=1), "b")


def promised(workflow_id: str, due_at: datetime | None, *, run: int = 1) -> Turn:
    """Return a turn that sets an SLA's record and timer."""
    due = None if due_at is None else written(due_at)
    record = SlaRecord(run, "on_track", written(AT), written(AT), {}, due_at=due, next_at=due)
    return Turn(
        0, AT, slas=[SlaRow(workflow_id, "reply", dump_record(record))], timers=[Timer(workflow_id, "reply", due_at)]
    )


async def test_timers_are_found_when_they_are_due_the_earliest_first(bench: Bench) -> None:
    """At the instant and before it, so many of them, of the partition alone; one without a time is none."""
    owned = await bench.store.claim(0, 1)
    for workflow_id, minutes in (("b", 2), ("a", 1), ("c", 3)):
        owned = await applied(bench, owned, promised(workflow_id, AT + timedelta(minutes=minutes)))
    other = await bench.store.claim(1, 1)
    await applied(bench, other, promised("d", AT))

    async def due(minutes: float, limit: int = 10) -> list[str]:
        until = AT + timedelta(minutes=minutes)
        return [timer.workflow_id for timer in await bench.store.due(owned, until, limit)]

    assert [[], ["a"], ["a", "b"], ["a", "b", "c"], ["a"]] == [
        await due(0.9), await due(1), await due(2), await due(9), await due(9, 1)
    ]  # fmt: skip
    owned = await applied(bench, owned, promised("a", AT + timedelta(minutes=5)))
    owned = await applied(bench, owned, promised("b", None))
    assert [["c"], ["c", "a"]] == [await due(4), await due(5)]


async def test_delayed_commands_are_apart_from_parked_ones(bench: Bench) -> None:
    """They are found by their time, with their records; what a new owner looks at on its claim is without them."""
    owned = await bench.store.claim(0, 1)
    times = {1: 3, 2: 1, 3: 2}
    delayed = [
        replace(
            given, parked=given.parked._replace(reason=ParkReason.DELAYED, not_before=AT + timedelta(minutes=minutes))
        )
        for given, minutes in ((parked(offset), minutes) for offset, minutes in times.items())
    ]
    owned = await applied(bench, owned, Turn(4, AT, parked=[parked(0), *delayed]))
    assert [0] == [each.offset for each in await bench.store.parked(owned)]

    async def due(minutes: float, limit: int = 10) -> list[int]:
        return [each.offset for each in await bench.store.delayed(owned, AT + timedelta(minutes=minutes), limit)]

    assert [[], [2], [2, 3, 1], [2, 3]] == [await due(0.9), await due(1), await due(9), await due(9, 2)]
    assert [delayed[1]] == await bench.store.delayed(owned, AT + timedelta(minutes=1), 10)
    owned = await applied(bench, owned, Turn(4, AT, unparked=[delayed[1].parked]))
    assert [3, 1] == await due(9)


async def test_a_worker_without_slas_is_kept_from_a_partition_that_has_some(
    servers: Endpoints, settings: Settings
) -> None:
    """Neither does it take the partition, nor does it write a turn of one that it has."""
    async with _postgres(servers.database_url, settings.prefix) as bench:
        assert isinstance(bench, PostgresBench)
        owned = await applied(bench, await bench.store.claim(0, 1), promised("a", AT))
        call = f"select apply_v1({', '.join(f'${number}' for number in range(1, 37))})"
        async with bench.pool.acquire() as connection:
            for query, given in (
                ("select * from claim_v1(0, 'old', 1, '12 s')", []),
                ("select * from claim_v2(0, 'old', 1, '12 s')", []),
                (call, await as_before(owned, creation(owned, "b"))),
            ):
                with pytest.raises(asyncpg.PostgresError, match="partition 0 has SLAs") as fenced:
                    await connection.fetch(query, *given)
                assert "TS001" == fenced.value.sqlstate


async def test_a_large_turn_keeps_its_order(bench: Bench) -> None:
    """Five hundred creations and as many refusals come back as they went in."""
    owned = await bench.store.claim(0, 1)
    ids: Sequence[str] = [str(UUID(int=uuid4().int)) for _ in range(500)]
    turn = creation(owned, *ids, records=1000)
    refusals = [
        JournalRow("reply", workflow_id, workflow_id, "turnstile.reply", number, reply=b"{}")
        for number, workflow_id in enumerate(ids)
    ]
    turn.rows = [row for pair in zip(turn.rows, refusals, strict=True) for row in pair]
    after = await applied(bench, owned, turn)
    assert list(enumerate(turn.rows, start=1)) == await rows_of(bench, 0)
    assert set(ids) == (await held(bench, after, *ids)).keys()
