"""A turn: records of one partition in, one set of rows out. Read everything, decide purely, write once.

Commands of one workflow are decided one after another on the row as it evolves in memory. Conflicts that
only the store can see come back as facts, and the turn is decided again with them.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from contracts.dead_letters import DeadLetterReason
from contracts.rejections import Code
from domain.decide import Accepted, Circumstances, Facts, decide
from domain.definition import Definition
from domain.guards import Question
from domain.idempotency import Remembered, Repeated, known
from domain.instants import written
from domain.rejections import Refusal, refusal
from domain.workflow import Workflow
from handlers.decode import Invalid, Readable, Received, Unreadable, decode
from handlers.faults import Fault, Poison
from handlers.placement import partition_of
from handlers.ports import Guards, Loaded, Ownership, Place, Record, Store, Turn, Wanted
from handlers.ticks import ReceivedTick, believed
from handlers.written import (
    HOPS_MAX,
    accepted_rows,
    answer_invalid,
    dead_letter,
    dead_letter_row,
    forward_row,
    refused_row,
    repeated_row,
    sizes_exceed,
    without_values,
)

YIELD_EVERY = 100
UNKNOWN_KIND = "workflow"


@dataclass(frozen=True, slots=True)
class Wakeup:
    """The newest tick of a partition, and those that could not be read."""

    tick: ReceivedTick | None = None
    unreadable: Sequence[Unreadable] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a command; sizes in bytes."""

    command_bytes_max: int = 256 * 1024
    message_bytes_max: int = 900 * 1024
    window: timedelta = timedelta(days=14)


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
            if len(records) == 1:
                taken = await self._set_aside(owned, records[0], str(poison))
            else:
                half = len(records) // 2
                owned = await self.take_turn(owned, records[:half], wakeup, applied=applied)
                return await self.take_turn(owned, records[half:], Wakeup(), applied=applied)
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
        loaded = await self.store.load(owned, Wanted((), (), ()))
        turn = Turn(record.offset + 1, loaded.now)
        received = decode(record, command_bytes_max=self.limits.command_bytes_max)
        if isinstance(received, Unreadable):
            turn.rows.append(dead_letter(record, DeadLetterReason.NOT_STORABLE, problem[:1000]))
        else:
            turn.rows.append(answer_invalid(received, problem[:1000], written(loaded.now)))
        outcome = await self.store.apply(owned, turn)
        if not isinstance(outcome, Ownership):
            raise Poison(f"a dead letter met a conflict: {outcome}")
        return Taken(outcome, turn, owned.next_seq)

    async def _judge(
        self, owned: Ownership, batch: Sequence[Received], loaded: Loaded, facts: Facts, next_offset: int
    ) -> Turn:
        judgement = Judgement(self, owned, loaded, facts, next_offset)
        for position, received in enumerate(batch, start=1):
            await judgement.receive(received)
            if position % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        return judgement.finish()


class Judgement:
    """One pass over a turn's records: the workflows as they evolve, and the rows as they come."""

    def __init__(
        self, handler: CommandsHandler, owned: Ownership, loaded: Loaded, facts: Facts, next_offset: int
    ) -> None:
        self._handler = handler
        self._owned = owned
        self._loaded = loaded
        self._taken = {workflow_id: place.root_id for workflow_id, place in loaded.places.items()} | dict(facts.taken)
        self._room = dict(facts.room)
        self._facts = Facts(self._taken, self._room)
        self._now = max(loaded.now, owned.tick_time) if owned.tick_time is not None else loaded.now
        self._now_written = written(self._now)
        self._workflows = dict(loaded.workflows)
        self._remembered = dict(loaded.remembered)
        self._turn = Turn(next_offset, self._now)

    async def receive(self, received: Received) -> None:
        """Decide one record and keep what comes of it."""
        if isinstance(received, Unreadable):
            self._turn.rows.append(dead_letter_row(received))
        elif isinstance(received, Invalid):
            self._turn.rows.append(answer_invalid(received, received.problem, self._now_written))
            self._turn.outcomes[UNKNOWN_KIND, "rejected"] += 1
        else:
            await self._receive_command(received)

    def finish(self) -> Turn:
        """Return the turn, with each workflow it touched as it stands at the end."""
        for workflow_id, workflow in self._workflows.items():
            before = self._loaded.workflows.get(workflow_id)
            if before is None:
                self._turn.created.append(workflow)
            elif before is not workflow:
                self._turn.changed.append(workflow)
        self._turn.open_deltas = {name: delta for name, delta in self._turn.open_deltas.items() if delta}
        return self._turn

    async def _receive_command(self, received: Readable) -> None:
        command = received.command
        workflow = self._workflows.get(command.workflow_id)
        root_id, part = self._place(received)
        if part != self._owned.part:
            self._forward(received, part, root_id)
            return
        if workflow is not None and workflow.root_id != root_id and command.command_type != "create_workflow":
            workflow = None
        key = (root_id, received.command_id)
        answer = known(
            command,
            received.digest,
            self._remembered.get(key),
            now=self._now,
            broker_time=received.broker_time,
            window=self._handler.limits.window,
        )
        if isinstance(answer, Repeated):
            self._turn.rows.append(repeated_row(received, root_id, answer.reply))
            self._turn.outcomes[UNKNOWN_KIND, "duplicate"] += 1
            return
        if isinstance(answer, Refusal):
            self._refuse(received, answer, root_id, workflow, binds=key not in self._remembered)
            self._turn.outcomes[UNKNOWN_KIND, "rejected"] += 1
            return
        definition = await self._definition(received, workflow)
        decision = await self._decide(received, workflow, definition)
        if isinstance(decision, Accepted) and definition is not None:
            decision = self._accept(received, decision, definition, root_id)
        if isinstance(decision, Refusal):
            self._refuse(received, decision, root_id, workflow, binds=not decision.retryable)
        kind = UNKNOWN_KIND if definition is None else definition.kind
        self._turn.outcomes[kind, "accepted" if isinstance(decision, Accepted) else "rejected"] += 1

    async def _decide(
        self, received: Readable, workflow: Workflow | None, definition: Definition | None
    ) -> Accepted | Refusal:
        facts = self._facts
        circumstances = Circumstances(
            self._now_written, self._owned.incarnation, received.command_id, received.correlation_id
        )
        decision = decide(received.command, workflow, definition, facts=facts, circumstances=circumstances)
        if isinstance(decision, Question):
            verdicts = await self._handler.guards.ask([decision])
            decision = decide(
                received.command, workflow, definition, facts=facts, circumstances=circumstances, verdict=verdicts[0]
            )
        if isinstance(decision, Question):
            raise TypeError("a decision asks again although it has its verdict")
        return decision

    async def _definition(self, received: Readable, workflow: Workflow | None) -> Definition | None:
        command = received.command
        if command.command_type == "create_workflow":
            version = command.definition_version or self._loaded.latest.get(command.definition)
            return None if version is None else await self._handler.store.definition(command.definition, version)
        if workflow is None:
            return None
        return await self._handler.store.definition(workflow.definition, workflow.definition_version)

    def _place(self, received: Readable) -> tuple[str, int]:
        """Return the command's root and the partition where it is decided: where the tree is, else by its hash.

        The root is what the command says, never what the store knows by now: it is half of the idempotency key.
        """
        command = received.command
        root_id = command.root_id or command.workflow_id
        for member in (root_id, command.workflow_id):
            workflow = self._workflows.get(member)
            place = self._loaded.places.get(member) if workflow is None else Place(self._owned.part, workflow.root_id)
            if place is not None and place.root_id == root_id:
                return root_id, place.part
        return root_id, partition_of(root_id, self._owned.n_parts)

    def _forward(self, received: Readable, part: int, root_id: str) -> None:
        if received.hops >= HOPS_MAX:
            row = dead_letter(
                received.record,
                DeadLetterReason.TOO_MANY_HOPS,
                f"forwarded {received.hops} times and still not on partition {part} of its root {root_id}",
            )
        else:
            row = forward_row(received, part, root_id)
        self._turn.rows.append(row)

    def _accept(
        self, received: Readable, decision: Accepted, definition: Definition, root_id: str
    ) -> Accepted | Refusal:
        """Keep what an accepted command changes; refuse it where its event would be too large for a topic."""
        rows = accepted_rows(received, decision, self._now_written, definition.event_types.prefix)
        if sizes_exceed(rows, self._handler.limits.message_bytes_max):
            return refusal(Code.INVALID_COMMAND, "its event would be larger than a topic takes; send less")
        workflow = decision.workflow
        self._workflows[workflow.workflow_id] = workflow
        if decision.open_delta:
            deltas = self._turn.open_deltas
            deltas[definition.name] = deltas.get(definition.name, 0) + decision.open_delta
            if definition.name in self._room:
                self._room[definition.name] -= decision.open_delta
        self._turn.rows.extend(rows)
        self._remember(received, root_id, rows[-1].reply)
        return decision

    def _refuse(
        self, received: Readable, refused: Refusal, root_id: str, workflow: Workflow | None, *, binds: bool
    ) -> None:
        if workflow is not None and workflow.tenant != received.command.tenant:
            workflow = None
        row_of = partial(
            refused_row,
            received,
            root_id=root_id,
            state=None if workflow is None else workflow.state,
            version=None if workflow is None else workflow.version,
            now=self._now_written,
            binds=binds,
        )
        row = row_of(refused)
        if sizes_exceed([row], self._handler.limits.message_bytes_max):
            row = row_of(without_values(refused))
        self._turn.rows.append(row)
        if binds:
            self._remember(received, root_id, row.reply)

    def _remember(self, received: Readable, root_id: str, reply: bytes | None) -> None:
        key = (root_id, received.command_id)
        self._remembered[key] = Remembered(received.digest, reply or b"")


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
