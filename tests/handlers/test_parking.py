"""Guards that do not answer: only their workflow waits, and in the end each command has one outcome, in its order."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from contracts.ticks import Tick
from domain.definition import Definition
from domain.instants import written
from handlers.batch import TURN_BYTES_MAX
from handlers.commands import CommandsHandler, Wakeup
from handlers.faults import Fenced
from handlers.limits import Limits
from handlers.placement import partition_of
from handlers.ports import JournalRow, Parked, ParkedRecord, ParkReason
from handlers.ticks import ReceivedTick
from tests.eventually import assert_eventually
from tests.fakes.guards import HeldGuards
from tests.fakes.machines import DOOR, compiled, create, door, identified, move, sent
from tests.fakes.machines import command as body_of
from tests.fakes.ports import ENGINE, NOBODY_KNOWS, CommandRecord, ScriptedGuards
from tests.fakes.store import START, MemoryStore
from tests.fakes.turns import Turns, events, histories, outcome, replies

AT_ONCE = Limits(guard_budget_seconds=0)
STRONG = {"context": {"strong": True}}
SECOND = timedelta(seconds=1)
IN_PATIENCE = 60.0


def held(*workflow_ids: str, limits: Limits = AT_ONCE, **clauses: Any) -> tuple[Turns, HeldGuards]:  # noqa: ANN401
    """Return turns over doors, where the guards of some workflows answer when they are let go."""
    guards = HeldGuards(*workflow_ids)
    turns = Turns(guards=guards, limits=limits)
    turns.store.add(compiled(door() | clauses))
    return turns, guards


def pull(workflow_id: str, name: object = None, **fields: Any) -> CommandRecord:  # noqa: ANN401 - of a command
    """Return a request for the guarded way, which is open to the strong."""
    return sent(move(workflow_id, "pull", name, **(STRONG | fields)))


def tick(at: datetime) -> Wakeup:
    """Return a tick that brings a time."""
    return Wakeup(ReceivedTick(CommandRecord(b""), Tick(partition=0, time=at, commands_end_offset=0, emitter="e")))


async def ticked(turns: Turns, seconds: float) -> list[JournalRow]:
    """Let time pass and take the turn of its tick."""
    turns.store.now += seconds * SECOND
    return await turns.take(wakeup=tick(turns.store.now))


async def failing(turns: Turns, guards: HeldGuards) -> int:
    """Park a command whose guard then cannot be asked, as where the engine is away; return the next offset."""
    await turns.take(sent(create("z")), sent(move("z", "open")), sent(move("z", "jam")))
    guards.held.add("z")
    await turns.take(sent(move("z", "phone")))
    await guards.let_go("z")
    assert [(3, "PREDICATE_UNAVAILABLE")] == said(await turns.take())
    return turns.owned[0].next_offset


def said(rows: list[JournalRow]) -> list[tuple[int, str]]:
    """Return what each row comes to, with the offset of its record."""
    return [(row.record_offset, outcome(orjson.loads(row.reply))) for row in rows if row.reply is not None]


def parked(turns: Turns) -> list[tuple[int, str]]:
    """Return the offsets of what the store has parked, and why."""
    return [(record.offset, record.parked.reason.value) for _, record in sorted(turns.store.waiting.items())]


async def test_only_the_workflow_whose_guard_hangs_is_parked() -> None:
    """Later commands of it queue behind, whatever they are; the offset moves on, and others have their outcomes."""
    turns, guards = held("w")
    rows = await turns.take(
        sent(create("w")), sent(create("v")), pull("w"), pull("v"), sent(move("w", "open")),
        sent(body_of("update_metadata", "w", "paint", metadata={})), sent(create("u")), sent(move("v", "open")),
    )  # fmt: skip
    assert [(0, "accepted"), (1, "accepted"), (3, "accepted"), (6, "accepted"), (7, "accepted")] == said(rows)
    assert [(2, "guard"), (4, "behind"), (5, "behind")] == parked(turns)
    assert (8, ["w"]) == (turns.owned[0].next_offset, guards.waiting)
    assert "shut" == turns.workflow("w").state
    assert [(8, "accepted")] == said(await turns.take(sent(create("x"))))


async def test_an_answer_lets_them_be_judged_in_their_order() -> None:
    """In one turn without any record: each sees what the one before it left, and nothing stays parked."""
    turns, guards = held("w")
    await turns.take(sent(create("w")), pull("w"), sent(move("w", "open")), sent(move("w", "push")))
    await turns.take(sent(move("w", "shut", expected_version=3)), pull("w"))
    assert [] == await turns.take()
    await guards.let_go()
    rows = await turns.take()
    assert [
        (1, "accepted"), (2, "accepted"), (3, "INVALID_TRANSITION"), (4, "accepted"), (5, "accepted again"),
    ] == said(rows)  # fmt: skip
    assert ["ajar", "open", "shut"] == [event["to_state"] for event in events(rows)]
    assert ([], 6, 1) == (parked(turns), turns.owned[0].next_offset, len(guards.asked))
    assert [(6, "accepted")] == said(await turns.take(sent(move("w", "open", "again"))))


def digest_of(inputs: dict[str, Any]) -> str:
    """Digest a guard's inputs as the contract says a reader can."""
    return sha256(rfc8785.dumps(inputs)).hexdigest()[:32]


async def test_what_a_guard_was_asked_is_kept_with_the_outcome() -> None:
    """The digest of its inputs, how long it took, and when it was asked where that was before the decision."""
    turns, guards = held("w")
    await turns.take(sent(create("w")), sent(create("v")), sent(create("u")))
    before = {name: turns.workflow(name)._asdict() for name in "wvu"}
    opened, refused = await turns.take(pull("v"), pull("u", context={"strong": False}))
    event = orjson.loads(opened.event or b"")
    body = move("v", "pull", **STRONG)
    inputs = {
        "workflow": before["v"], "command": body, "actor": {"name": None, "tenant": None}, "children": [], "slas": [],
        "now": event["timestamp"],
    }  # fmt: skip
    kept = {"outcome": "allow", "engine": ENGINE, "inputs_digest": digest_of(inputs), "latency_us": 0}
    assert kept == event["verdict"]
    inputs |= {"workflow": before["u"], "command": move("u", "pull", context={"strong": False})}
    kept |= {"outcome": "deny", "inputs_digest": digest_of(inputs)}
    assert kept == orjson.loads(refused.reply or b"")["rejection"]["why"]["verdict"]
    await turns.take(pull("w"))
    asked_at = written(turns.store.now)
    turns.seconds += 0.25
    turns.store.now += SECOND
    await guards.let_go()
    await assert_eventually("due", lambda: _due(turns), poll_seconds=0)
    turns.seconds += 9
    (late,) = await turns.take()
    event = orjson.loads(late.event or b"")
    inputs |= {"workflow": before["w"], "command": move("w", "pull", **STRONG), "now": asked_at}
    kept |= {"outcome": "allow", "inputs_digest": digest_of(inputs), "latency_us": 250_000, "asked_at": asked_at}
    assert (kept, written(turns.store.now)) == (event["verdict"], event["timestamp"])


async def test_an_answer_within_the_budget_parks_nothing() -> None:
    """The turn waits for it, meanwhile the others are decided; then come the workflow's own, in order."""
    turns, guards = held("w", "v", limits=Limits(guard_budget_seconds=IN_PATIENCE, guard_turn_seconds_max=IN_PATIENCE))
    await turns.take(sent(create("w")), sent(create("v")))
    taking = asyncio.create_task(
        turns.take(pull("w"), sent(move("w", "open")), pull("v"), sent(create("u")), sent(move("v", "open")))
    )
    await assert_eventually(["v", "w"], lambda: _waiting(guards), poll_seconds=0)
    await guards.let_go("v")
    await guards.let_go("w")
    rows = await taking
    assert [(5, "accepted"), (4, "accepted"), (6, "accepted"), (2, "accepted"), (3, "accepted")] == said(rows)
    assert ([], 2) == (parked(turns), turns.owned[0].turn)


async def test_guards_of_a_turn_share_the_budget() -> None:
    """Those that answer in it are decided, and those that do not are parked when it ends."""
    turns, guards = held("w", "v", limits=Limits(guard_budget_seconds=0.5))
    await turns.take(sent(create("w")), sent(create("v")))
    taking = asyncio.create_task(turns.take(pull("w"), pull("v")))
    await assert_eventually(["v", "w"], lambda: _waiting(guards), poll_seconds=0)
    await guards.let_go("v")
    rows = await taking
    assert ([(3, "accepted")], [(2, "guard")]) == (said(rows), parked(turns))


class NeverParks(MemoryStore):
    """A store that is not asked for what is parked, but at a claim."""

    async def parked_records(self, *_: object) -> list[ParkedRecord]:
        """Fail."""
        raise AssertionError


async def test_what_does_not_wait_costs_nothing() -> None:
    """Where every guard answers at once, nothing is written or asked of the store for parking."""
    turns = Turns(NeverParks())
    turns.store.add(compiled(door()))
    rows = await turns.take(sent(create("w")), pull("w"), sent(move("w", "open")))
    assert [0, 1, 2] == [row.record_offset for row in rows]
    assert [] == await turns.take(wakeup=tick(START))
    assert 1 == turns.owned[0].turn


async def test_a_guard_that_never_answers_is_unavailable() -> None:
    """At its deadline the command is refused, in a way that does not bind its id, and the next one is asked about."""
    turns, guards = held("w", limits=Limits(guard_budget_seconds=0, guard_seconds_max=0.001))
    await turns.take(sent(create("w")), pull("w"), pull("w", "second", reason="again"))
    await assert_eventually("due", lambda: _due(turns), poll_seconds=0.001)
    assert [] == guards.waiting
    (refused,) = replies(await turns.take())
    assert (
        "PREDICATE_UNAVAILABLE",
        True,
        "the guard of pull could not be asked: it did not answer within 0.001 s",
    ) == (
        refused["rejection"]["code"],
        refused["rejection"]["retryable"],
        refused["rejection"]["message"],
    )
    guards.held.clear()
    second: list[tuple[int, str]] = []
    while not second:
        await assert_eventually("due", lambda: _due(turns), poll_seconds=0.001)
        second = said(await turns.take())
    assert [(2, "PREDICATE_UNAVAILABLE")] == second
    assert [(3, "accepted")] == said(await turns.take(pull("w")))


async def _waiting(guards: HeldGuards) -> list[str]:
    return sorted(guards.waiting)


async def _due(turns: Turns) -> str:
    return "due" if turns.parking[0].due else "nothing"


async def test_where_the_definition_waits_it_is_asked_again() -> None:
    """`on_unavailable: wait`: parked without an answer, asked on ticks with more and more time between."""
    turns, guards = held(on_unavailable="wait")
    await turns.take(sent(create("w")), sent(move("w", "open")), sent(move("w", "jam")))
    asked = len(guards.asked)
    assert [] == await turns.take(sent(move("w", "phone")), sent(move("w", "recover")))
    assert [(3, "guard"), (4, "behind")] == parked(turns)
    assert [asked + 1] * 2 == [len(guards.asked), await _asked_after(turns, guards, 0.5)]
    assert asked + 2 == await _asked_after(turns, guards, 0.5)
    assert asked + 2 == await _asked_after(turns, guards, 1.5)
    assert asked + 3 == await _asked_after(turns, guards, 0.5)
    assert 3 == turns.store.waiting[0, 3].parked.attempts
    assert "its guard could not be asked: nobody answers" == turns.store.waiting[0, 3].parked.detail
    turns.store.add(compiled(_known(door() | {"on_unavailable": "wait"})))
    rows = await ticked(turns, 5)
    assert ([(3, "accepted"), (4, "TERMINAL_STATE")], []) == (said(rows + await turns.take()), parked(turns))


async def test_an_answer_that_cannot_tell_is_asked_for_again() -> None:
    """Also where it came while its turn waited for it; a new owner does not ask before its time either."""
    turns, guards = held(
        "w", limits=Limits(guard_budget_seconds=IN_PATIENCE, guard_turn_seconds_max=IN_PATIENCE), on_unavailable="wait"
    )
    await turns.take(sent(create("w")), sent(move("w", "open")))
    guards.held.clear()
    await turns.take(sent(move("w", "jam")))
    guards.held.add("w")
    taking = asyncio.create_task(turns.take(sent(move("w", "phone"))))
    await assert_eventually(["w"], lambda: _waiting(guards), poll_seconds=0)
    await guards.let_go()
    assert ([], [(3, "guard")], []) == (await taking, parked(turns), guards.waiting)
    assert ([], ["w"]) == (await ticked(turns, 1), guards.waiting)
    await guards.let_go()
    assert ([], []) == (await turns.take(), guards.waiting)
    turns.parking.pop(0).close()
    del turns.owned[0]
    assert ([], []) == (await turns.take(), guards.waiting)
    assert ([], []) == (await ticked(turns, 1), guards.waiting)
    assert ([], ["w"]) == (await ticked(turns, 1), guards.waiting)


async def _asked_after(turns: Turns, guards: HeldGuards, seconds: float) -> int:
    assert [] == await ticked(turns, seconds)
    return len(guards.asked)


def _known(document: dict[str, Any]) -> dict[str, Any]:
    """Return the definition as if its engine had come back: somebody knows."""
    for transition in document["transitions"]:
        if transition.get("guard") == NOBODY_KNOWS:
            transition["guard"] = "true"
    return document


async def test_who_waits_for_too_long_is_refused() -> None:
    """After the limit on age the reply says how long it was parked; its successors have their own turn."""
    turns, guards = held("w", limits=replace(AT_ONCE, parked_age_max=10 * SECOND))
    await turns.take(sent(create("w")), pull("w"), sent(move("w", "open")))
    assert [] == await ticked(turns, 9)
    refused, successor = replies(await ticked(turns, 1))
    assert ("PREDICATE_UNAVAILABLE", "it was parked for 10 s and nobody answered: its guard has not answered yet") == (
        refused["rejection"]["code"],
        refused["rejection"]["message"],
    )
    assert {
        "clause": "parked_s < parked_s_max",
        "values": {"parked_at": written(START), "parked_s": 10.0, "parked_s_max": 10.0},
    } == refused["rejection"]["why"]
    assert "accepted" == outcome(successor)
    assert ([], []) == (parked(turns), guards.waiting)
    guards.held.clear()
    assert [(3, "INVALID_TRANSITION")] == said(await turns.take(pull("w")))


async def test_a_parked_command_expires() -> None:
    """On a tick at or after its `expires_at`, its guard unanswered; one behind it when it is its turn."""
    turns, _ = held("w")
    first, second = written(START + 5 * SECOND), written(START + 3 * SECOND)
    await turns.take(sent(create("w")), pull("w", expires_at=first), sent(move("w", "open", expires_at=second)))
    assert [] == await ticked(turns, 4)
    assert [(1, "EXPIRED"), (2, "EXPIRED")] == said(await ticked(turns, 1))
    assert [] == parked(turns)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (replace(AT_ONCE, parked_workflow_max=2), "2 of the workflow, 2 of the partition"),
        (replace(AT_ONCE, parked_partition_max=2), "2 of the workflow, 2 of the partition"),
    ],
)
async def test_beyond_the_limits_it_is_refused(limits: Limits, message: str) -> None:
    """At once where the engine is away, retryable, with the counts; what was parked before stays and is judged."""
    turns, guards = held("w", limits=limits)
    first = await failing(turns, guards)
    await turns.take(sent(create("w")), pull("w"), sent(move("w", "open")))
    turns.store.now += 3 * SECOND
    (refused,) = replies(await turns.take(sent(move("w", "shut"))))
    assert ("PREDICATE_UNAVAILABLE", True) == (refused["rejection"]["code"], refused["rejection"]["retryable"])
    assert refused["rejection"]["message"].endswith(message)
    assert {"parked_since": written(START), "parked_of_workflow": 2, "parked_of_partition": 2} == refused["rejection"][
        "why"
    ]["values"]
    await guards.let_go()
    assert [(first + 1, "accepted"), (first + 2, "accepted")] == said(await turns.take())
    assert [(first + 4, "accepted")] == said(await turns.take(sent(move("w", "shut"))))


@pytest.mark.parametrize("full", [{"parked_workflow_max": 2}, {"parked_partition_max": 2}])
async def test_guards_that_answer_hold_the_partition_back(full: dict[str, Any]) -> None:
    """Nothing is refused for want of room while they do: the turn ends before the first that finds none."""
    turns, guards = held("w", limits=replace(AT_ONCE, guard_budget_seconds=0.01, **full))
    await turns.take(sent(create("w")), pull("w"))
    await guards.let_go()
    moves = [move("w", name, number) for number, name in enumerate(["open", "shut"])]
    records = [
        *map(sent, moves),
        pull("w", "again"),
        sent(move("w", "open", "behind")),
        sent(move("w", "shut", "last")),
    ]
    rows = await turns.take(*records, sent(create("u")))
    assert ([1, 2, 3], 6) == ([offset for offset, _ in said(rows)], turns.owned[0].next_offset)
    assert [(4, "guard"), (5, "behind")] == parked(turns)
    assert ([], 6) == (await turns.take(records[-1], sent(create("u"))), turns.owned[0].next_offset)
    await guards.let_go()
    assert [(each, "accepted") for each in (4, 5, 6, 7)] == said(await turns.take(records[-1], sent(create("u"))))
    assert 1 == turns.workflow("u").version


async def test_guards_that_answer_no_more_hold_nothing_back() -> None:
    """Once the last one asked has not answered in its time, what finds no room is refused and others flow."""
    turns, guards = held("w", limits=Limits(guard_budget_seconds=0.01, guard_seconds_max=0.05, parked_workflow_max=1))
    await turns.take(sent(create("w")), pull("w"))
    await guards.let_go()
    await turns.take(sent(move("w", "open")), sent(move("w", "shut")), pull("w", "late"))
    late = [sent(move("w", "shut", "late")), sent(create("u"))]
    assert [] == await turns.take(*late)
    await assert_eventually("due", lambda: _due(turns), poll_seconds=0.001)
    assert [(4, "PREDICATE_UNAVAILABLE"), (5, "INVALID_TRANSITION"), (6, "accepted")] == said(await turns.take(*late))
    await turns.take(pull("w", "later"))
    assert [(8, "PREDICATE_UNAVAILABLE"), (9, "accepted")] == said(
        await turns.take(sent(move("w", "open", "refused")), sent(create("t")))
    )


async def test_a_full_partition_still_decides_what_need_not_wait() -> None:
    """A command whose guard hangs is refused there, and those after it are judged by themselves."""
    turns, guards = held("w", "v", limits=replace(AT_ONCE, parked_partition_max=1))
    first = await failing(turns, guards)
    await turns.take(sent(create("w")), sent(create("v")), pull("w"))
    rows = await turns.take(pull("v"), sent(move("v", "open")), pull("v", "late"), sent(create("u")))
    assert [(3, "PREDICATE_UNAVAILABLE"), (4, "accepted"), (5, "INVALID_TRANSITION"), (6, "accepted")] == sorted(
        (offset - first, what) for offset, what in said(rows)
    )
    assert ["w"] == guards.waiting


@pytest.mark.parametrize("full", [{"parked_workflow_max": 2}, {"parked_partition_max": 2}])
async def test_a_new_owner_of_a_full_partition_holds_it_back_until_it_knows_better(full: dict[str, Any]) -> None:
    """It has heard no guard yet, and what its predecessor held back is refused to nobody."""
    turns, guards = held("w", limits=replace(AT_ONCE, **full))
    await turns.take(sent(create("w")), pull("w"), sent(move("w", "open")))
    turns.parking.pop(0).close()
    del turns.owned[0]
    late = [sent(move("w", "shut", "late")), sent(create("u"))]
    assert [] == await turns.take(*late)
    await guards.let_go()
    assert [(each, "accepted") for each in range(1, 5)] == said(await turns.take(*late))


async def test_guards_of_others_hold_nothing_back() -> None:
    """A policy that is away fills the room: that others answer makes none, so what finds none is refused."""
    patient = Limits(guard_budget_seconds=IN_PATIENCE, guard_turn_seconds_max=IN_PATIENCE, parked_partition_max=1)
    turns, guards = held(limits=patient, on_unavailable="wait")
    for name in ("w", "v"):
        await turns.take(sent(create(name)), sent(move(name, "open")), sent(move(name, "jam")))
    await turns.take(sent(create("u")), sent(move("w", "phone")))
    guards.every = True
    taking = asyncio.create_task(turns.take(sent(move("v", "phone")), pull("u")))
    await assert_eventually(["u", "v"], lambda: _waiting(guards), poll_seconds=0)
    await guards.let_go()
    assert [(8, "PREDICATE_UNAVAILABLE"), (9, "accepted")] == said(await taking)


async def test_a_new_owner_asks_again() -> None:
    """It finds what is parked and judges it in order; the former owner's answer changes nothing."""
    turns, guards = held("w")
    await turns.take(sent(create("w")), pull("w"), sent(move("w", "open")))
    former = (turns.owned.pop(0), turns.parking.pop(0))
    assert [] == await turns.take()
    assert (["w", "w"], former[0].turn) == (guards.waiting, turns.owned[0].turn)
    await guards.let_go()
    assert [(1, "accepted"), (2, "accepted")] == said(await turns.take())
    before = list(turns.store.journal[0])
    handler = CommandsHandler(turns.store, guards, AT_ONCE)
    assert former[1].due
    await handler.take_turn(former[0], (), Wakeup(), parking=former[1], applied=turns.taken.append)
    with pytest.raises(Fenced):
        await handler.take_turn(
            former[0], [replace(pull("w"), offset=3)], Wakeup(), parking=former[1], applied=turns.taken.append
        )
    assert before == turns.store.journal[0]
    former[1].close()


@pytest.mark.parametrize("claimed", [False, True])
async def test_large_ones_come_back_in_turns_of_bytes(claimed: bool) -> None:  # noqa: FBT001 - by whom they are decided
    """No more at once than a turn takes of new ones, in their order; a new owner knows their sizes too."""
    turns, guards = held("w", "v")
    await turns.take(sent(create("w")), sent(create("v")))
    large = [pull("w", number, context={"a": TURN_BYTES_MAX // 20 * "."}) for number in range(30)]
    for record in (pull("w"), *large, pull("v")):
        await turns.take(record)
    if claimed:
        turns.parking.pop(0).close()
        await turns.take()
    await guards.let_go()
    decided = []
    while turns.parking[0].due:
        decided.append([offset for offset, _ in said(await turns.take())])
    assert [list(range(2, 23)), list(range(23, 34))] == [turn for turn in decided if turn]


async def test_it_is_judged_as_things_are_then() -> None:
    """Limits, versions and repeats count when it is decided, not when it was parked."""
    turns, guards = held("w")
    await turns.take(
        sent(create("w")), pull("w", expected_version=1), pull("w", "other", expected_version=1), pull("w")
    )
    await guards.let_go()
    assert [(1, "accepted"), (2, "VERSION_CONFLICT"), (3, "COMMAND_ID_REUSED")] == said(await turns.take())


async def test_an_answer_is_for_the_state_it_was_asked_about() -> None:
    """A conflict that changes what came before does not ask twice where the state is the same."""
    turns, guards = held("w")
    turns.store.add(compiled(door(max_open=1, version=2)))
    await turns.take(sent(create("w")))
    rows = await turns.take(pull("w"), sent(create("too many")))
    assert [(2, "LIMIT_REACHED")] == said(rows)
    assert (["w"], [(1, "guard")]) == (guards.asked, parked(turns))


async def test_an_answer_about_one_workflow_opens_no_other() -> None:
    """A conflict may leave another creation of the same id: its own guard is asked, and says no."""
    turns, guards = held("w", limits=Limits(guard_budget_seconds=IN_PATIENCE, guard_turn_seconds_max=IN_PATIENCE))
    other = door(name="shop.safe")
    next(way for way in other["transitions"] if way["name"] == "pull")["guard"] = "false"
    turns.store.add(compiled(door(max_open=1, version=2)))
    turns.store.add(compiled(other))
    await turns.take(sent(create("v")))
    taking = asyncio.create_task(
        turns.take(sent(create("w", "one")), sent(create("w", "other", definition="shop.safe")), pull("w"))
    )
    await assert_eventually(["w"], lambda: _waiting(guards), poll_seconds=0)
    await guards.let_go()
    assert [(1, "LIMIT_REACHED"), (2, "accepted")] == said(await taking)
    await guards.let_go()
    assert [(3, "GUARD_DENIED")] == said(await turns.take())
    assert "shut" == turns.workflow("w").state


async def test_an_answer_is_for_what_it_was_shown() -> None:
    """Also where both creations are of one definition: the guard was shown the metadata of the one that was refused."""
    turns, guards = held("w", limits=Limits(guard_budget_seconds=IN_PATIENCE, guard_turn_seconds_max=IN_PATIENCE))
    turns.store.add(compiled(door(max_open=1, version=2)))
    await turns.take(sent(create("v")))
    taking = asyncio.create_task(
        turns.take(
            sent(create("u")), sent(create("w", "one", metadata={"a": 1})), sent(move("v", "brick")),
            sent(create("w", "other", metadata={"a": 2})), pull("w"),
        )
    )  # fmt: skip
    await assert_eventually(["w"], lambda: _waiting(guards), poll_seconds=0)
    await guards.let_go()
    await taking
    ((asked, _),) = guards.pending
    assert (2, turns.workflow("w").metadata) == (len(guards.asked), asked.inputs.workflow.metadata)


async def test_a_command_for_elsewhere_does_not_wait() -> None:
    """What belongs on another partition is forwarded at once, though a workflow of its name is parked here."""
    turns, _ = held("w")
    turns.store = MemoryStore(2)
    turns.store.add(compiled(door()))
    names = [f"w{number}" for number in range(20)]
    name, root = (next(each for each in names if partition_of(each, 2) == part) for part in (0, 1))
    turns.guards = HeldGuards(name)
    await turns.take(sent(create(name)), pull(name))
    (row,) = await turns.take(pull(name, "lost", root_id=root))
    assert ("forward", 2) == (row.kind, row.record_offset)


@dataclass
class BrokenStore(MemoryStore):
    """A store whose definitions make our own code fail while they are `broken`."""

    broken: set[str] = field(default_factory=set)

    async def definition(self, name: str, version: int) -> Definition | None:
        """Return the definition, or fail as a bug would."""
        if name in self.broken:
            raise KeyError(name)
        return await super().definition(name, version)


BAD = "shop.bad"


def broken(limits: Limits = AT_ONCE) -> tuple[Turns, BrokenStore]:
    """Return turns over doors, of which the bad ones make our own code fail."""
    store = BrokenStore(broken={BAD})
    store.add(compiled(door()))
    store.add(compiled(door(name=BAD)))
    return Turns(store, ScriptedGuards(), limits), store


async def test_a_record_that_our_code_fails_on_costs_its_neighbours_nothing() -> None:
    """It is found by halving and parked; later ones of its workflow queue behind it, all others are decided."""
    turns, store = broken()
    rows = await turns.take(
        sent(create("a")), sent(create("b", definition=BAD)), sent(move("b", "open")), CommandRecord(b"{"),
        sent(create("c")), sent(move("a", "open")),
    )  # fmt: skip
    assert [0, 3, 4, 5] == [row.record_offset for row in rows]
    assert ([(1, "internal_error"), (2, "behind")], 6) == (parked(turns), turns.owned[0].next_offset)
    assert [1] == [offset for taken in turns.taken for offset, _ in taken.turn.failures]
    assert "KeyError at test_parking.py" == store.waiting[0, 1].parked.detail.partition(":")[0]
    store.broken.clear()
    assert [] == await ticked(turns, 0.5)
    assert [(1, "accepted"), (2, "accepted")] == said(await ticked(turns, 1) + await turns.take())
    assert [] == parked(turns)


async def test_in_the_end_it_is_a_dead_letter_with_a_reply() -> None:
    """After its attempts, spaced out over ticks; then those behind it go on."""
    turns, store = broken()
    await turns.take(sent(create("b", definition=BAD)), sent(create("b", "second")))
    attempts = 1
    rows: list[JournalRow] = []
    while not rows:
        rows = await ticked(turns, 1)
        attempts = max(attempts, store.waiting[0, 0].parked.attempts) if (0, 0) in store.waiting else attempts
    assert 5 == attempts
    letter, reply = rows
    assert ("dead_letter", "INTERNAL_ERROR", 0) == (
        letter.kind,
        orjson.loads(letter.event or b"")["reason"],
        letter.record_offset,
    )
    answer = orjson.loads(reply.reply or b"")
    assert ("INTERNAL_ERROR", 500, identified("create b"), "b") == (
        answer["rejection"]["code"],
        answer["rejection"]["status"],
        answer["command_id"],
        answer["workflow_id"],
    )
    assert "KeyError" not in answer["rejection"]["message"]
    assert None is reply.command_id
    assert [(1, "accepted")] == said(await turns.take())
    assert ([], DOOR) == (parked(turns), turns.workflow("b").definition)


async def test_too_many_of_them_stop_the_process() -> None:
    """Then it is not the record; the failure comes out as it is, and what is before it stays decided."""
    turns, _ = broken(replace(AT_ONCE, failing_max=2))
    await turns.take(sent(create("b", definition=BAD)), sent(create("c", definition=BAD)))
    with pytest.raises(KeyError, match=BAD):
        await turns.take(sent(create("a")), sent(create("d", definition=BAD)))
    assert [(0, "internal_error"), (1, "internal_error")] == parked(turns)
    assert 3 == turns.store.rows[0].next_offset


async def test_a_failure_without_a_record_stops_the_process() -> None:
    """A tick on which our own code fails has nothing to set aside."""

    class Unloadable(MemoryStore):
        async def load(self, *_: object) -> Any:  # noqa: ANN401 - it returns nothing
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Turns(Unloadable()).take(wakeup=tick(START))


async def test_an_engine_that_raises_is_isolated() -> None:
    """Also when it does so later, while its command is parked: it is counted as a failure of ours, then asked again."""
    turns, guards = held("w")
    await turns.take(sent(create("w")), pull("w"), sent(move("w", "open")))
    await guards.let_go(fault=ValueError("a bug"))
    assert [] == await turns.take()
    assert [(1, "internal_error"), (2, "behind")] == parked(turns)
    guards.held.clear()
    assert [(1, "accepted"), (2, "accepted")] == said(await ticked(turns, 2) + await turns.take())


async def test_a_closed_parking_asks_no_more() -> None:
    """Whoever loses the partition leaves no question behind."""
    turns, guards = held("w")
    await turns.take(sent(create("w")), pull("w"))
    assert (1, ["w"]) == (len(turns.parking[0]), guards.waiting)
    turns.parking[0].close()
    assert [] == guards.waiting


def test_a_parked_entry_is_plain() -> None:
    """What is kept in memory of each is small: no bytes."""
    assert not {"value", "key", "headers"} & set(Parked._fields)
    assert {"guard", "behind", "internal_error", "delayed"} == set(ParkReason)


RING = {
    "name": "shop.ring",
    "version": 1,
    "states": {"a": {"initial": True}, "b": {}},
    "transitions": [
        {"name": "go", "from": ["a", "b"], "to": "b", "guard": "command.context.yes"},
        {"name": "back", "from": "b", "to": "a"},
        {"name": "ring", "from": ["a", "b"], "to": "a", "guard": NOBODY_KNOWS},
    ],
}
NAMES = ("v", "w")
COMMANDS = st.builds(
    lambda name, way, number, yes: move(name, way, (name, way, number, yes), context={"yes": yes}),
    st.sampled_from(NAMES),
    st.sampled_from(["go", "back", "ring"]),
    st.integers(0, 2),
    st.booleans(),
)
STEPS = st.lists(
    st.tuples(st.just("send"), st.lists(COMMANDS, min_size=1, max_size=5))
    | st.tuples(st.just("answer"), st.sampled_from([("v",), ("w",), ()]))
    | st.tuples(st.just("fail"), st.sampled_from(NAMES))
    | st.tuples(st.just("tick"), st.integers(1, 4000))
    | st.tuples(st.just("claim"), st.none()),
    max_size=12,
)


@given(STEPS, st.sampled_from(["reject", "wait"]))
async def test_whatever_answers_when_each_command_has_one_outcome_in_its_order(
    steps: list[tuple[str, Any]], on_unavailable: str
) -> None:
    """Answers, failures of an engine, ticks, new owners and repeats interleave; per workflow the order is the log's."""
    turns = Turns(guards=HeldGuards(every=True), limits=AT_ONCE)
    turns.store.add(compiled(RING | {"on_unavailable": on_unavailable}))
    await turns.take(*(sent(create(name, definition="shop.ring")) for name in NAMES))
    for step, given_ in steps:
        await _step(turns, step, given_)
    for _ in range(40):
        await _step(turns, "answer", ())
        await _step(turns, "tick", 400)
    assert ({}, 0) == (turns.store.waiting, len(turns.parking[0]))
    journal = turns.store.journal[0]
    assert [*range(turns.owned[0].next_offset)] == sorted(row.record_offset for row in journal)
    for name in NAMES:
        offsets = [row.record_offset for row in journal if row.workflow_id == name]
        assert sorted(offsets) == offsets
    for name, folded in histories(journal).items():
        assert folded == turns.workflow(name)
    bound = [(row.key, row.command_id) for row in journal if row.command_id is not None]
    assert len(bound) == len(set(bound))


async def _step(turns: Turns, step: str, given_: Any) -> None:  # noqa: ANN401 - what the step is about
    """Take one step; each leaves its partition a turn."""
    assert isinstance(turns.guards, HeldGuards)
    if step == "tick":
        await ticked(turns, given_)
    elif step == "send":
        await turns.take(*map(sent, given_))
    else:
        if step == "claim":
            turns.parking.pop(0).close()
            del turns.owned[0]
        else:
            names, fault = (given_, None) if step == "answer" else ((given_,), ValueError("a bug"))
            await turns.guards.let_go(*names, fault=fault)
        await turns.take()
