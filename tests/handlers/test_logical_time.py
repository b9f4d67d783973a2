"""Logical time: only reached ticks and the commands' own times move it, and nothing runs ahead of what is decided."""

from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from contracts.ticks import Tick
from domain.instants import written
from domain.zone import UNTIL
from handlers.commands import Wakeup
from handlers.limits import Limits
from handlers.ports import JournalRow, ParkReason
from handlers.ticks import Clock, ReceivedTick
from tests.fakes.guards import HeldGuards
from tests.fakes.machines import DOOR, compiled, create, door, move, sent
from tests.fakes.ports import CommandRecord
from tests.fakes.store import START
from tests.fakes.turns import Turns, events, outcome, replies
from tests.handlers.test_parking import BrokenStore

OPENING = {"name": "opening", "target": "1h", "warning": "0s", "stops": ["open"], "ladder": [{"transition": "brick"}]}
LONG_AGO = START - timedelta(days=1000)


@pytest.fixture
def turns() -> Turns:
    """Give turns in logical time over a door that has to be open within an hour."""
    given = Turns(clock=Clock(logical=True))
    given.store.add(compiled(door() | {"slas": [OPENING]}))
    return given


def tick(at: datetime, end: int = 0) -> ReceivedTick:
    """Return a tick that says it is a time, made when the commands ended there."""
    body = Tick(partition=0, time=at, commands_end_offset=end, emitter="a test")
    return ReceivedTick(CommandRecord(body.model_dump_json().encode()), body)


def after(hours: float) -> datetime:
    """Return a time so many hours after the beginning."""
    return LONG_AGO + timedelta(hours=hours)


def happened(body: dict[str, Any], hours: float) -> CommandRecord:
    """Return a command that happened so many hours after the beginning."""
    return sent(body | {"occurred_at": written(after(hours))})


def told(turns: Turns, workflow_id: str = "w") -> tuple[str, str | None, float | None]:
    """Return what the store says of a workflow's promise: its status, when it was breached and by how much."""
    row = turns.store.slas[(0, workflow_id, "opening", 1)]
    return row.status, row.breached_at, row.breach_seconds


async def test_a_command_counts_from_its_own_time_beside_a_later_tick(turns: Turns) -> None:
    """A tick that is taken with commands from before it does not make them late."""
    await turns.take(happened(create("w"), 0), happened(move("w", "open"), 0.5), wakeup=Wakeup(tick(after(5), end=2)))
    assert ("met", None, None) == told(turns)
    assert [written(after(0)), written(after(0.5))] == [
        event["timestamp"] for event in events(turns.store.journal[0]) if event["event_type"] != "SLA_MET"
    ]


async def test_a_command_of_a_later_turn_is_not_late_by_a_tick_that_waits_for_it(turns: Turns) -> None:
    """The tick was there before the command's turn came, and still it counts from its own time."""
    await turns.take(happened(create("w"), 0), wakeup=Wakeup(tick(after(5), end=2)))
    await turns.take(happened(move("w", "open"), 0.5))
    assert ("met", None, None) == told(turns)


async def test_a_reached_tick_breaks_what_is_due_and_moves_time(turns: Turns) -> None:
    """The breach is told at the tick's time, as of its own; a command without a time of its own is at the tick's."""
    await turns.take(happened(create("w"), 0))
    rows, _ = await turns.fire(tick(after(3), end=1))
    assert ["SLA_AT_RISK", "SLA_BREACHED", "ESCALATION_TRIGGERED"] == [each["event_type"] for each in events(rows)]
    assert {written(after(3))} == {each["timestamp"] for each in events(rows)}
    assert ("breached", written(after(1)), None) == told(turns)
    (asked,) = [row for row in rows if row.kind not in {"event", "alert"}]
    assert written(after(3)) == body_asked(asked)["occurred_at"]
    (moved,) = events(await turns.take(sent(move("w", "open"))))
    assert written(after(3)) == moved["timestamp"]
    assert ("breached", written(after(1)), 2 * 3600) == told(turns)


async def test_logical_time_never_goes_back(turns: Turns) -> None:
    """An import that starts over brings the same ticks again."""
    await turns.take(happened(create("w"), 0))
    await turns.fire(tick(after(3)))
    assert ([], False) == await turns.fire(tick(after(2)))
    (moved,) = events(await turns.take(happened(move("w", "open"), 2.5)))
    assert written(after(3)) == moved["timestamp"]


async def test_a_new_owner_goes_on_at_the_time_of_what_was_decided(turns: Turns) -> None:
    """A tick at which nothing was due is forgotten, what is due later is not."""
    await turns.take(happened(create("w"), 0))
    await turns.fire(tick(after(0.5)))
    turns.owned.clear()
    turns.parking.clear()
    await turns.take(happened(create("v"), 0.75))
    assert None is turns.store.rows[0].tick_time
    assert 3 == sum(each["workflow_id"] == "w" for each in events((await turns.fire(tick(after(1))))[0]))
    assert after(1) == turns.store.rows[0].tick_time
    assert ("on_track", None, None) == told(turns, "v")


async def test_what_is_parked_is_looked_at_when_logical_time_has_come(turns: Turns) -> None:
    """A tick that still waits for commands wakes nothing that is parked."""
    turns.store.add(compiled(replaced_guard()))
    await turns.take(happened(create("w"), 0), happened(move("w", "open"), 0.1), happened(move("w", "jam"), 0.2))
    ahead = after(9)
    await turns.take(happened(move("w", "phone") | {"expires_at": written(after(5))}, 0.3))
    assert 1 == len(turns.store.waiting)
    assert [] == await turns.take(wakeup=Wakeup(tick(ahead, end=99)))
    await turns.fire(tick(ahead))
    assert turns.parking[0].due
    (reply,) = await turns.take()
    assert b"EXPIRED" in (reply.reply or b"")


async def test_our_own_failure_is_tried_again_in_logical_time() -> None:
    """Also before the first tick: then it is the command's own time, whatever the database's clock says."""
    store = BrokenStore()
    turns = Turns(store, clock=Clock(logical=True))
    turns.store.add(compiled(door()))
    await turns.take(happened(create("w"), 0))
    store.broken.add(DOOR)
    await turns.take(happened(move("w", "open"), 0.5))
    store.broken.clear()
    await turns.fire(tick(after(0.5)))
    assert [] == await turns.take(happened(move("w", "shut"), 0.6))
    await turns.fire(tick(after(1)))
    rows = [*await turns.take(), *await turns.take()]
    assert ["accepted", "accepted"] == [outcome(reply) for reply in replies(rows)]
    assert {written(after(1))} == {event["timestamp"] for event in events(rows)}


@pytest.mark.parametrize("on_unavailable", ["reject", "wait"])
async def test_a_command_of_the_end_of_time_stops_nothing(on_unavailable: str) -> None:
    """Its guard does not answer, or cannot be asked: it is parked, ticks and new owners go on, and so do others."""
    guards = HeldGuards()
    turns = Turns(guards=guards, limits=Limits(guard_budget_seconds=0), clock=Clock(logical=True))
    turns.store.add(compiled(door() | {"on_unavailable": on_unavailable}))
    await turns.take(happened(create("w"), 0), happened(move("w", "open"), 0), happened(move("w", "jam"), 0))
    if on_unavailable == "reject":
        guards.held.add("w")
    await turns.take(sent(move("w", "phone") | {"occurred_at": "9999-12-31T23:59:59Z"}))
    assert [(ParkReason.GUARD, UNTIL)] == [
        (each.parked.reason, each.parked.parked_at) for each in turns.store.waiting.values()
    ]
    assert ([], False) == await turns.fire(tick(after(1)))
    turns.parking.pop(0).close()
    del turns.owned[0]
    (record,) = turns.store.waiting.values()
    record.parked = record.parked._replace(parked_at=datetime.max.replace(tzinfo=UTC))  # as an earlier build wrote it
    assert ([], False) == await turns.fire(tick(after(1)))
    assert ["accepted"] == await turns.outcomes(happened(create("v"), 1))


async def test_what_is_parked_counts_from_its_own_time() -> None:
    """Not from that of whatever was decided after it in the same turn: so it is refused when it has waited its hour."""
    guards = HeldGuards("w")
    turns = Turns(guards=guards, limits=Limits(guard_budget_seconds=0), clock=Clock(logical=True))
    turns.store.add(compiled(door()))
    await turns.take(happened(create("w"), 0), happened(create("v"), 0))
    await turns.take(happened(move("w", "pull"), 1), happened(move("v", "open"), 9))
    await turns.fire(tick(after(1.9)))
    assert [] == await turns.take()
    await turns.fire(tick(after(2)))
    (reply,) = replies(await turns.take())
    assert ("PREDICATE_UNAVAILABLE", written(after(2))) == (outcome(reply), reply["decided_at"])


async def test_what_is_no_command_is_answered_at_the_time_of_the_partition(turns: Turns) -> None:
    """Nobody's own time is its."""
    await turns.fire(tick(after(3)))
    _, refused = await turns.replies(happened(create("w"), 9), sent(create("v") | {"definition": 7}))
    assert ("INVALID_COMMAND", written(after(3))) == (outcome(refused), refused["decided_at"])


def body_asked(row: JournalRow) -> dict[str, Any]:
    """Return the command that a follow-up's row will send."""
    body: dict[str, Any] = orjson.loads(b64decode(orjson.loads(row.event or b"")["value"]))
    return body


def replaced_guard() -> dict[str, Any]:
    """Return a door, version 2, whose `phone` waits until its guard can be asked."""
    return door(version=2) | {"on_unavailable": "wait"}


async def test_a_command_of_the_far_future_is_not_too_old(turns: Turns) -> None:
    """How long ids are remembered goes by the database's clock, whatever time is simulated."""
    await turns.take(happened(create("w"), 0))
    turns.owned[0] = replace(turns.owned[0], tick_time=START + timedelta(days=300))
    assert ["accepted"] == await turns.outcomes(sent(move("w", "open")))


async def test_a_promise_that_is_made_again_in_the_same_turn_keeps_its_first_end(turns: Turns) -> None:
    """Each run has its row, though the workflow itself knows of the last one alone."""
    await turns.take(
        happened(create("w"), 0),
        happened(move("w", "open"), 2),
        happened(move("w", "shut"), 3),
        happened(move("w", "open", "again"), 3.5),
        happened(move("w", "shut", "again shut"), 4),
    )
    rows = {run: row.status for (_, _, _, run), row in turns.store.slas.items()}
    assert {1: "breached", 2: "met", 3: "on_track"} == rows
    assert 3600 == turns.store.slas[(0, "w", "opening", 1)].breach_seconds
