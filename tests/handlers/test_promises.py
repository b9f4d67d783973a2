"""Promises in turns: when a command counts, what a tick sets off and a forged one does not, whom a fault costs."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

from contracts.dead_letters import DeadLetterReason
from contracts.ticks import Tick
from domain.decision import Facts
from domain.evolve import fold
from domain.workflow import dump
from handlers import promises
from handlers.commands import Wakeup
from handlers.faults import Fenced
from handlers.limits import Limits
from handlers.ports import JournalRow, Ownership, Timer, Turn
from handlers.ticks import Clock, ReceivedTick, TicksAhead
from tests.domain.calendar_cases import compiled as calendar
from tests.fakes.guards import HeldGuards
from tests.fakes.machines import DOOR, command, compiled, create, door, move, sent
from tests.fakes.ports import CommandRecord
from tests.fakes.store import START, MemoryStore
from tests.fakes.turns import Turns, events, outcome, replies
from tests.handlers.test_migrations import migrate

MINUTE = timedelta(minutes=1)
HOUR = 60 * MINUTE
GRACE = Clock().grace
PROMISE = {
    "name": "opening",
    "target": "1h",
    "warning": "10m",
    "holds": ["jammed"],
    "stops": ["open"],
    "ladder": [{"after": "0s", "alert": "porter"}, {"after": "30m", "alert": "keeper", "priority": "high"}],
}
FOREVER = 10**15


def doors(*slas: dict[str, Any], guards: HeldGuards | None = None, store: MemoryStore | None = None) -> Turns:
    """Return turns over doors that promise this: to be open within the hour, unless something else is given."""
    turns = Turns(store or MemoryStore(), guards or HeldGuards(), limits=Limits(guard_budget_seconds=0))
    turns.store.add(compiled(door() | {"slas": list(slas or (PROMISE,))}))
    return turns


def at(moment: datetime, body: dict[str, Any]) -> CommandRecord:
    """Return a record that the broker took in at a moment."""
    return sent(body, timestamp=int(moment.timestamp() * 1000))


def tick_at(moment: datetime, end: int = 0) -> ReceivedTick:
    """Return a tick of a moment, and of how many commands there were then."""
    tick = Tick(partition=0, time=moment, commands_end_offset=end, emitter="e")
    return ReceivedTick(CommandRecord(b"{}", topic="turnstile.scheduler"), tick)


async def pass_to(turns: Turns, moment: datetime) -> list[str]:
    """Let it be so late that what was due at a moment is; return what came of it."""
    turns.store.now = moment + GRACE
    tick = tick_at(turns.store.now)
    await turns.take(wakeup=Wakeup(tick))
    rows, more = await turns.fire(tick)
    assert not more
    return types(rows)


def types(rows: list[JournalRow]) -> list[str]:
    """Return what the rows of a turn are: an event's type, or what else it is."""
    return [orjson.loads(row.event or b"")["event_type"] if row.kind == "event" else row.kind for row in rows]


def folded(turns: Turns, workflow_id: str) -> bytes:
    """Return a workflow as its events make it."""
    found = fold(event for event in events(turns.store.journal[0]) if event["workflow_id"] == workflow_id)
    assert found is not None
    return dump(found)


async def test_a_command_in_the_log_before_the_due_instant_keeps_the_promise() -> None:
    """Though it is decided after a tick later than that: what counts is when the broker took it in."""
    turns = doors()
    await turns.take(at(START, create("w")), at(START, create("v")))
    turns.store.now = START + 3 * HOUR
    late = Wakeup(tick_at(turns.store.now, end=4))
    rows = await turns.take(
        at(START + HOUR - MINUTE / 60, move("w", "open")), at(START + HOUR, move("v", "open")), wakeup=late
    )
    of_w = ["TRANSITION", "SLA_AT_RISK", "SLA_MET"]
    of_v = ["TRANSITION", "SLA_AT_RISK", "SLA_BREACHED"]
    assert of_w == [kind for kind, row in zip(types(rows), rows, strict=True) if row.kind == "event"][:3]
    assert of_v == [event["event_type"] for event in events(rows) if event["workflow_id"] == "v"][:3]
    assert ([], False) == await turns.fire(tick_at(turns.store.now, end=4))
    assert {} == turns.store.timers


async def test_a_parked_command_counts_from_its_decision() -> None:
    """It was in the log in time, and its guard answers after the due instant: that is too late."""
    turns = doors(PROMISE | {"stops": ["ajar"]}, guards=HeldGuards("w"))
    await turns.take(at(START, create("w")))
    turns.store.now = START + 30 * MINUTE
    await turns.take(at(turns.store.now, move("w", "pull", context={"strong": True})))
    assert ["SLA_AT_RISK", "alert"] == await pass_to(turns, START + 55 * MINUTE)
    turns.store.now = START + HOUR + MINUTE
    assert isinstance(turns.guards, HeldGuards)
    await turns.guards.let_go()
    assert [] == await turns.take()
    await turns.guards.let_go()
    rows = await turns.take()
    assert ["TRANSITION", "SLA_BREACHED", "ESCALATION_TRIGGERED"] == [row for row in types(rows) if row != "alert"]
    record = turns.store.slas[0, "w", "opening", 1]
    assert ("breached", 60) == (record.status, record.breach_seconds)


async def test_a_guard_that_was_shown_an_sla_as_it_is_no_more_is_asked_anew() -> None:
    """What it said before the breach opens nothing after it: its verdict and its digest are of the workflow then."""
    turns = doors(PROMISE | {"stops": ["ajar"]}, guards=HeldGuards("w"))
    await turns.take(at(START, create("w")))
    turns.store.now = START + 30 * MINUTE
    await turns.take(at(turns.store.now, move("w", "pull", context={"strong": True})))
    assert isinstance(turns.guards, HeldGuards)
    shown = [question for question, _ in turns.guards.pending]
    await pass_to(turns, START + HOUR)
    await turns.guards.let_go()  # it opens
    assert [] == await turns.take()
    assert "shut" == turns.workflow("w").state
    ((question, _),) = turns.guards.pending
    assert [["on_track"], ["breached"]] == [
        [each["status"] for each in asked.inputs.whole()["slas"]] for asked in (*shown, question)
    ]


async def test_what_passed_while_nobody_looked_is_recorded_once_and_the_highest_alerts() -> None:
    """After an outage one tick takes every step in order, tells of the last and asks for each rung's consequence."""
    turns = doors()
    await turns.take(at(START, create("w")))
    climbed = ["SLA_AT_RISK", "SLA_BREACHED", "ESCALATION_TRIGGERED", "ESCALATION_TRIGGERED", "alert", "follow_up"]
    assert climbed == await pass_to(turns, START + 5 * HOUR)
    (alert,) = [orjson.loads(row.event or b"") for row in turns.store.journal[0] if row.kind == "alert"]
    assert (2, "keeper") == (alert["rung"], alert["to"])
    assert [] == await pass_to(turns, START + 6 * HOUR)
    assert {} == turns.store.timers
    assert turns.store.workflows[0, "w"] == folded(turns, "w")


async def test_steps_taken_one_by_one_alert_one_by_one() -> None:
    """Each at its own instant, not a moment before it and its grace are over."""
    turns = doors()
    await turns.take(at(START, create("w")))
    assert [] == await pass_to(turns, START + 50 * MINUTE - MINUTE / 60)
    assert ["SLA_AT_RISK", "alert"] == await pass_to(turns, START + 50 * MINUTE)
    assert ["SLA_BREACHED", "ESCALATION_TRIGGERED", "alert"] == await pass_to(turns, START + HOUR)
    assert ["ESCALATION_TRIGGERED", "alert", "follow_up"] == await pass_to(turns, START + HOUR + 30 * MINUTE)


def test_a_tick_waits_for_the_commands_that_were_there_before_it() -> None:
    """With one of them undecided it is not reached; with all of them it is, until it has fired."""
    ahead = TicksAhead()
    tick = tick_at(START, end=7)
    ahead.add(tick)
    assert [None, None, tick, tick] == [ahead.reached(offset) for offset in (0, 6, 7, 8)]
    ahead.fired()
    assert ahead.reached(9) is None


def test_ticks_are_reached_although_there_are_always_more_commands() -> None:
    """Decisions follow three ticks behind the log for ever: the ticks that are reached follow as well."""
    ahead = TicksAhead()
    reached = []
    for second in range(100):
        ahead.add(tick_at(START + second * MINUTE / 60, end=100 * second))
        tick = ahead.reached(100 * (second - 3))
        if tick is not None:
            reached.append(second - round((tick.tick.time - START).total_seconds()))
            ahead.fired()
    assert len(reached) > 20
    assert max(reached) <= 7


def test_a_tick_that_claims_more_commands_than_there_are_holds_up_no_other() -> None:
    """Whoever may write to the scheduler topic can forge one: the next that is true takes its place."""
    ahead = TicksAhead()
    true = tick_at(START + MINUTE, end=3)
    for tick in (tick_at(START, end=FOREVER), true):
        ahead.add(tick)
    assert true == ahead.reached(3)


async def test_a_forged_tick_from_the_future_is_a_dead_letter_and_fires_nothing() -> None:
    """It moves no time either, and the true tick after it finds everything as it was."""
    turns = doors()
    await turns.take(at(START, create("w")))
    forged = tick_at(START + 2 * HOUR)
    rows = await turns.take(wakeup=Wakeup(forged))
    assert ["dead_letter"] == [row.kind for row in rows]
    assert DeadLetterReason.BAD_TICK == orjson.loads(rows[0].event or b"")["reason"]
    assert ([], False) == await turns.fire(forged)
    assert None is turns.owned[0].tick_time
    assert "on_track" == turns.store.slas[0, "w", "opening", 1].status
    assert ["SLA_AT_RISK", "alert"] == await pass_to(turns, START + 50 * MINUTE)


async def test_a_forged_tick_is_found_behind_a_true_one() -> None:
    """The newest tick wins; those it hides are looked at all the same, and an honest one of them leaves nothing."""
    turns = doors()
    await turns.take(at(START, create("w")))
    hidden = [tick_at(START), tick_at(START + 2 * HOUR)]
    rows = await turns.take(wakeup=Wakeup(tick_at(START + MINUTE / 60), earlier=hidden))
    assert ["dead_letter"] == [row.kind for row in rows]
    assert START + MINUTE / 60 == turns.owned[0].tick_time


@pytest.mark.parametrize("logical", [False, True])
async def test_a_tick_that_cannot_be_believed_takes_no_true_ones_place(*, logical: bool) -> None:
    """The newest that can be believed is the one to fire, and moves time, whatever came after it."""
    turns = doors()
    turns.clock = Clock(logical=logical)
    true, false = tick_at(START + MINUTE / 60), tick_at(START.replace(year=2150))
    heard: list[ReceivedTick] = []
    turns.store.now = true.tick.time
    rows = await turns.take(wakeup=Wakeup(false, earlier=[true], believed=heard.append))
    assert (["dead_letter"], [true]) == ([row.kind for row in rows], heard)
    assert (None if logical else true.tick.time) == turns.owned[0].tick_time


async def test_timers_that_say_something_else_are_put_right() -> None:
    """A timer wakes and never decides: one too early, one of no SLA and one of no workflow change nothing else."""
    turns = doors()
    await turns.take(at(START, create("w")))
    right = dict(turns.store.timers)
    for workflow_id, name in (("w", "opening"), ("w", "another"), ("nobody", "opening")):
        turns.store.timers[0, workflow_id, name] = Timer(workflow_id, name, START)
    before = turns.store.workflows[0, "w"]
    assert [] == await pass_to(turns, START + MINUTE)
    assert right == turns.store.timers
    assert before == turns.store.workflows[0, "w"]


@pytest.mark.parametrize("broken", ["v", "w"])
async def test_a_workflow_on_which_our_code_fails_keeps_no_other_from_breaching(broken: str) -> None:
    """Its timer waits a minute, whichever comes first; when the fault is gone it has lost nothing but time."""
    turns = doors()
    turns.store.add(compiled(door(name="shop.gate") | {"slas": [PROMISE]}))
    for workflow_id in ("v", "w"):
        definition = "shop.gate" if workflow_id == broken else DOOR
        await turns.take(at(START, create(workflow_id, definition=definition)))
    gate = turns.store.definitions.pop("shop.gate")
    await pass_to(turns, START + HOUR)
    breached = [
        event["workflow_id"] for event in events(turns.store.journal[0]) if event["event_type"] == "SLA_BREACHED"
    ]
    assert [each for each in ("v", "w") if each != broken] == breached
    timer = turns.store.timers[0, broken, "opening"]
    assert turns.store.now + promises.POSTPONED == timer.due_at
    turns.store.definitions["shop.gate"] = gate
    climbed = ["SLA_AT_RISK", "SLA_BREACHED", "ESCALATION_TRIGGERED", "alert"]
    assert climbed == await pass_to(turns, START + HOUR + 5 * MINUTE)
    assert turns.store.workflows[0, broken] == folded(turns, broken)


async def test_a_storm_is_taken_in_bounded_turns() -> None:
    """More than a tick takes at once breach a few at a time, so that commands come between; each breaches once."""
    turns = doors(PROMISE | {"ladder": []})
    few, rest = promises.TIMERS_OF_MANY, promises.TIMERS_OF_A_TICK - 30
    await turns.take(*(at(START, create(f"w{each}")) for each in range(2 * few + rest)))
    turns.store.now = START + 2 * HOUR
    tick = tick_at(turns.store.now)
    taken = []
    more = True
    while more:
        rows, more = await turns.fire(tick)
        taken.append(sum(row.kind == "alert" for row in rows))
        await turns.take(at(turns.store.now, create(f"meanwhile{len(taken)}")))
    assert [few, few, rest] == taken
    assert 2 * few + rest == len(breached_once(turns))


async def test_workflows_that_take_the_store_too_long_at_once_are_taken_a_few_at_a_time() -> None:
    """Each breaches once, in as many turns as that needs."""
    turns = doors(PROMISE | {"ladder": []})
    await turns.take(*(at(START, create(f"w{each}")) for each in range(20)))
    turns.store.now = START + 2 * HOUR
    turns.store.loaded_max = 6
    fired = 0
    while (await turns.fire(tick_at(turns.store.now)))[1]:
        fired += 1
    assert (20, 3) == (len(breached_once(turns)), fired)


def breached_once(turns: Turns) -> set[str]:
    """Return the workflows that were breached, none of them twice."""
    found = [each["workflow_id"] for each in events(turns.store.journal[0]) if each["event_type"] == "SLA_BREACHED"]
    assert len(found) == len(set(found))
    return set(found)


async def test_a_tick_that_finds_many_tells_of_each_turn_once_it_is_written() -> None:
    """All that were due are written in turns that follow each other, and whoever publishes hears of each."""
    turns = doors(PROMISE | {"ladder": []})
    await turns.take(*(at(START, create(f"w{each}")) for each in range(promises.TIMERS_OF_A_TICK)))
    told = len(turns.taken)
    turns.store.now = START + 2 * HOUR
    rows, more = await turns.fire(tick_at(turns.store.now))
    assert not more
    assert promises.TIMERS_OF_A_TICK == len(breached_once(turns))
    heard = turns.taken[told:]
    assert len(heard) > 1
    assert rows == [row for each in heard for row in each.turn.rows]
    assert [each.first_seq for each in heard[1:]] == [each.owned.next_seq for each in heard[:-1]]


@dataclass
class Overtaken(MemoryStore):
    """A store of which another owner takes the partition as soon as one more turn is written."""

    next: bool = False

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Write the turn."""
        outcome = await super().apply(owned, turn)
        if self.next:
            self.next = False
            await self.claim(owned.part, 2)
        return outcome


async def test_an_owner_that_is_overtaken_within_a_tick_leaves_the_rest_to_the_next() -> None:
    """What it has decided ahead of the store is not written; the next owner takes it, so each breaches once."""
    store = Overtaken()
    turns = doors(PROMISE | {"ladder": []}, store=store)
    await turns.take(*(at(START, create(f"w{each}")) for each in range(promises.TIMERS_OF_A_TICK)))
    store.now, store.next = START + 2 * HOUR, True
    with pytest.raises(Fenced):
        await turns.fire(tick_at(store.now))
    assert promises.WORKFLOWS_A_TURN == len(breached_once(turns))
    turns.owned[0] = await store.claim(0, 3)
    await turns.fire(tick_at(store.now))
    assert promises.TIMERS_OF_A_TICK == len(breached_once(turns))


def versions(*slas_of_each: list[dict[str, Any]]) -> Turns:
    """Return turns over versions of a door, each with promises of its own."""
    turns = doors()
    for version, slas in enumerate(slas_of_each, start=1):
        turns.store.add(compiled(door(version=version) | {"slas": slas}))
    return turns


async def test_a_version_that_does_not_promise_it_holds_it() -> None:
    """Nothing breaches while it is held; what is left is left when a migration brings the promise back."""
    turns = versions([PROMISE], [])
    await turns.take(at(START, create("w", definition_version=1)))
    away, back = START + 30 * MINUTE, START + 3 * HOUR
    turns.store.now = away
    await turns.take(at(away, migrate("w")))
    assert {} == turns.store.timers
    assert [] == await pass_to(turns, back)
    await turns.take(at(turns.store.now, migrate("w", to_version=1)))
    assert [] == await pass_to(turns, turns.store.now + 19 * MINUTE)
    assert ["SLA_AT_RISK", "alert"] == await pass_to(turns, back + GRACE + 20 * MINUTE)
    assert turns.store.workflows[0, "w"] == folded(turns, "w")


async def test_a_version_that_promises_more_starts_it() -> None:
    """From the migration on, where its state is one that starts it."""
    turns = versions([], [PROMISE])
    await turns.take(at(START, create("w", definition_version=1)))
    assert {} == turns.store.slas
    turns.store.now = START + HOUR
    await turns.take(at(turns.store.now, migrate("w")))
    assert [START + HOUR + 50 * MINUTE] == [timer.due_at for timer in turns.store.timers.values()]


@pytest.mark.parametrize("together", [True, False])
async def test_a_migration_is_undone_after_steps_were_taken(*, together: bool) -> None:
    """Steps of SLAs are no change of the workflow's: the migration is still the last one, in turn and store."""
    turns = versions([PROMISE], [PROMISE])
    await turns.take(at(START, create("w", definition_version=1)))
    turns.store.now = START + MINUTE
    migrated = at(START + (2 * HOUR if together else MINUTE), migrate("w"))
    undone = at(START + 2 * HOUR, migrate("w", undo=True))
    if together:
        turns.store.now = START + 2 * HOUR
        rows = await turns.take(migrated, undone)
    else:
        await turns.take(migrated)
        assert "SLA_BREACHED" in await pass_to(turns, START + HOUR)
        rows = await turns.take(undone)
    assert ["accepted"] * (1 + together) == [outcome(reply) for reply in replies(rows)]
    assert (1, 3) == (turns.workflow("w").definition_version, turns.workflow("w").version)
    assert 1 == types(turns.store.journal[0]).count("SLA_BREACHED")
    assert turns.store.workflows[0, "w"] == folded(turns, "w")


async def test_an_undo_goes_on_under_the_calendar_of_the_run_that_it_gives_back() -> None:
    """Though there is a newer one by then, under which nothing is open."""
    office = {"name": "office", "time_zone": "UTC", "week": {"saturday": "09:00-17:00"}}
    first, second = (calendar(office | {"version": version}) for version in (1, 2))
    promise = PROMISE | {"calendar": "office"}
    turns = versions([promise], [promise])
    turns.store.calendars["office"] = {1: first}
    await turns.take(at(START, create("w", definition_version=1)))
    due = turns.workflow("w").slas
    turns.store.calendars["office"][2] = second
    turns.store.now = START + MINUTE
    await turns.take(at(turns.store.now, migrate("w", states={"shut": "open"})))
    assert {} == turns.store.timers
    assert ["accepted"] == await turns.outcomes(at(turns.store.now, migrate("w", undo=True)))
    standing = turns.workflow("w").slas
    assert due is not None
    assert standing is not None
    assert ("office", 1, due["opening"]["due_at"]) == tuple(
        standing["opening"][field] for field in ("calendar", "calendar_version", "due_at")
    )
    assert turns.store.workflows[0, "w"] == folded(turns, "w")


async def test_steps_disturb_no_expected_version() -> None:
    """Someone who knows the workflow at version 1 may still move it after it has breached."""
    turns = doors()
    await turns.take(at(START, create("w")))
    await pass_to(turns, START + HOUR)
    moved = at(START + 2 * HOUR, move("w", "push", expected_version=1))
    assert ["accepted"] == await turns.outcomes(moved)
    assert (2, 5) == (turns.workflow("w").version, turns.workflow("w").sequence)


@pytest.mark.parametrize("at_once", [1, 2, 7])
async def test_many_commands_of_one_workflow_in_a_turn_leave_what_they_leave_in_many(at_once: int) -> None:
    """Each run has its row as it stands, and each open SLA its timer, however the commands are shared out."""
    bodies = [
        create("w"),
        command("pause_sla", "w", "pause", reason="so"),
        command("resume_sla", "w", "resume", reason="so"),
        command("extend_sla", "w", "extend", sla="opening", seconds=600, reason="so"),
        move("w", "open"),
        move("w", "shut"),
        command("set_priority", "w", "priority", priority="high"),
    ]
    turns = doors()
    turns.store.now = START + HOUR
    records = [at(START + number * MINUTE, body) for number, body in enumerate(bodies)]
    for first in range(0, len(records), at_once):
        await turns.take(*records[first : first + at_once])
    found = {run: (row.status, row.is_open) for (*_, run), row in turns.store.slas.items()}
    assert {1: ("met", False), 2: ("on_track", True)} == found
    assert [START + 55 * MINUTE] == [timer.due_at for timer in turns.store.timers.values()]
    assert turns.store.workflows[0, "w"] == folded(turns, "w")


async def test_two_turns_of_one_tick_take_each_step_once() -> None:
    """A tick that comes again, or to a new owner, finds nothing left to do."""
    turns = doors()
    await turns.take(at(START, create("w")))
    turns.store.now = START + HOUR + GRACE
    tick = tick_at(turns.store.now)
    first, _ = await turns.fire(tick)
    turns.owned[0] = await turns.store.claim(0, 2)
    again, _ = await turns.fire(tick)
    assert (["SLA_AT_RISK", "SLA_BREACHED", "ESCALATION_TRIGGERED", "alert"], []) == (types(first), again)


async def test_logical_time_is_the_ticks_alone() -> None:
    """Where ticks tell the time, one of another year is true, and the database's clock breaks no promise."""
    turns = Turns(store=MemoryStore(now=START + 24 * HOUR), clock=Clock(logical=True))
    turns.store.add(compiled(door() | {"slas": [PROMISE]}))
    await turns.take(at(START + 24 * HOUR, create("w", occurred_at=START.isoformat())))
    assert ([], False) == await turns.fire(tick_at(START + 49 * MINUTE))
    rows, _ = await turns.fire(tick_at(START + 50 * MINUTE))
    assert ["SLA_AT_RISK", "alert"] == types(rows)
