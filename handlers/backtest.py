"""One workflow's recorded commands judged again under a candidate definition, from its creation on, changing nothing.

Each is decided at its recorded time, on the workflow as the candidate would have left it. What only the running service
could see is believed, and what cannot be judged is followed as it was: both are counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from contracts.rejections import Code
from domain.backtest import (
    Comparison,
    Ends,
    Json,
    Outcome,
    asked_for,
    command_in,
    event_in,
    looks_at_slas,
    outcome_of,
    recorded_outcome,
)
from domain.decide import conclude, decide
from domain.decision import Accepted, Circumstances, Decision, Facts
from domain.definition import Definition
from domain.evolve import evolve
from domain.guards import Question
from domain.idempotency import Remembered, Repeated, known
from domain.instants import read
from domain.rejections import Refusal, refusal
from domain.workflow import Workflow
from handlers.decode import Invalid, Readable, decode
from handlers.limits import Limits
from handlers.ports import Guards, Record, verdicts
from handlers.written import accepted_rows, too_large

_INCARNATION = UUID(int=0)
# A guard that was not reached then, or too many parked; an id that another workflow of the tree had used.
_BELIEVED = frozenset({Code.PREDICATE_UNAVAILABLE.value, Code.COMMAND_ID_REUSED.value})


class Recorded(NamedTuple):
    """An answered command as the journal keeps it, and its record if the topic still has it.

    `digest` is there where the reply binds the command's id. `database_time` is when that was written, by the clock
    that the age of a command is held against; the reply's own time may be logical.
    """

    record: Record | None
    reply: Json
    event: Json | None
    digest: bytes | None
    database_time: datetime


@dataclass(frozen=True, slots=True)
class Candidate:
    """What recorded commands are judged by; `states` maps recorded states to those that take their places."""

    definition: Definition
    guards: Guards
    limits: Limits
    states: Mapping[str, str] = field(default_factory=dict)


async def judge_again(
    workflow_id: str, recorded: Sequence[Recorded], candidate: Candidate, comparison: Comparison
) -> None:
    """Judge a workflow's commands, in the order in which they were decided, and add what came out."""
    again = _Again(workflow_id, candidate, comparison)
    for each in recorded:
        await again.take(each)
    comparison.workflows += 1
    comparison.commands += len(recorded)
    again.end()


@dataclass(slots=True)
class _Again:
    """A workflow as it was and as the candidate makes it."""

    workflow_id: str
    candidate: Candidate
    comparison: Comparison
    workflow: Workflow | None = None
    state: str | None = None
    astray: bool = False
    had_slas: bool = False
    remembered: dict[tuple[str, str], Remembered] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)

    async def take(self, recorded: Recorded) -> None:
        """Judge or follow one command."""
        if recorded.event is not None:
            recorded = recorded._replace(event=event_in(self.candidate.states, recorded.event))
        reason = await self._judge(recorded)
        if reason is not None:
            self.comparison.not_judged[reason] += 1
            self._follow(recorded)
        if recorded.event is not None:
            self.state = recorded.event.get("to_state", self.state)
            self.had_slas |= "slas" in recorded.event

    def end(self) -> None:
        """Compare where both ways ended."""
        if self.astray:
            self.comparison.ends_not_judged += 1
        else:
            end = None if self.workflow is None else self.workflow.state
            self.comparison.end(self.workflow_id, Ends(self.state, end))

    async def _judge(self, recorded: Recorded) -> str | None:
        """Compare one command's outcomes, or say why it cannot be judged."""
        was = recorded_outcome(recorded.reply, recorded.event)
        if recorded.record is None or self.astray:
            return "its workflow's beginning is gone" if self.astray else "its record is gone"
        if was.said == Code.INTERNAL_ERROR:
            return "our own code failed on it"
        received = decode(recorded.record, command_bytes_max=self.candidate.limits.command_bytes_max)
        if isinstance(received, Invalid) and was.said == Code.INVALID_COMMAND:
            self.comparison.same += 1
            return None
        if not isinstance(received, Readable):
            return "it cannot be read any more"
        if received.command.command_type == "migrate_workflow":
            return "a migration"
        received = received._replace(command=command_in(self.candidate.states, received.command))
        answer = self._known(received, recorded)
        if isinstance(answer, Repeated) and recorded.reply.get("duplicate"):
            self.comparison.repeats += 1  # whatever came of it was compared with the first
            return None
        found = await self._outcome(received, recorded.reply, was, answer)
        if isinstance(found, str):
            return found
        self.comparison.compare(self.workflow_id, asked_for(received.command), was, found)
        return None

    def _known(self, received: Readable, recorded: Recorded) -> Repeated | Refusal | None:
        return known(
            received.command,
            received.digest,
            self.remembered.get((recorded.reply["root_id"], received.command_id)),
            now=read(recorded.reply["decided_at"]),
            database_time=recorded.database_time,
            broker_time=received.broker_time,
            window=self.candidate.limits.window,
        )

    async def _outcome(
        self, received: Readable, reply: Json, was: Outcome, answer: Repeated | Refusal | None
    ) -> Outcome | str:
        """Return what the candidate says, or why it cannot be judged."""
        key = (reply["root_id"], received.command_id)
        if isinstance(answer, Repeated):
            return self.outcomes[key]
        decision = answer or await self._decide(received, reply, was)
        if isinstance(decision, str):
            return decision
        found = outcome_of(decision)
        if isinstance(decision, Accepted):
            self.workflow = decision.workflow
        if key not in self.remembered if answer is not None else found.said != Code.PREDICATE_UNAVAILABLE:
            self._remember(key, received.digest, found)
        return found

    async def _decide(self, received: Readable, reply: Json, was: Outcome) -> Decision | str:
        command, definition = received.command, self.candidate.definition
        if was.said in _BELIEVED:
            return self._believed(Code(was.said))
        creates = command.command_type == "create_workflow"
        workflow = self.workflow
        if workflow is not None and workflow.root_id != reply["root_id"] and not creates:
            workflow = None
        if creates and (
            was.said == Code.UNKNOWN_DEFINITION
            or (was.said == Code.ALREADY_EXISTS and workflow is None)
            or (was.said == Code.LIMIT_REACHED and workflow is None and definition.max_open is not None)
        ):
            return self._believed(Code(was.said))
        circumstances = Circumstances(reply["decided_at"], _INCARNATION, received.command_id)
        decision = decide(command, workflow, definition, facts=Facts(), circumstances=circumstances)
        if isinstance(decision, Question):
            if workflow is None:
                raise TypeError("a guard is asked about no workflow")
            if (self.had_slas or definition.slas) and looks_at_slas(decision.guard):
                return "its guard may look at SLAs, which are not made again"
            (verdict,) = await verdicts(self.candidate.guards, [decision])
            if verdict.outcome == "unavailable":
                return "its guard cannot be asked now"
            decision = conclude(decision, verdict, command, workflow, definition, circumstances)
        if isinstance(decision, Accepted):
            rows = accepted_rows(received, decision, circumstances.now, definition.event_types.prefix)
            return too_large(decision, rows, self.candidate.limits.message_bytes_max) or decision
        return decision

    def _believed(self, code: Code) -> Refusal:
        self.comparison.believed[code.value] += 1
        return refusal(code, "as it was recorded")

    def _remember(self, key: tuple[str, str], digest: bytes, outcome: Outcome) -> None:
        self.remembered[key] = Remembered(digest, b"")
        self.outcomes[key] = outcome

    def _follow(self, recorded: Recorded) -> None:
        """Take what is not judged as it was: its change as far as the candidate has it, and that it was made."""
        reply, event = recorded.reply, recorded.event
        if recorded.digest is not None:
            self._remember((reply["root_id"], reply["command_id"]), recorded.digest, recorded_outcome(reply, event))
        if event is None or self.astray:
            return
        definition, workflow = self.candidate.definition, self.workflow
        to_state = event.get("to_state")
        as_candidate = {**event, "definition_version": definition.version}
        if workflow is None:
            self.astray = event["sequence"] != 1 or to_state not in definition.states
            self.workflow = None if self.astray else evolve(None, as_candidate)
            return
        as_candidate |= {"sequence": workflow.sequence + 1, "version": workflow.version + 1}
        if to_state is not None and (event.get("from_state") != workflow.state or to_state not in definition.states):
            as_candidate = {name: as_candidate[name] for name in as_candidate.keys() - {"to_state", "category"}}
        self.workflow = evolve(workflow, as_candidate)
