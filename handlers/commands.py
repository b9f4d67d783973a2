"""A turn: records of one partition in, one set of rows out. Read everything, decide purely, write once.

Commands of one workflow are decided one after another on the row as it evolves in memory. Conflicts that
only the store can see come back as facts, and the turn is decided again with them. A record on which our own code
fails is found by halving and set aside.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from contracts.dead_letters import DeadLetterReason
from domain.decision import Facts
from domain.instants import written
from handlers.breath import Breath, loop_time
from handlers.decode import Readable, Received, Unreadable, decode
from handlers.faults import Fault, Overlong, Poison
from handlers.isolation import isolated, occurred_at
from handlers.judgement import Given, Judgement
from handlers.limits import Limits
from handlers.parking import Parking
from handlers.ports import Guards, Ownership, ParkedRecord, Record, Store, Turn, Wanted
from handlers.promises import fire
from handlers.ticks import Clock, ReceivedTick
from handlers.written import answer_unbound, dead_letter


def _nothing(*_: object) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Wakeup:
    """The newest tick of a partition, those that could not be read, and those before it: any of them may be forged.

    `believed` hears of the newest that can be believed.
    """

    tick: ReceivedTick | None = None
    unreadable: Sequence[Unreadable] = ()
    earlier: Sequence[ReceivedTick] = ()
    believed: Callable[[ReceivedTick], None] = _nothing


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a turn: the ownership after it, and the rows it left, in order."""

    owned: Ownership
    turn: Turn
    first_seq: int


class Full(NamedTuple):
    """Why a turn cannot be taken: the record at `offset`, and those after it, have to wait for room to be parked.

    `left_seconds` is how long the turn without them may still wait for its guards.
    """

    offset: int
    left_seconds: float


@dataclass(frozen=True, slots=True)
class CommandsHandler:
    """Takes turns; holds nothing between them. `timer`, in seconds, tells how long guards take, and work."""

    store: Store
    guards: Guards
    limits: Limits = field(default_factory=Limits)
    clock: Clock = field(default_factory=Clock)
    timer: Callable[[], float] = loop_time

    async def open(
        self, owned: Ownership, *, wake: Callable[[], None] = _nothing, timed_out: Callable[[], None] = _nothing
    ) -> Parking:
        """Return what a partition has parked, for its new owner; `wake` is called when there is some to look at."""
        return Parking(
            await self.store.parked(owned),
            age_max=self.limits.parked_age_max,
            guard_seconds_max=self.limits.guard_seconds_max,
            wake=wake,
            timed_out=timed_out,
            clock=self.timer,
        )

    async def take_turn(
        self,
        owned: Ownership,
        records: Sequence[Record],
        wakeup: Wakeup,
        *,
        parking: Parking,
        applied: Callable[[Taken], None],
    ) -> Ownership:
        """Decide and apply records that follow each other in one partition, after those parked that are due.

        `applied` hears of each commit. A record the store cannot hold is found by halving and is answered, or becomes
        a dead letter; one on which our own code fails is parked; what takes the store too long is taken in halves.
        A tick that finds nothing to do writes nothing. Records from the returned offset on are not taken: there is no
        room to park them while guards answer.
        """
        if wakeup.tick is not None and not self.clock.logical:
            parking.look(wakeup.tick.tick.time)
        if due := parking.take():
            records = [*await self.store.parked_records(owned, due), *records]
        return await self._take(owned, records, wakeup, parking, applied)

    async def fire(
        self, owned: Ownership, tick: ReceivedTick, *, parking: Parking, applied: Callable[[Taken], None]
    ) -> tuple[Ownership, bool]:
        """Take the steps that time has made due at a tick; say whether there may be more.

        The tick is one whose commands are all decided: only then does logical time move. One at which nothing is due
        leaves that time in memory alone, and a new owner starts at that of the last turn: nothing was decided since.
        `applied` hears of each commit.
        """
        if self.clock.logical:
            owned = _at(owned, tick.tick.time)
            parking.look(tick.tick.time)
        return await fire(
            self.store,
            self.clock,
            owned,
            tick,
            applied=lambda before, after, turn: applied(Taken(after, turn, before.next_seq)),
        )

    async def pass_over(self, owned: Ownership, next_offset: int) -> Ownership:
        """Note that nothing undecided is before an offset, though what is last there is no command.

        The end of a producer's transaction has an offset too: retention may take it, and then the log starts behind it.
        """
        if next_offset <= owned.next_offset:
            return owned
        loaded = await self.store.load(owned, Wanted((), (), ()))
        return (await self._alone(owned, Turn(next_offset, loaded.now))).owned

    async def _take(
        self,
        owned: Ownership,
        records: Sequence[Record],
        wakeup: Wakeup,
        parking: Parking,
        applied: Callable[[Taken], None],
    ) -> Ownership:
        outcome = await self._attempt(owned, records, wakeup, parking)
        if isinstance(outcome, Taken):
            return _kept(owned, outcome, parking, applied)
        if not records:
            raise outcome
        if len(records) > 1:
            half = len(records) // 2
            owned = await self._take(owned, records[:half], wakeup, parking, applied)
            if not_taken(owned, records[:half]):
                return owned
            return await self._take(owned, records[half:], Wakeup(), parking, applied)
        if isinstance(outcome, Poison):
            aside = await self._set_aside(owned, records[0], str(outcome)[:1000])
        else:
            aside = await self._isolate(owned, records[0], outcome, parking)
        owned = _kept(owned, aside, parking, applied)
        return await self._take(owned, (), wakeup, parking, applied)

    async def _attempt(
        self, owned: Ownership, records: Sequence[Record], wakeup: Wakeup, parking: Parking
    ) -> Taken | Exception:
        """Take one turn, or return what is wrong with one of its records: poison, or a failure of our own code.

        Several together may be too many for the time that the store gives a statement.
        """
        limits, together = self.limits, len(records) > 1
        try:
            while True:
                outcome = await self._one_turn(owned, records, wakeup, parking, limits)
                if isinstance(outcome, Taken):
                    return outcome
                limits = replace(limits, guard_turn_seconds_max=outcome.left_seconds)
                records = [record for record in records if record.offset < outcome.offset]
                if not records:
                    await parking.answered(min(limits.guard_budget_seconds, outcome.left_seconds))
        except Poison as poison:
            return poison
        except Overlong as overlong:
            if not together:
                raise
            return overlong.with_traceback(None)  # else all that was read would be kept until the last half is taken
        except Fault:
            raise
        except Exception as failure:  # noqa: BLE001 - whatever it is, it must not cost its neighbours their outcome
            return failure

    async def _one_turn(
        self, owned: Ownership, records: Sequence[Record], wakeup: Wakeup, parking: Parking, limits: Limits
    ) -> Taken | Full:
        breath = Breath(self.timer)
        batch: list[Received] = []
        for record in records:
            batch.append(decode(record, command_bytes_max=self.limits.command_bytes_max))
            await breath.taken()
        loaded = await self.store.load(owned, _wanted(batch))
        next_offset = _after(owned, records)
        owned, bad_ticks = _awake(owned, wakeup, loaded.now, self.clock)
        batch = [*bad_ticks, *batch]
        if not batch:
            return Taken(owned, Turn(next_offset, loaded.now), owned.next_seq)
        given = Given(owned, loaded, next_offset, self.clock)
        facts = Facts()
        for _ in range(len(batch) + 2):  # each conflict over an id names one more, and there are no more than records
            turn = await self._judge(batch, given, facts, parking, limits)
            if isinstance(turn, Full):
                return turn
            if next_offset == owned.next_offset and not (turn.rows or turn.postponed or turn.unparked):
                return Taken(owned, turn, owned.next_seq)
            limits = replace(limits, guard_turn_seconds_max=0.0)  # what they took was waited for
            outcome = await self.store.apply(owned, turn)
            if isinstance(outcome, Facts) and outcome.room:
                created = [workflow.workflow_id for workflow in turn.created]
                async with self.store.locked(owned, sorted(turn.open_deltas), created) as session:
                    locked = _merged(facts, session.facts)
                    turn = await self._judge(batch, given, locked, parking, limits)
                    if isinstance(turn, Full):
                        return turn
                    outcome = await session.apply(owned, turn)
            if isinstance(outcome, Ownership):
                return Taken(outcome, turn, owned.next_seq)
            facts = _merged(facts, outcome)
        raise Fault(f"partition {owned.part}: conflicts do not end: {facts}")

    async def _set_aside(self, owned: Ownership, record: Record, problem: str) -> Taken:
        """Answer a record the store cannot hold; it becomes a dead letter where even the answer cannot be held."""
        loaded = await self.store.load(owned, Wanted((), (), ()))
        received = decode(record, command_bytes_max=self.limits.command_bytes_max)
        rows = [dead_letter(record, DeadLetterReason.NOT_STORABLE, problem)]
        if not isinstance(received, Unreadable):
            rows.insert(0, answer_unbound(received, problem, written(self._now(owned, record, loaded.now))))
        for row in rows:
            turn = Turn(_after(owned, [record]), loaded.now, rows=[row])
            if isinstance(record, ParkedRecord):
                turn.unparked.append(record.parked)
            with suppress(Poison):
                return await self._alone(owned, turn)
        raise Fault(f"partition {owned.part}: the store cannot hold a dead letter of offset {record.offset}: {problem}")

    async def _isolate(self, owned: Ownership, record: Record, failure: Exception, parking: Parking) -> Taken:
        """Set a record aside on which our own code failed; raises the failure where there are too many of them."""
        loaded = await self.store.load(owned, Wanted((), (), ()))
        turn = Turn(_after(owned, [record]), loaded.now)
        now = self._now(owned, record, loaded.now)
        aside = isolated(record, failure, now=now, parking=parking, limits=self.limits, turn=turn)
        return await self._alone(owned, aside)

    def _now(self, owned: Ownership, record: Record, database: datetime) -> datetime:
        """Return the time of a record that is taken on its own."""
        return self.clock.now(database, owned.tick_time, occurred_at(record))

    async def _alone(self, owned: Ownership, turn: Turn) -> Taken:
        """Apply a turn that changes no workflow."""
        outcome = await self.store.apply(owned, turn)
        if not isinstance(outcome, Ownership):
            raise Fault(f"partition {owned.part}: a turn that changes nothing met a conflict: {outcome}")
        return Taken(outcome, turn, owned.next_seq)

    async def _judge(
        self,
        batch: Sequence[Received],
        given: Given,
        facts: Facts,
        parking: Parking,
        limits: Limits,
    ) -> Turn | Full:
        judgement = Judgement(self.store, self.guards, parking, limits, given, facts, Breath(self.timer))
        for received in batch:
            await judgement.receive(received)
        left_seconds = await judgement.settle()
        return judgement.finish() if judgement.full_at is None else Full(judgement.full_at, left_seconds)


def _kept(owned: Ownership, taken: Taken, parking: Parking, applied: Callable[[Taken], None]) -> Ownership:
    """Return the ownership after a turn, once those have heard of it who must."""
    if taken.owned.turn != owned.turn:
        parking.keep(taken.turn)
        applied(taken)
    return taken.owned


def not_taken(owned: Ownership, records: Sequence[Record]) -> list[Record]:
    """Return the records that a turn has left for a later one, given the ownership after it."""
    return [record for record in records if record.offset >= owned.next_offset]


def _after(owned: Ownership, records: Sequence[Record]) -> int:
    """Return the offset after these records: parked ones are before it already."""
    return max(owned.next_offset, records[-1].offset + 1) if records else owned.next_offset


def _wanted(batch: Sequence[Received]) -> Wanted:
    """Return what the turn's commands name, each once, in a fixed order."""
    workflows: dict[str, None] = {}
    commands: dict[str, None] = {}
    definitions: dict[str, None] = {}
    undone: dict[str, None] = {}
    for received in batch:
        if isinstance(received, Readable):
            command = received.command
            workflows[command.workflow_id] = None
            if command.root_id is not None:
                workflows[command.root_id] = None
            commands[received.command_id] = None
            if command.command_type == "create_workflow":
                definitions[command.definition] = None
            elif command.command_type == "migrate_workflow" and command.undo:
                undone[command.workflow_id] = None
    return Wanted(list(workflows), list(commands), list(definitions), list(undone))


def _awake(owned: Ownership, wakeup: Wakeup, now: datetime, clock: Clock) -> tuple[Ownership, list[Unreadable]]:
    """Return the ownership at the tick's time, and the ticks that are dead letters.

    Logical time stays where it is: commands that are before the tick may not be decided yet.
    """
    ticks = [*wakeup.earlier, *(() if wakeup.tick is None else (wakeup.tick,))]
    judged = [clock.believed(each, now) for each in ticks]
    bad = [*wakeup.unreadable, *(each for each in judged if isinstance(each, Unreadable))]
    good = [each for each, time in zip(ticks, judged, strict=True) if not isinstance(time, Unreadable)]
    if good:
        wakeup.believed(good[-1])
        if not clock.logical:
            owned = _at(owned, good[-1].tick.time)
    return owned, bad


def _at(owned: Ownership, time: datetime) -> Ownership:
    """Return the ownership at a time, unless it is later already."""
    return owned if owned.tick_time is not None and owned.tick_time >= time else replace(owned, tick_time=time)


def _merged(facts: Facts, more: Facts) -> Facts:
    return Facts({**facts.taken, **more.taken}, {**facts.room, **more.room})
