"""Whole turns over the store in memory: what each record of a batch comes to, and what is written of it."""

from base64 import b64decode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import orjson
import pytest

from domain.decision import Facts
from domain.instants import written
from handlers.commands import Wakeup
from handlers.decode import Unreadable
from handlers.faults import Overlong, Poison, Transient
from handlers.limits import Limits
from handlers.placement import partition_of
from handlers.ports import JournalRow, Ownership, Place, Turn
from handlers.ticks import read_tick
from service.predicates.cel import CelEngine
from tests.fakes.machines import DOOR, compiled, create, door, identified, move, sent
from tests.fakes.machines import command as body_of
from tests.fakes.ports import CommandRecord, ScriptedGuards, header
from tests.fakes.store import START, LockedSession, MemoryStore
from tests.fakes.turns import Turns, events, histories, outcome, replies


@pytest.fixture
def turns() -> Turns:
    """Give one partition with an unlimited door."""
    given = Turns()
    given.store.add(compiled(door()))
    return given


def limited(max_open: int, store: MemoryStore | None = None) -> Turns:
    """Return turns on doors of which so many may be open."""
    given = Turns(store or MemoryStore())
    given.store.add(compiled(door(max_open=max_open)))
    return given


def on_part(part: int, parts: int, stem: str = "w") -> str:
    """Return an id that murmur2 places on a partition."""
    return next(f"{stem}{number}" for number in range(1000) if partition_of(f"{stem}{number}", parts) == part)


async def test_commands_of_one_workflow_are_decided_one_after_another(turns: Turns) -> None:
    """In one batch each sees what the one before it left, and the workflow is written once."""
    rows = await turns.take(
        sent(create("w")),
        sent(move("w", "open", expected_version=1)),
        sent(move("w", "push")),
        sent(move("w", "shut", expected_version=1)),
        sent(move("w", "shut", "second shut", expected_version=2)),
        sent(body_of("update_metadata", "w", "paint", metadata={"colour": "blue"})),
        sent(move("w", "brick")),
        sent(move("w", "open", "too late")),
    )
    assert [
        "accepted", "accepted", "INVALID_TRANSITION", "VERSION_CONFLICT", "accepted", "accepted", "accepted",
        "TERMINAL_STATE",
    ] == [outcome(reply) for reply in replies(rows)]  # fmt: skip
    assert [1, 2, 3, 4, 5] == [event["sequence"] for event in events(rows)]
    stored = turns.workflow("w")
    assert ("bricked", 5, {"colour": "blue"}) == (stored.state, stored.version, stored.metadata)
    assert {"w": stored} == histories(rows)
    assert (1, 0, 1) == (
        len(turns.taken[0].turn.created),
        len(turns.taken[0].turn.changed),
        turns.store.rows[0].turn,
    )


async def test_a_reply_says_what_became_of_the_workflow(turns: Turns) -> None:
    """Accepted with its event and both states, refused with code, why and what is allowed."""
    rows = await turns.take(sent(create("w")), sent(move("w", "open")), sent(move("w", "push")))
    created, opened, refused = replies(rows)
    assert {
        "command_id": identified("open w"),
        "workflow_id": "w",
        "root_id": "w",
        "decided_at": written(START),
        "correlation_id": identified("open w"),
        "outcome": "accepted",
        "events": [events(rows)[1]["event_id"]],
        "from_state": "shut",
        "to_state": "open",
        "state": "open",
        "version": 2,
    } == opened
    assert ("shut", 1) == (created["state"], created["version"])
    assert ("open", 2, 400, ["shut", "brick", "jam"]) == (
        refused["state"],
        refused["version"],
        refused["rejection"]["status"],
        [way["transition"] for way in refused["rejection"]["allowed"]],
    )


async def test_each_record_has_one_row_in_its_order(turns: Turns) -> None:
    """Whatever a record comes to, its row stands at its place and names its offset."""
    rows = await turns.take(
        sent(create("w")), CommandRecord(b"{"), sent({**create("v"), "definition": 7}), CommandRecord(None),
        sent(move("nobody", "open")), sent(create("u")),
    )  # fmt: skip
    assert [
        ("event", 0), ("dead_letter", 1), ("reply", 2), ("dead_letter", 3), ("reply", 4), ("event", 5),
    ] == [(row.kind, row.record_offset) for row in rows]  # fmt: skip
    assert 6 == turns.store.rows[0].next_offset


async def test_an_offset_is_the_one_after_the_last_record(turns: Turns) -> None:
    """Gaps in the log are gaps: the next offset is counted from the record, not by records."""
    owned = await turns.store.claim(0, 1)
    turns.owned[0] = replace(owned, next_offset=0)
    await turns.take(sent(create("a")))
    assert 1 == turns.owned[0].next_offset


@pytest.mark.parametrize("batches", [[1000], [1, 999], [7] * 100, [1] * 50])
async def test_one_command_id_any_number_of_times_has_one_outcome(turns: Turns, batches: list[int]) -> None:
    """The first is decided, every other gets its reply marked as a duplicate, in one batch and over many."""
    found = []
    for size in batches:
        found += await turns.replies(*(sent(create("w")) for _ in range(size)))
    first, *others = found
    assert "accepted" == outcome(first)
    assert [first | {"duplicate": True}] * (sum(batches) - 1) == others
    assert [1] == [event["sequence"] for event in events(turns.store.journal[0])]


async def test_a_refusal_is_repeated_too(turns: Turns) -> None:
    """Although what was refused would be accepted by now: a command has one outcome."""
    assert ["NOT_FOUND", "accepted", "NOT_FOUND again"] == [
        *await turns.outcomes(sent(move("w", "open")), sent(create("w"))),
        *await turns.outcomes(sent(move("w", "open"))),
    ]


async def test_a_repeat_takes_part_in_its_own_conversation(turns: Turns) -> None:
    """The stored reply comes back under the repeat's correlation id."""
    await turns.take(header(sent(create("w")), correlation_id="first"))
    (reply,) = await turns.replies(header(sent(create("w")), correlation_id="second"))
    assert ("second", True) == (reply["correlation_id"], reply["duplicate"])


async def test_the_same_id_with_other_content_shows_nothing_of_the_first(turns: Turns) -> None:
    """In the same batch and in a later one; the first outcome stays what it is."""
    secret = {"metadata": {"secret": 42}, "tenant": "acme"}
    reused = [create("w", "same", tenant="other"), create("w", "same", metadata={}), create("w", "same", **secret, x=1)]
    found = await turns.replies(sent(create("w", "same", **secret)), *map(sent, reused))
    found += await turns.replies(*map(sent, reused), sent(create("w", "same", **secret)))
    assert ["accepted", *["COMMAND_ID_REUSED"] * 6, "accepted again"] == [outcome(reply) for reply in found]
    strangers = [reply for reply in found if outcome(reply) == "COMMAND_ID_REUSED"]
    assert [False] * 6 == [b"42" in orjson.dumps(reply) or "events" in reply for reply in strangers]
    assert [None, None, "shut", None, None, "shut"] == [reply.get("state") for reply in strangers]


async def test_an_id_may_be_used_again_in_another_root(turns: Turns) -> None:
    """The key is root and id."""
    assert ["accepted", "accepted"] == await turns.outcomes(sent(create("a", "same")), sent(create("b", "same")))


async def test_too_old_a_command_is_expired(turns: Turns) -> None:
    """By what the producer says, by the broker's time, and by what the command itself allows."""
    old = START - timedelta(days=15)
    assert ["EXPIRED", "EXPIRED", "EXPIRED", "accepted"] == await turns.outcomes(
        sent(create("a", submitted_at=old.isoformat())),
        sent(create("b"), timestamp=int(old.timestamp() * 1000)),
        sent(create("c", expires_at=(START - timedelta(seconds=1)).isoformat())),
        sent(create("d"), timestamp=int(START.timestamp() * 1000)),
    )


async def test_an_expired_command_stays_expired_under_its_id(turns: Turns) -> None:
    """Only a retryable refusal leaves the id free: the same id with a later expiry is another command."""
    expired = create("w", expires_at=(START - timedelta(seconds=1)).isoformat())
    later = create("w", expires_at=(START + timedelta(days=1)).isoformat())
    assert ["EXPIRED", "EXPIRED again", "COMMAND_ID_REUSED"] == await turns.outcomes(
        sent(expired), sent(expired), sent(later)
    )


async def test_a_repeat_after_the_window_is_expired(turns: Turns) -> None:
    """A reread record cannot run again, nor does it show what it once came to."""
    record = sent(create("w"), timestamp=int(START.timestamp() * 1000))
    await turns.take(record)
    turns.store.now = START + timedelta(days=15)
    assert ["EXPIRED"] == await turns.outcomes(record)


async def test_a_retryable_refusal_leaves_the_id_free(turns: Turns) -> None:
    """A guard that could not be asked is asked again, in the same batch and later."""
    await turns.take(*(sent(each) for each in (create("w"), move("w", "open"), move("w", "jam"))))
    phone = move("w", "phone")
    assert ["PREDICATE_UNAVAILABLE"] * 3 == await turns.outcomes(sent(phone), sent(phone), sent(phone))
    (row,) = await turns.take(sent(phone))
    assert (None, None, True) == (row.command_id, row.digest, replies([row])[0]["rejection"]["retryable"])
    assert ["GUARD_DENIED", "GUARD_DENIED again"] == await turns.outcomes(*[sent(move("w", "knock"))] * 2)


async def test_a_guard_is_asked_once_for_each_guarded_command(turns: Turns) -> None:
    """Neither repeats nor refusals that come before the guard ask it."""
    await turns.take(sent(create("w")))
    guards = turns.guards
    assert isinstance(guards, ScriptedGuards)
    await turns.take(
        sent(move("w", "pull")), sent(move("w", "pull")), sent(move("w", "pull", "stale", expected_version=9)),
        sent(move("w", "jam")), sent(move("w", "pull", "strong", context={"strong": True})),
    )  # fmt: skip
    assert (2, "ajar") == (guards.asked, turns.workflow("w").state)


@pytest.mark.parametrize("hops", [0, 1])
async def test_a_command_off_its_partition_is_forwarded(hops: int) -> None:
    """With its bytes, headers, first time and origin; it has no reply and binds no id."""
    turns = Turns(MemoryStore(3))
    workflow_id = on_part(2, 3)
    record = sent(create(workflow_id), timestamp=1_795_253_400_000)
    header(record, traceparent="t", other="x", turnstile_hops=str(hops), turnstile_broker_time="1795253000000")
    (row,) = await turns.take(record)
    document = orjson.loads(row.event or b"")
    headers = [(name, b64decode(value or "").decode()) for name, value in document["headers"]]
    assert ("forward", 2, workflow_id, record.value, None, None) == (
        row.kind,
        document["part"],
        document["key"],
        b64decode(document["value"]),
        row.reply,
        row.command_id,
    )
    assert [
        ("traceparent", "t"),
        ("other", "x"),
        ("turnstile_hops", str(hops + 1)),
        ("turnstile_broker_time", "1795253000000"),
        ("turnstile_origin", "0/0"),
    ] == headers


async def test_a_forwarded_command_keeps_its_own_conversation() -> None:
    """However much its producer wrote into headers before: what goes beyond the limit is something else."""
    turns = Turns(MemoryStore(3))
    turns.store.add(compiled(door()))
    workflow_id = on_part(2, 3)
    record = header(sent(create(workflow_id)), small="s", blob="x" * 70_000, correlation_id="talk-7", traceparent="00")
    (row,) = await turns.take(record)
    headers = [(name, b64decode(value)) for name, value in orjson.loads(row.event or b"")["headers"]]
    assert {"small", "correlation_id", "traceparent"} == {name for name, _ in headers if "turnstile" not in name}
    (reply,) = await turns.replies(CommandRecord(record.value, headers=headers), part=2)
    assert ("accepted", "talk-7") == (outcome(reply), reply["correlation_id"])


async def test_too_many_hops_are_a_dead_letter_and_an_answer() -> None:
    """Workers that disagree about the partitions do not send a command round for ever; it may be sent again later."""
    turns = Turns(MemoryStore(3))
    letter, answer = await turns.take(header(sent(create(on_part(2, 3))), turnstile_hops="2"))
    assert ("dead_letter", "TOO_MANY_HOPS") == (letter.kind, orjson.loads(letter.event or b"")["reason"])
    (reply,) = replies([answer])
    assert ("INTERNAL_ERROR", None) == (outcome(reply), answer.command_id)
    assert "forwarded 2 times and still not on partition 2" in reply["rejection"]["message"]


async def test_a_stored_place_wins_over_the_hash() -> None:
    """After the topic grew, a tree stays where it is: from anywhere its commands are sent there, and there decided."""
    turns = Turns(MemoryStore(3))
    turns.store.add(compiled(door()))
    workflow_id = on_part(2, 3)
    turns.owned[0] = replace(await turns.store.claim(0, 1), n_parts=1)
    assert ["accepted"] == await turns.outcomes(sent(create(workflow_id)))
    turns.owned[0] = replace(turns.owned[0], n_parts=3)
    for part in (1, 2):
        (row,) = await turns.take(sent(move(workflow_id, "open")), part=part)
        assert ("forward", 0) == (row.kind, orjson.loads(row.event or b"")["part"])
    assert ["accepted", "ALREADY_EXISTS"] == await turns.outcomes(
        sent(move(workflow_id, "open")), sent(create(workflow_id, "again"))
    )


async def test_a_workflow_in_a_tree_is_where_its_root_is() -> None:
    """With the root named it is decided there, from wherever it came; without, the workflow itself is the root."""
    turns = Turns(MemoryStore(3))
    turns.store.add(compiled(door()))
    root, child = on_part(0, 3, "root"), on_part(1, 3, "child")
    assert ["accepted", "accepted"] == await turns.outcomes(sent(create(root)), sent(create(child, root_id=root)))
    assert Place(0, root) == turns.store.places[child]
    (row,) = await turns.take(sent(move(child, "open", root_id=root)), part=1)
    assert ("forward", root, 0) == (row.kind, row.key, orjson.loads(row.event or b"")["part"])
    (reply,) = await turns.replies(sent(move(child, "open", root_id=root)))
    assert ("accepted", root) == (outcome(reply), reply["root_id"])
    assert ["NOT_FOUND"] == await turns.outcomes(sent(move(child, "shut")), part=1)


async def test_a_workflow_in_a_tree_is_reached_where_it_is_stored() -> None:
    """Its root may be created after it, and elsewhere where partitions were added between."""
    turns = Turns(MemoryStore(4))
    turns.store.add(compiled(door()))
    root = next(each for each in map(str, range(99)) if (partition_of(each, 2), partition_of(each, 4)) == (1, 3))
    turns.owned[1] = replace(await turns.store.claim(1, 1), n_parts=2)
    birth = sent(create("child", root_id=root))
    assert ["accepted"] == await turns.outcomes(birth, part=1)
    turns.owned[1] = replace(turns.owned[1], n_parts=4)
    assert ["accepted"] == await turns.outcomes(sent(create(root)), part=3)
    moved, again = await turns.replies(sent(move("child", "open", root_id=root)), birth, part=1)
    assert ("accepted", "accepted again") == (outcome(moved), outcome(again))
    (row,) = await turns.take(sent(move("child", "shut", root_id=root)), part=3)
    assert ("forward", 1) == (row.kind, orjson.loads(row.event or b"")["part"])


async def test_a_refusal_is_repeated_although_the_workflow_came_to_be_in_a_tree(turns: Turns) -> None:
    """The key is what the command says: it does not change with what the store knows by then."""
    early = body_of("update_metadata", "child", "early", metadata={})
    assert ["NOT_FOUND", "accepted", "accepted", "NOT_FOUND again"] == await turns.outcomes(
        sent(early), sent(create("root")), sent(create("child", root_id="root")), sent(early)
    )


async def test_a_wrong_root_is_decided_on_that_roots_partition() -> None:
    """Also where the workflow itself happens to be on the partition it came to: an id has its outcome in one place."""
    turns = Turns(MemoryStore(3))
    turns.store.add(compiled(door()))
    workflow_id, elsewhere = on_part(0, 3), on_part(1, 3, "root")
    stray = move(workflow_id, "open", root_id=elsewhere)
    await turns.take(sent(create(workflow_id)))
    (row,) = await turns.take(sent(stray))
    assert ("forward", 1) == (row.kind, orjson.loads(row.event or b"")["part"])
    assert ["NOT_FOUND", "NOT_FOUND again"] == await turns.outcomes(sent(stray), sent(stray), part=1)


async def test_a_wrong_root_on_the_same_partition_is_not_found(turns: Turns) -> None:
    """A workflow is in one tree only."""
    (_, reply) = await turns.replies(sent(create("w")), sent(move("w", "open", root_id="other")))
    assert ("NOT_FOUND", "other", None) == (outcome(reply), reply["root_id"], reply.get("state"))


@dataclass
class Counting(MemoryStore):
    """A store that counts what is asked of it, and lets a test act just before an apply."""

    applies: int = 0
    locks: int = 0
    before: Any = None
    before_lock: Any = None

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Act, then apply."""
        self.applies += 1
        if self.before is not None:
            act, self.before = self.before, None
            await act()
        return await super().apply(owned, turn)

    @asynccontextmanager
    async def locked(
        self, owned: Ownership, counters: Sequence[str], workflow_ids: Sequence[str] = ()
    ) -> AsyncIterator[LockedSession]:
        """Count and act, then lock."""
        self.locks += 1
        if self.before_lock is not None:
            await self.before_lock()
        async with super().locked(owned, counters, workflow_ids) as session:
            yield session


async def test_a_full_definition_is_decided_again_under_the_lock() -> None:
    """What fits is accepted in order, what does not is refused with why, all in one turn."""
    store = Counting()
    turns = limited(2, store)
    found = await turns.replies(
        sent(create("a")), sent(create("b")), sent(create("c")), sent(move("c", "open")), sent(move("a", "brick")),
        sent(create("d")), sent(create("e")),
    )  # fmt: skip
    assert ["accepted", "accepted", "LIMIT_REACHED", "NOT_FOUND", "accepted", "accepted", "LIMIT_REACHED"] == [
        outcome(reply) for reply in found
    ]
    assert f"as many workflows of {DOOR} are open as its newest version allows" == found[2]["rejection"]["message"]
    assert {"clause": "open < max_open of the newest version", "values": {}} == found[2]["rejection"]["why"]
    assert (2, 1, 1, 1) == (store.counts[DOOR].open, store.applies, store.locks, store.rows[0].turn)


async def test_room_is_made_by_closing() -> None:
    """A batch that closes before it creates meets no limit, and takes no lock."""
    store = Counting()
    turns = limited(1, store)
    await turns.take(sent(create("a")))
    assert ["accepted", "accepted"] == await turns.outcomes(sent(move("a", "brick")), sent(create("b")))
    assert (1, 0) == (store.counts[DOOR].open, store.locks)


async def test_a_limit_counts_over_partitions() -> None:
    """Counters are the store's: another partition's workflows take room too."""
    store = MemoryStore(2)
    turns = limited(3, store)
    ids = [[name for name in map(str, range(40)) if partition_of(name, 2) == part][:3] for part in range(2)]
    assert ["accepted"] * 2 == await turns.outcomes(*(sent(create(each)) for each in ids[0][:2]), part=0)
    assert ["accepted", "LIMIT_REACHED", "LIMIT_REACHED"] == await turns.outcomes(
        *(sent(create(each)) for each in ids[1]), part=1
    )


async def test_an_id_taken_meanwhile_is_decided_again() -> None:
    """The creation is refused, what built on it is too, and their neighbours are as they would have been."""
    store = Counting(2)
    turns = Turns(store)
    store.add(compiled(door()))
    taken = on_part(0, 2)
    other = Turns(store)

    async def take_it_elsewhere() -> None:
        other.owned[1] = replace(await store.claim(1, 1), n_parts=2)
        root = on_part(1, 2, "root")
        await other.take(sent(create(root)), sent(create(taken, "theirs", root_id=root)), part=1)

    store.before = take_it_elsewhere
    neighbours = [name for name in map(str, range(40)) if partition_of(name, 2) == 0][:2]
    assert ["accepted", "ALREADY_EXISTS", "NOT_FOUND", "accepted"] == await turns.outcomes(
        sent(create(neighbours[0])), sent(create(taken)), sent(move(taken, "open")), sent(create(neighbours[1]))
    )
    assert 1 == store.places[taken].part
    assert ["ALREADY_EXISTS again"] == await turns.outcomes(sent(create(taken)))


async def test_an_id_taken_meanwhile_and_no_room_are_met_in_one_turn() -> None:
    """Both conflicts come back, one after the other; the limit is exact and the id is unique."""
    store = Counting(2)
    turns = limited(2, store)
    mine = [name for name in map(str, range(40)) if partition_of(name, 2) == 0][:4]
    other = Turns(store)

    async def take_it_elsewhere() -> None:
        root = on_part(1, 2, "root")
        await other.take(sent(create(mine[0], "theirs", root_id=root)), part=1)

    store.before = take_it_elsewhere
    assert ["ALREADY_EXISTS", "accepted", "LIMIT_REACHED", "LIMIT_REACHED"] == await turns.outcomes(
        *(sent(create(each)) for each in mine)
    )
    assert 2 == store.counts[DOOR].open


async def test_who_filled_up_a_definition_may_have_taken_an_id() -> None:
    """What is found under the lock is told in the order of the checks: the id comes before the limit."""
    store = Counting(2)
    turns = limited(1, store)
    mine = [name for name in map(str, range(40)) if partition_of(name, 2) == 0][:2]
    other = Turns(store)

    async def take_it_elsewhere() -> None:
        await other.take(sent(create(mine[0], "theirs", root_id=on_part(1, 2, "root"))), part=1)

    store.before_lock = take_it_elsewhere
    assert ["ALREADY_EXISTS", "LIMIT_REACHED"] == await turns.outcomes(*(sent(create(each)) for each in mine))
    assert (1, 1) == (store.counts[DOOR].open, store.locks)


@dataclass
class Squeamish(MemoryStore):
    """A store that cannot hold some words, as PostgreSQL cannot hold a NUL."""

    words: tuple[bytes, ...] = (b"yuck",)
    refused: list[int] = field(default_factory=list)
    anywhere: bool = False

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Refuse a turn whose events or workflows hold such a word."""
        events = [
            b"".join((row.event or b"", (row.workflow_id or "").encode() if self.anywhere else b""))
            for row in turn.rows
            if row.kind == "event" or (self.anywhere and row.kind == "reply")
        ]
        if any(word in event for event in events for word in self.words):
            self.refused.append(len(turn.rows))
            raise Poison("22P05: unsupported")
        return await super().apply(owned, turn)


@pytest.mark.parametrize("bad", [{0}, {9}, {4}, {0, 9}, {3, 4, 5}, set(range(10))])
async def test_poison_is_isolated_and_its_neighbours_are_decided(bad: set[int]) -> None:
    """Each record that the store cannot hold is answered, every other one is decided, in order."""
    store = Squeamish()
    turns = Turns(store)
    store.add(compiled(door()))
    records = [sent(create(f"w{n}", metadata={"x": "yuck" if n in bad else "fine"})) for n in range(10)]
    rows = await turns.take(*records)
    expected = ["INVALID_COMMAND" if number in bad else "accepted" for number in range(10)]
    assert expected == [outcome(reply) for reply in replies(rows)]
    assert [*range(10)] == [row.record_offset for row in rows]
    assert 10 == store.rows[0].next_offset
    assert [(taken.first_seq, len(taken.turn.rows)) for taken in turns.taken] == [
        (taken.first_seq, taken.owned.next_seq - taken.first_seq) for taken in turns.taken
    ]
    assert rows == [row for taken in turns.taken for row in taken.turn.rows]
    assert len(store.refused) <= 8 * len(bad)


async def test_a_poison_record_binds_no_id() -> None:
    """Once its sender has mended it, it may be sent under the same id."""
    store = Squeamish()
    turns = Turns(store)
    store.add(compiled(door()))
    assert ["INVALID_COMMAND", "accepted"] == [
        *await turns.outcomes(sent(create("w", metadata={"x": "yuck"}))),
        *await turns.outcomes(sent(create("w", metadata={"x": "fine"}))),
    ]


async def test_a_record_whose_answer_cannot_be_held_becomes_a_dead_letter() -> None:
    """The last resort is the base64 of its bytes; the partition goes on."""
    store = Squeamish()
    turns = Turns(store)
    store.add(compiled(door()))
    store.anywhere = True
    rows = await turns.take(sent(create("yuck")), sent(create("w")))
    assert ["dead_letter", "event"] == [row.kind for row in rows]
    assert 2 == store.rows[0].next_offset


async def test_metadata_does_not_grow_without_end(turns: Turns) -> None:
    """Patches that are small each would make a workflow that no row should hold."""
    turns.limits = Limits(message_bytes_max=2000)
    patches = [sent(body_of("update_metadata", "w", f"p{n}", metadata={f"k{n}": "y" * 500})) for n in range(4)]
    found = await turns.replies(sent(create("w")), *patches)
    assert [*["accepted"] * 4, "INVALID_COMMAND"] == [outcome(reply) for reply in found]


async def test_a_command_whose_event_is_too_large_is_refused(turns: Turns) -> None:
    """No topic would take it; the workflow stays as it was, and a neighbour goes through."""
    turns.limits = Limits(message_bytes_max=2000)
    big = body_of("update_metadata", "w", "big", metadata={"x": "y" * 3000})
    found = await turns.replies(sent(create("w")), sent(big), sent(move("w", "open")), sent(big))
    assert ["accepted", "INVALID_COMMAND", "accepted", "INVALID_COMMAND again"] == [outcome(reply) for reply in found]
    assert 2 == turns.workflow("w").version


async def test_a_refusal_too_large_is_cut(turns: Turns) -> None:
    """What a guard saw, and a long list of ways, do not keep a reply from its topic."""
    wide = {
        "name": "shop.wide",
        "version": 1,
        "states": {"a": {"initial": True}, "b": {}},
        "transitions": [{"name": f"way {number} {'x' * 100}", "from": "a", "to": "b"} for number in range(50)],
    }
    turns.store.add(compiled(wide))
    turns.limits = Limits(message_bytes_max=4000)
    await turns.take(sent(create("w", definition="shop.wide")))
    (row,) = await turns.take(sent(move("w", "no such way")))
    assert ("INVALID_TRANSITION", None) == (
        outcome(replies([row])[0]),
        replies([row])[0]["rejection"].get("allowed"),
    )
    assert len(row.reply or b"") <= 4000


async def test_another_tenants_workflow_shows_nothing(turns: Turns) -> None:
    """Not its state, not its version, not its ways."""
    await turns.take(sent(create("w", tenant="acme", metadata={"secret": 42})))
    found = await turns.replies(
        sent(move("w", "open", tenant="other")), sent(move("w", "push")), sent(create("w", "mine", tenant="other"))
    )
    assert ["NOT_FOUND", "NOT_FOUND", "ALREADY_EXISTS"] == [outcome(reply) for reply in found]
    assert [(None, None, None)] * 3 == [
        (reply.get("state"), reply.get("version"), reply["rejection"].get("allowed")) for reply in found
    ]


def tick(seconds: float, *, partition: int = 0) -> CommandRecord:
    """Return a tick so many seconds ahead of the database."""
    body = {
        "partition": partition, "time": (START + timedelta(seconds=seconds)).isoformat(), "commands_end_offset": 0,
        "emitter": "e",
    }  # fmt: skip
    return CommandRecord(orjson.dumps(body), topic="turnstile.scheduler")


def woken(*seconds: float) -> Wakeup:
    """Return a wake-up by the last of some ticks."""
    received = read_tick(tick(seconds[-1]))
    assert not isinstance(received, Unreadable)
    return Wakeup(received)


async def test_a_tick_alone_writes_nothing(turns: Turns) -> None:
    """It moves the partition's time in memory, and no turn is taken."""
    assert [] == await turns.take(wakeup=woken(3))
    assert ([], 0, None) == (turns.taken, turns.store.rows[0].turn, turns.store.rows[0].tick_time)
    assert START + timedelta(seconds=3) == turns.owned[0].tick_time


@pytest.mark.parametrize(("ticks", "expected"), [([3], 3), ([-3], 0), ([3, 1], 3), ([1, 3], 3), ([5], 5)])
async def test_now_is_the_later_of_clock_and_tick(turns: Turns, ticks: list[float], expected: float) -> None:
    """And it never goes back; the tick is kept with the next turn."""
    for seconds in ticks:
        await turns.take(wakeup=woken(seconds))
    (event,) = events(await turns.take(sent(create("w"))))
    assert written(START + timedelta(seconds=expected)) == event["timestamp"]
    assert START + timedelta(seconds=max(ticks)) == turns.store.rows[0].tick_time


async def test_a_tick_far_ahead_is_a_dead_letter(turns: Turns) -> None:
    """It moves no time, and a batch beside it is decided by the clock."""
    rows = await turns.take(sent(create("w")), wakeup=woken(5.1))
    assert ["dead_letter", "event"] == [row.kind for row in rows]
    assert ("BAD_TICK", written(START)) == (orjson.loads(rows[0].event or b"")["reason"], events(rows)[0]["timestamp"])
    assert None is turns.store.rows[0].tick_time


@pytest.mark.parametrize(
    "value",
    [None, b"", b"{", b"[]", b'{"partition":0}', tick(0, partition=3).value, b"[" * 100_000, b"\xff",
     b'{"partition":0,"time":"0001-01-01T00:00:00+01:00","commands_end_offset":0,"emitter":"e"}',
     b'{"partition":%s,"time":"2026-11-21T09:30:00Z","commands_end_offset":0,"emitter":"e"}' % (b"9" * 4000)],
)  # fmt: skip
async def test_a_bad_tick_is_a_dead_letter_of_its_own(turns: Turns, value: bytes | None) -> None:
    """What nobody can read, or what came on another partition, does not wake and is not lost."""
    received = read_tick(CommandRecord(value, topic="turnstile.scheduler"))
    assert isinstance(received, Unreadable)
    (row,) = await turns.take(wakeup=Wakeup(None, [received]))
    letter = orjson.loads(row.event or b"")
    assert ("BAD_TICK", "turnstile.scheduler", 0) == (letter["reason"], letter["topic"], turns.owned[0].next_offset)
    assert 1 == turns.store.rows[0].turn


@dataclass
class Broken(MemoryStore):
    """A store that is away."""

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Fail."""
        raise Transient(f"{owned.part} {turn.next_offset}")


async def test_a_fault_leaves_everything_as_it_was() -> None:
    """Nothing is heard of as applied that was not."""
    turns = Turns(Broken())
    turns.store.add(compiled(door()))
    with pytest.raises(Transient):
        await turns.take(sent(create("w")))
    assert ([], {}) == (turns.taken, turns.store.workflows)


async def test_what_takes_the_store_too_long_at_once_is_taken_in_halves() -> None:
    """Each command has its outcome, in order; where one alone takes too long, it is for whoever claims again."""
    turns = Turns(MemoryStore(loaded_max=2))
    turns.store.add(compiled(door()))
    assert 7 * ["accepted"] == await turns.outcomes(*(sent(create(f"w{index}")) for index in range(7)))
    turns.store.loaded_max = 0
    with pytest.raises(Overlong):
        await turns.take(sent(create("one more")))


@pytest.mark.parametrize("version", [None, 1, 2])
async def test_a_workflow_stays_on_its_version(turns: Turns, version: int | None) -> None:
    """The latest is taken unless one is named; a later version changes no workflow that is there."""
    turns.store.add(compiled(door(version=2) | {"transitions": [{"name": "peek", "from": "shut", "to": "ajar"}]}))
    fields = {} if version is None else {"definition_version": version}
    await turns.take(sent(create("w", **fields)))
    expected = ["INVALID_TRANSITION", "accepted"] if version == 1 else ["accepted", "INVALID_TRANSITION"]
    assert expected == await turns.outcomes(sent(move("w", "peek")), sent(move("w", "open")))


@pytest.mark.parametrize("fields", [{"definition": "no.such"}, {"definition_version": 9}])
async def test_an_unknown_definition_is_refused(turns: Turns, fields: dict[str, Any]) -> None:
    """By name and by version."""
    assert ["UNKNOWN_DEFINITION"] == await turns.outcomes(sent(create("w", **fields)))


@pytest.mark.parametrize("number", [1.0, 4e15, 2.0**60, 0.5, -0.0, 9007199254740993.5])
@pytest.mark.parametrize("field", ["metadata.x", "input.x", "estimated_seconds"])
async def test_a_guard_sees_the_same_number_before_and_after_it_was_stored(field: str, number: float) -> None:
    """JSON has one kind of number, CEL has two: what a guard says must not depend on where a batch ended."""
    machine = {
        "name": "shop.n",
        "version": 1,
        "states": {"a": {"initial": True}, "b": {}},
        "transitions": [{"name": "go", "from": "a", "to": "b", "guard": f"type(workflow.{field}) == int"}],
    }
    name, _, inner = field.partition(".")
    body = create("w", definition="shop.n", **{name: {inner: number} if inner else abs(number)})
    found = []
    for sizes in ((2,), (1, 1)):
        turns = Turns(guards=CelEngine())
        turns.store.add(compiled(machine))
        waiting = [sent(body), sent(move("w", "go"))]
        found.append([word for size in sizes for word in await turns.outcomes(*[waiting.pop(0) for _ in range(size)])])
    expected = ["accepted", "accepted" if number != 0.5 else "GUARD_DENIED"]
    assert [expected, expected] == found


async def test_rows_bind_ids_exactly_where_they_should(turns: Turns) -> None:
    """An accepted or finally refused command's row carries id and digest; repeats, invalid ones and letters do not."""
    rows: list[JournalRow] = await turns.take(
        sent(create("w")), sent(create("w")), sent(create("w", "other")), sent({**create("v"), "definition": 7}),
        CommandRecord(b"{"),
    )  # fmt: skip
    assert [identified("create w"), None, identified("other"), None, None] == [row.command_id for row in rows]
    assert [True, False, True, False, False] == [row.digest is not None for row in rows]
