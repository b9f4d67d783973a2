"""One pass over the records of a turn: each is decided on its workflow as the ones before it left it."""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from contracts.dead_letters import DeadLetterReason
from contracts.rejections import Code
from domain.decide import Accepted, Circumstances, Facts, decide
from domain.definition import Definition
from domain.guards import Question
from domain.idempotency import Remembered, Repeated, known
from domain.instants import written
from domain.rejections import Refusal, refusal
from domain.workflow import Workflow, dump
from handlers.decode import Invalid, Readable, Received, Unreadable
from handlers.placement import partition_of
from handlers.ports import Guards, Loaded, Ownership, Place, Store, Turn
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

UNKNOWN_KIND = "workflow"


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a command; sizes in bytes."""

    command_bytes_max: int = 256 * 1024
    message_bytes_max: int = 900 * 1024
    window: timedelta = timedelta(days=14)


class Judgement:
    """One pass over a turn's records: the workflows as they evolve, and the rows as they come."""

    def __init__(
        self,
        store: Store,
        guards: Guards,
        limits: Limits,
        owned: Ownership,
        loaded: Loaded,
        facts: Facts,
        next_offset: int,
    ) -> None:
        self._store = store
        self._guards = guards
        self._limits = limits
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
            window=self._limits.window,
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
            verdicts = await self._guards.ask([decision])
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
            return None if version is None else await self._store.definition(command.definition, version)
        if workflow is None:
            return None
        return await self._store.definition(workflow.definition, workflow.definition_version)

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
        bytes_max = self._limits.message_bytes_max
        if sizes_exceed(rows, bytes_max):
            return refusal(Code.INVALID_COMMAND, "its event would be larger than a topic takes; send less")
        workflow = decision.workflow
        if "metadata" in decision.events[-1] and len(dump(workflow)) > bytes_max:
            return refusal(
                Code.INVALID_COMMAND, f"{workflow.workflow_id} would be larger than {bytes_max} bytes; remove metadata"
            )
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
        if sizes_exceed([row], self._limits.message_bytes_max):
            row = row_of(without_values(refused))
        self._turn.rows.append(row)
        if binds:
            self._remember(received, root_id, row.reply)

    def _remember(self, received: Readable, root_id: str, reply: bytes | None) -> None:
        key = (root_id, received.command_id)
        self._remembered[key] = Remembered(received.digest, reply or b"")
