"""A turn: records of one partition in, one set of rows out. Read everything, decide purely, write once.

Commands of one workflow are decided one after another on the row as it evolves in memory. Conflicts that
only the store can see come back as facts, and the turn is decided again with them.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from contracts.dead_letters import DeadLetterReason
from domain.decide import Facts
from domain.instants import written
from handlers.decode import Readable, Received, Unreadable, decode
from handlers.faults import Fault, Poison
from handlers.judgement import Judgement, Limits
from handlers.ports import Guards, Loaded, Ownership, Record, Store, Turn, Wanted
from handlers.ticks import ReceivedTick, believed
from handlers.written import (
    answer_invalid,
    dead_letter,
)

YIELD_EVERY = 100


@dataclass(frozen=True, slots=True)
class Wakeup:
    """The newest tick of a partition, and those that could not be read."""

    tick: ReceivedTick | None = None
    unreadable: Sequence[Unreadable] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a turn: the ownership after it, and the rows it left, in order."""

    owned: Ownership
    turn: Turn
    first_seq: int


@dataclass(frozen=True, slots=True)
class CommandsHandler:
    """Takes turns; holds nothing between them."""

    store: Store
    guards: Guards
    limits: Limits = field(default_factory=Limits)

    async def take_turn(
        self, owned: Ownership, records: Sequence[Record], wakeup: Wakeup, *, applied: Callable[[Taken], None]
    ) -> Ownership:
        """Decide and apply records that follow each other in one partition; `applied` hears of each commit.

        A record the store cannot hold is found by halving and is answered, or becomes a dead letter.
        A tick that finds nothing to do writes nothing.
        """
        try:
            taken = await self._one_turn(owned, records, wakeup)
        except Poison as poison:
            if not records:
                raise
            if len(records) > 1:
                half = len(records) // 2
                owned = await self.take_turn(owned, records[:half], wakeup, applied=applied)
                return await self.take_turn(owned, records[half:], Wakeup(), applied=applied)
            taken = await self._set_aside(owned, records[0], str(poison)[:1000])
            applied(taken)
            return await self.take_turn(taken.owned, (), wakeup, applied=applied)
        if taken.owned.turn != owned.turn:
            applied(taken)
        return taken.owned

    async def _one_turn(self, owned: Ownership, records: Sequence[Record], wakeup: Wakeup) -> Taken:
        batch = [decode(record, command_bytes_max=self.limits.command_bytes_max) for record in records]
        loaded = await self.store.load(owned, _wanted(batch))
        next_offset = records[-1].offset + 1 if records else owned.next_offset
        owned, bad_ticks = _awake(owned, wakeup, loaded.now)
        batch = [*bad_ticks, *batch]
        if not batch:
            return Taken(owned, Turn(next_offset, loaded.now), owned.next_seq)
        facts = Facts()
        for _ in range(len(batch) + 2):  # each conflict over an id names one more, and there are no more than records
            turn = await self._judge(owned, batch, loaded, facts, next_offset)
            outcome = await self.store.apply(owned, turn)
            if isinstance(outcome, Facts) and outcome.room:
                async with self.store.locked(owned, sorted(turn.open_deltas)) as session:
                    locked = _merged(facts, session.facts)
                    turn = await self._judge(owned, batch, loaded, locked, next_offset)
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
            rows.insert(0, answer_invalid(received, problem, written(loaded.now)))
        for row in rows:
            turn = Turn(record.offset + 1, loaded.now, rows=[row])
            with suppress(Poison):
                outcome = await self.store.apply(owned, turn)
                if not isinstance(outcome, Ownership):
                    raise Fault(f"partition {owned.part}: a row that changes nothing met a conflict: {outcome}")
                return Taken(outcome, turn, owned.next_seq)
        raise Fault(f"partition {owned.part}: the store cannot hold a dead letter of offset {record.offset}: {problem}")

    async def _judge(
        self, owned: Ownership, batch: Sequence[Received], loaded: Loaded, facts: Facts, next_offset: int
    ) -> Turn:
        judgement = Judgement(self.store, self.guards, self.limits, owned, loaded, facts, next_offset)
        for position, received in enumerate(batch, start=1):
            await judgement.receive(received)
            if position % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        return judgement.finish()


def _wanted(batch: Sequence[Received]) -> Wanted:
    """Return what the turn's commands name, each once, in a fixed order."""
    workflows: dict[str, None] = {}
    commands: dict[str, None] = {}
    definitions: dict[str, None] = {}
    for received in batch:
        if isinstance(received, Readable):
            command = received.command
            workflows[command.workflow_id] = None
            if command.root_id is not None:
                workflows[command.root_id] = None
            commands[received.command_id] = None
            if command.command_type == "create_workflow":
                definitions[command.definition] = None
    return Wanted(list(workflows), list(commands), list(definitions))


def _awake(owned: Ownership, wakeup: Wakeup, now: datetime) -> tuple[Ownership, list[Unreadable]]:
    """Return the ownership at the tick's time, and the ticks that are dead letters."""
    bad = list(wakeup.unreadable)
    if wakeup.tick is not None:
        time = believed(wakeup.tick, now)
        if isinstance(time, Unreadable):
            bad.append(time)
        elif owned.tick_time is None or time > owned.tick_time:
            owned = replace(owned, tick_time=time)
    return owned, bad


def _merged(facts: Facts, more: Facts) -> Facts:
    return Facts({**facts.taken, **more.taken}, {**facts.room, **more.room})
