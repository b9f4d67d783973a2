"""One pass over the records of a turn: each is decided on its workflow as the ones before it left it."""

import asyncio
from datetime import datetime
from functools import partial
from typing import NamedTuple

from contracts.commands import MigrateWorkflow
from contracts.dead_letters import DeadLetterReason
from contracts.rejections import Code
from domain.decide import NOWHERE, conclude, decide
from domain.decision import Accepted, Circumstances, Facts
from domain.definition import Definition
from domain.evolve import with_slas
from domain.guards import Question
from domain.idempotency import Remembered, Repeated, known
from domain.instants import of_broker, written
from domain.migration import Target, target_version
from domain.rejections import Refusal
from domain.sla_config import Configured, promised
from domain.sla_events import Change, attend, restored_by
from domain.workflow import Workflow
from handlers.breath import Breath
from handlers.decode import Readable, Received, Unreadable
from handlers.limits import Limits
from handlers.parking import Parking
from handlers.placement import partition_of
from handlers.ports import Guards, Loaded, Ownership, ParkedRecord, ParkReason, Place, Store, Turn
from handlers.promises import calendars_for, keep_replaced, keep_slas
from handlers.ticks import Clock
from handlers.waiting import Waiting
from handlers.written import (
    HOPS_MAX,
    accepted_rows,
    answer_unbound,
    consequence_rows,
    dead_letter,
    forward_row,
    refused_row,
    repeated_row,
    sizes_exceed,
    too_large,
    unread_row,
    without_values,
)

UNKNOWN_KIND = "workflow"


class Unanswered(NamedTuple):
    """A guard that is being asked, or could not tell while its definition says to wait."""

    detail: str
    asked: bool


class Given(NamedTuple):
    """What a turn is decided on: the partition as it stands, what was loaded, the offset after its records, time."""

    owned: Ownership
    loaded: Loaded
    next_offset: int
    clock: Clock = Clock()


class Judgement:
    """One pass over a turn's records: the workflows as they evolve, and the rows as they come."""

    def __init__(
        self,
        store: Store,
        guards: Guards,
        parking: Parking,
        limits: Limits,
        given: Given,
        facts: Facts,
        breath: Breath,
    ) -> None:
        owned, loaded, next_offset, clock = given
        self._store = store
        self._guards = guards
        self._parking = parking
        self._limits = limits
        self._breath = breath
        self._owned = owned
        self._loaded = loaded
        self._taken = {workflow_id: place.root_id for workflow_id, place in loaded.places.items()} | dict(facts.taken)
        self._room = dict(facts.room)
        self._facts = Facts(self._taken, self._room)
        self._clock = clock
        self._now = clock.now(loaded.now, owned.tick_time)
        self._now_written = written(self._now)
        self._workflows = dict(loaded.workflows)
        self._remembered = dict(loaded.remembered)
        self._last_events = dict(loaded.last_events)
        self._turn = Turn(next_offset, loaded.now if clock.logical else self._now)
        self._waiting = Waiting(parking, limits, self._turn)
        self._unanswered: dict[str, list[Readable]] = {}
        self._configured: Configured | None = None

    async def receive(self, received: Received) -> None:
        """Decide one record and keep what comes of it; others have the loop before, where it is time."""
        await self._breath.taken()
        if isinstance(received, Readable):
            await self._receive_command(received)
            return
        self._come_to(None)
        self._turn.rows.append(unread_row(received, self._now_written))
        if not isinstance(received, Unreadable):
            self._turn.outcomes[UNKNOWN_KIND, "rejected"] += 1
        self._waiting.settled(received.record)

    async def settle(self) -> float:
        """Wait for the guards that have not answered, for as long as they go on answering; then park their commands.

        Return how many seconds of waiting are left to the turn.
        """
        if not self._unanswered:
            return self._limits.guard_turn_seconds_max
        clock = asyncio.get_running_loop().time
        budget = self._limits.guard_budget_seconds
        end = clock() + self._limits.guard_turn_seconds_max
        silent_at = clock() + budget
        while self._unanswered and (left := min(silent_at, end) - clock()) > 0:
            heads = {queue[0].record.offset: workflow_id for workflow_id, queue in self._unanswered.items()}
            for offset in await self._parking.answered(left):
                silent_at = clock() + budget
                if offset in heads:
                    for received in self._unanswered.pop(heads[offset]):
                        await self.receive(received)
        left_seconds = max(0.0, end - clock())
        while self._unanswered:
            head, *others = self._unanswered.pop(next(iter(self._unanswered)))
            self._come_to(head.command.occurred_at)
            self._park(head, ParkReason.GUARD, "its guard has not answered yet")
            for received in others:
                await self.receive(received)
        return left_seconds

    @property
    def full_at(self) -> int | None:
        """The first offset that the turn cannot take: no room to park it, while guards answer and make some."""
        return self._waiting.full_at

    def finish(self) -> Turn:
        """Return the turn, with each workflow it touched as it stands at the end."""
        for workflow_id, workflow in self._workflows.items():
            before = self._loaded.workflows.get(workflow_id)
            if before is None:
                self._turn.created.append(workflow)
            elif before is not workflow:
                self._turn.changed.append(workflow)
            keep_slas(self._turn, before, workflow)
        self._turn.open_deltas = {name: delta for name, delta in self._turn.open_deltas.items() if delta}
        return self._turn

    async def _receive_command(self, received: Readable) -> None:
        """Find out whether it is this command's turn, here; then judge it."""
        record, command = received.record, received.command
        self._come_to(command.occurred_at)
        if isinstance(record, ParkedRecord):
            if self._waiting.stays(record.parked, self._now):
                return
        elif command.workflow_id in self._unanswered:
            self._unanswered[command.workflow_id].append(received)
            return
        root_id, part = self._place(received)
        if part != self._owned.part:
            self._forward(received, part, root_id)
            self._waiting.settled(record)
        elif self._waiting.is_early(received, self._now):
            self._waiting.delay(received, self._now)
        elif (
            not isinstance(record, ParkedRecord) and (ahead := self._waiting.ahead_of(command.workflow_id)) is not None
        ):
            self._park(received, ParkReason.BEHIND, f"the command at offset {ahead} is before it")
        else:
            await self._judge(received, root_id)

    def _come_to(self, occurred_at: datetime | None) -> None:
        """Let it be the time of one record: where time is logical each has its own."""
        if self._clock.logical:
            self._now = self._clock.now(self._loaded.now, self._owned.tick_time, occurred_at)
            self._now_written = written(self._now)

    async def _judge(self, received: Readable, root_id: str) -> None:
        command = received.command
        workflow = self._standing(received, root_id)
        key = (root_id, received.command_id)
        answer = known(
            command,
            received.digest,
            self._remembered.get(key),
            now=self._now,
            database_time=self._turn.now,
            broker_time=received.broker_time,
            window=self._limits.window,
        )
        if isinstance(answer, Repeated):
            self._turn.rows.append(repeated_row(received, root_id, answer.reply))
            self._turn.outcomes[UNKNOWN_KIND, "duplicate"] += 1
            self._waiting.settled(received.record)
            return
        if isinstance(answer, Refusal):
            binds = key not in self._remembered and answer.code is not Code.INVALID_COMMAND
            self._refuse(received, answer, root_id, workflow, binds=binds)
            self._turn.outcomes[UNKNOWN_KIND, "rejected"] += 1
            self._waiting.settled(received.record)
            return
        definition = await self._definition(received, workflow)
        decision = await self._decide(received, workflow, definition)
        if isinstance(decision, Unanswered):
            self._wait(received, decision)
            return
        if isinstance(decision, Accepted) and definition is not None:
            decision = await self._attend(received, decision, workflow, definition)
            if isinstance(decision, Accepted):
                decision = self._accept(received, decision, definition, root_id)
        if isinstance(decision, Refusal):
            self._refuse(received, decision, root_id, workflow, binds=not decision.retryable)
        kind = UNKNOWN_KIND if definition is None else definition.kind
        self._turn.outcomes[kind, "accepted" if isinstance(decision, Accepted) else "rejected"] += 1
        self._waiting.settled(received.record)

    async def _decide(
        self, received: Readable, workflow: Workflow | None, definition: Definition | None
    ) -> Accepted | Refusal | Unanswered:
        command = received.command
        circumstances = self._circumstances(received)
        target = NOWHERE
        if command.command_type == "migrate_workflow" and workflow is not None:
            target = await self._target(command, workflow)
        decision = decide(command, workflow, definition, facts=self._facts, circumstances=circumstances, target=target)
        if not isinstance(decision, Question):
            return decision
        if workflow is None or definition is None:
            raise TypeError("a guard is asked about no workflow")
        verdict = self._parking.ask(self._guards, decision, offset=received.record.offset)
        if verdict is None:
            return Unanswered("its guard has not answered yet", asked=True)
        if verdict.outcome == "unavailable" and definition.on_unavailable == "wait":
            return Unanswered(f"its guard could not be asked: {verdict.cause}", asked=False)
        return conclude(decision, verdict, command, workflow, definition, circumstances)

    async def _attend(
        self, received: Readable, accepted: Accepted, workflow: Workflow | None, definition: Definition
    ) -> Accepted | Refusal:
        """Return a change with what it means for SLAs: it counts from when its command was in the log in time."""
        version = accepted.workflow.definition_version
        if version != definition.version:
            definition = await self._store.definition(definition.name, version) or definition
        if self._configured is None:  # once a turn: it is asked for each command
            self._configured = await self._store.configured()
        terms = promised(definition, self._configured, accepted.workflow)
        if not terms and (workflow is None or workflow.slas is None):
            return accepted
        late = self._clock.logical or isinstance(received.record, ParkedRecord)
        standing, restored = accepted.workflow, restored_by(accepted.events[0])
        if restored:
            standing = with_slas(standing, {"slas": restored})
        calendars = await calendars_for(self._store, standing, terms)
        return attend(
            accepted,
            Change(received.command, accepted.workflow, definition, terms, calendars),
            at=self._now if late else min(of_broker(received.record.timestamp), self._now),
            circumstances=self._circumstances(received),
        )

    def _circumstances(self, received: Readable) -> Circumstances:
        return Circumstances(self._now_written, self._owned.incarnation, received.command_id, received.correlation_id)

    def _standing(self, received: Readable, root_id: str) -> Workflow | None:
        """Return the workflow as this turn leaves it, if it is in the tree that the command names."""
        command = received.command
        workflow = self._workflows.get(command.workflow_id)
        strange = workflow is not None and workflow.root_id != root_id
        return None if strange and command.command_type != "create_workflow" else workflow

    def _wait(self, received: Readable, unanswered: Unanswered) -> None:
        """Let a command wait for its guard: a new one for the rest of the turn, a parked one for the next."""
        record = received.record
        if not isinstance(record, ParkedRecord):
            if unanswered.asked:
                self._unanswered[received.command.workflow_id] = [received]
            else:
                self._park(received, ParkReason.GUARD, unanswered.detail, attempts=1)
        elif refused := self._waiting.overdue(record.parked, unanswered.detail, self._now):
            self._turn_away(received, refused)
            self._waiting.settled(record)
        elif not unanswered.asked:
            self._waiting.postpone(record.parked, unanswered.detail, self._now)

    def _park(self, received: Readable, reason: ParkReason, detail: str, *, attempts: int = 0) -> None:
        refused = self._waiting.park(received, reason, detail, self._now, attempts=attempts)
        if refused is not None:
            self._turn_away(received, refused)

    def _turn_away(self, received: Readable, refused: Refusal) -> None:
        root_id, _ = self._place(received)
        self._refuse(received, refused, root_id, self._standing(received, root_id), binds=False)
        self._turn.outcomes[UNKNOWN_KIND, "rejected"] += 1

    async def _definition(self, received: Readable, workflow: Workflow | None) -> Definition | None:
        command = received.command
        if command.command_type == "create_workflow":
            version = command.definition_version or self._loaded.latest.get(command.definition)
            return None if version is None else await self._store.definition(command.definition, version)
        if workflow is None:
            return None
        return await self._store.definition(workflow.definition, workflow.definition_version)

    async def _target(self, command: MigrateWorkflow, workflow: Workflow) -> Target:
        """Return where a migration leads, as this turn leaves the workflow."""
        last = self._last_events.get(workflow.workflow_id) if command.undo else None
        version = target_version(command, last)
        return Target(None if version is None else await self._store.definition(workflow.definition, version), last)

    def _place(self, received: Readable) -> tuple[str, int]:
        """Return the command's root and the partition where it is decided: where it is stored, else by its hash.

        The workflow's own place is before its root's: a root may be created after others of its tree, and elsewhere if
        partitions were added between. The root is what the command says, never what the store knows by now: it is half
        of the idempotency key.
        """
        command = received.command
        root_id = command.root_id or command.workflow_id
        for member in (command.workflow_id, root_id):
            workflow = self._workflows.get(member)
            place = self._loaded.places.get(member) if workflow is None else Place(self._owned.part, workflow.root_id)
            if place is not None and place.root_id == root_id:
                return root_id, place.part
        return root_id, partition_of(root_id, self._owned.n_parts)

    def _forward(self, received: Readable, part: int, root_id: str) -> None:
        if received.hops < HOPS_MAX:
            self._turn.rows.append(forward_row(received, part, root_id, hops=received.hops + 1))
            return
        problem = f"forwarded {received.hops} times and still not on partition {part} of its root {root_id}"
        self._turn.rows += [
            dead_letter(received.record, DeadLetterReason.TOO_MANY_HOPS, problem),
            answer_unbound(received, problem, self._now_written, Code.INTERNAL_ERROR),
        ]
        self._turn.outcomes[UNKNOWN_KIND, "rejected"] += 1

    def _accept(
        self, received: Readable, decision: Accepted, definition: Definition, root_id: str
    ) -> Accepted | Refusal:
        """Keep what an accepted command changes; refuse it where its event would be too large for a topic."""
        rows = accepted_rows(received, decision, self._now_written, definition.event_types.prefix)
        refused = too_large(decision, rows, self._limits.message_bytes_max)
        if refused is not None:
            return refused
        workflow = decision.workflow
        keep_replaced(self._turn, self._workflows.get(workflow.workflow_id), workflow)
        self._workflows[workflow.workflow_id] = workflow
        self._last_events[workflow.workflow_id] = decision.events[0]
        if decision.open_delta:
            deltas = self._turn.open_deltas
            deltas[definition.name] = deltas.get(definition.name, 0) + decision.open_delta
            if definition.name in self._room:
                self._room[definition.name] -= decision.open_delta
        self._turn.rows.extend(rows)
        self._turn.rows.extend(
            consequence_rows(decision, self._owned.part, received.record.offset, received.traceparent)
        )
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
        if sizes_exceed([row], self._limits.message_bytes_max):
            row = row_of(without_values(refused))
        self._turn.rows.append(row)
        if binds:
            self._remember(received, root_id, row.reply)

    def _remember(self, received: Readable, root_id: str, reply: bytes | None) -> None:
        key = (root_id, received.command_id)
        self._remembered[key] = Remembered(received.digest, reply or b"")
