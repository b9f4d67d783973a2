"""Decides a run's commands again, in the order of the journal, and compares what comes out with what was committed.

Only the pure decision is used; what it cannot know (an id taken on another partition, a full definition, a guard that
was not reached) is believed where the journal says so, and each is counted.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson

from contracts.commands import Command
from contracts.predicates import Verdict
from domain.canonical import canonical
from domain.decide import conclude, decide
from domain.decision import Accepted, Circumstances, Decision, Facts
from domain.definition import Definition
from domain.evolve import evolve
from domain.guards import Question
from domain.idempotency import Remembered, Repeated, known
from domain.instants import of_broker, read
from domain.migration import Target, target_version
from domain.sla import Calendars
from domain.sla_events import Change, attend, lapse
from domain.workflow import Workflow
from handlers.decode import Readable, decode
from handlers.parking import judged
from handlers.ports import Guards, verdicts
from service.definitions.files import read_definition, shipped
from service.predicates.engines import Engines
from tests.faults.history import Record, Row, turned_away
from tests.faults.published import Kind, Violation

COMMAND_BYTES_MAX = 256 * 1024
WINDOW = timedelta(days=14)
BELIEVED = {
    "ALREADY_EXISTS": "an id taken elsewhere",
    "LIMIT_REACHED": "a full definition",
    "PREDICATE_UNAVAILABLE": "a guard not reached",
}


@dataclass(slots=True)
class Replay:
    """The workflows and answers as the journal built them up so far."""

    incarnations: Mapping[int, UUID]
    definitions: Iterable[Definition]
    guards: Guards = field(default_factory=Engines)
    calendars: Calendars = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    _versions: dict[tuple[str, int], Definition] = field(init=False)
    _workflows: dict[str, Workflow] = field(default_factory=dict)
    _last_events: dict[str, dict[str, Any]] = field(default_factory=dict)
    _remembered: dict[tuple[str, str], Remembered] = field(default_factory=dict)
    _held: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._versions = {(definition.name, definition.version): definition for definition in self.definitions}

    async def again(self, journal: Iterable[Row], commands: Iterable[Record]) -> list[Violation]:
        """Decide every answered command again, and what time alone did; by partition, then by their order in it."""
        found = []
        for row, record in _paired(journal, commands):
            if self._held and not _of_one_decision(self._held[-1], row):
                found.extend(self._lapse_again())
            if record is None:
                self._held.append(row)
                continue
            received = decode(record, command_bytes_max=COMMAND_BYTES_MAX)
            reply = orjson.loads(row["reply"])
            if isinstance(received, Readable):
                found.extend(await self._again(row, received, reply))
                self._keep(row, received, reply)
            elif reply.get("rejection", {}).get("code") != "INVALID_COMMAND":
                found.append(Violation(Kind.DECIDED_OTHERWISE, record.place, "it is no command"))
            self._held.clear()
        found.extend(self._lapse_again())
        return found

    async def _again(self, row: Row, received: Readable, reply: dict[str, Any]) -> list[Violation]:
        code = reply.get("rejection", {}).get("code")
        if turned_away(reply.get("rejection", {})):
            self.counts["turned away"] += 1
            return []
        earlier = known(
            received.command,
            received.digest,
            self._remembered.get((reply["root_id"], received.command_id)),
            now=read(reply["decided_at"]),
            database_time=read(reply["decided_at"]),
            broker_time=received.broker_time,
            window=WINDOW,
        )
        if isinstance(earlier, Repeated) or reply.get("duplicate"):
            agrees = isinstance(earlier, Repeated) and bool(reply.get("duplicate"))
            return [] if agrees else [_otherwise(row, f"a repeat: {isinstance(earlier, Repeated)}")]
        if earlier is None and code == "INVALID_COMMAND":
            self.counts["judged by sizes"] += 1
            return []
        decision = earlier or await self._decide(received, reply, row, code)
        self.counts["decided again"] += 1
        if isinstance(decision, Accepted):
            again = [canonical(event) for event in decision.events]
            said = [each["event"] for each in (*self._held, row)]
            return [] if again == said else [_otherwise(row, f"accepted: {again!r:.300}")]
        written = orjson.loads(canonical(decision.written()))
        return [] if written == reply.get("rejection") else [_otherwise(row, f"refused: {written}")]

    async def _decide(self, received: Readable, reply: dict[str, Any], row: Row, code: str | None) -> Decision:
        command = received.command
        workflow = self._workflows.get(command.workflow_id)
        if workflow is not None and workflow.root_id != reply["root_id"] and command.command_type != "create_workflow":
            workflow = None
        name, version = self._definition_of(command, workflow)
        definition = self._versions.get((name, version))
        facts = Facts()
        if code in BELIEVED and not (code == "LIMIT_REACHED" and workflow is not None):
            self.counts[BELIEVED[code]] += 1
            taken = {command.workflow_id: ""} if code == "ALREADY_EXISTS" else {}
            facts = Facts(taken, {name: 0} if code == "LIMIT_REACHED" else {})
        circumstances = Circumstances(
            reply["decided_at"], self.incarnations[row["part"]], received.command_id, received.correlation_id
        )
        target = self._target(command, workflow)
        decision = decide(command, workflow, definition, facts=facts, circumstances=circumstances, target=target)
        if isinstance(decision, Question):
            if workflow is None or definition is None:
                raise TypeError("a guard is asked about no workflow")
            verdict = await self._verdict(decision, row, reply, code)
            decision = conclude(decision, verdict, command, workflow, definition, circumstances)
        if isinstance(decision, Accepted) and definition is not None:
            return self._attend(received, decision, row, circumstances)
        return decision

    def _attend(self, received: Readable, decision: Accepted, row: Row, circumstances: Circumstances) -> Decision:
        """Say again what a change means for SLAs; whether its command was parked meanwhile is believed."""
        definition = self._versions[decision.workflow.definition, decision.workflow.definition_version]
        decided_at = read(circumstances.now)
        at = min(of_broker(received.record.timestamp), decided_at)
        first = orjson.loads(self._first_event(row) or b"{}")
        if first.get("effective_at") == circumstances.now:
            at = decided_at
        made = Change(received.command, decision.workflow, definition, definition.slas, self.calendars)
        return attend(decision, made, at=at, circumstances=circumstances)

    def _first_event(self, row: Row) -> bytes | None:
        """Return the event of the change itself, of those that one decision made."""
        event: bytes | None = (self._held[0] if self._held else row)["event"]
        return event

    def _lapse_again(self) -> list[Violation]:
        """Take the steps again that time alone made a workflow take together, and keep them."""
        held, self._held = self._held, []
        if not held:
            return []
        events = [orjson.loads(row["event"]) for row in held]
        workflow = self._workflows.get(events[0]["workflow_id"])
        again = None
        if workflow is not None and "command_id" not in events[0]:
            self.counts["lapses decided again"] += 1
            again = lapse(
                workflow,
                self._versions[workflow.definition, workflow.definition_version].slas,
                until=max(read(event["details"]["step_due_at"]) for event in events),
                calendars=self.calendars,
                circumstances=Circumstances(events[0]["timestamp"], self.incarnations[held[0]["part"]], ""),
            )
        for event in events:
            self._workflows[event["workflow_id"]] = evolve(self._workflows.get(event["workflow_id"]), event)
        made = [] if again is None else [canonical(event) for event in again[0].events]
        return [] if made == [row["event"] for row in held] else [_otherwise(held[0], f"by time: {made!r:.300}")]

    def _definition_of(self, command: Command, workflow: Workflow | None) -> tuple[str, int]:
        """Return the name and version a command is decided by; all versions were there before the first command."""
        if command.command_type == "create_workflow":
            latest = max((version for name, version in self._versions if name == command.definition), default=0)
            return command.definition, command.definition_version or latest
        return ("", 0) if workflow is None else (workflow.definition, workflow.definition_version)

    def _target(self, command: Command, workflow: Workflow | None) -> Target:
        if command.command_type != "migrate_workflow" or workflow is None:
            return Target()
        self.counts["migrations decided again"] += 1
        last = self._last_events[workflow.workflow_id] if command.undo else None
        version = target_version(command, last)
        return Target(None if version is None else self._versions.get((workflow.definition, version)), last)

    async def _verdict(self, question: Question, row: Row, reply: dict[str, Any], code: str | None) -> Verdict:
        """Ask the guard again, as it was asked then; how long it took, and that nobody answered, is believed."""
        why = reply.get("rejection", {}).get("why", {})
        told = why.get("verdict") or (orjson.loads(row["event"]).get("verdict") if row["event"] is not None else {})
        now = told.get("asked_at", question.inputs.now)
        question = question._replace(inputs=question.inputs._replace(now=now))
        if code == "PREDICATE_UNAVAILABLE":
            cause = str(reply["rejection"]["message"]).partition(": ")[2] or None
            verdict = Verdict(
                outcome="unavailable",
                clause=why.get("clause"),
                values=why.get("values"),
                cause=cause,
                engine=question.guard.engine,
            )
        else:
            verdict = (await verdicts(self.guards, [question]))[0]
        return judged(verdict, question, told.get("latency_us", 0) / 1e6)

    def _keep(self, row: Row, received: Readable, reply: dict[str, Any]) -> None:
        if row["event"] is not None:
            for each in (*self._held, row):
                event = orjson.loads(each["event"])
                self._workflows[event["workflow_id"]] = evolve(self._workflows.get(event["workflow_id"]), event)
            self._last_events[event["workflow_id"]] = orjson.loads(self._first_event(row) or b"{}")
        if row["command_id"] is not None:
            self._remembered[reply["root_id"], received.command_id] = Remembered(received.digest, row["reply"])


def shipped_definitions() -> dict[str, Definition]:
    """Return the definitions that come with the service, by name."""
    parsed = (read_definition(text).definition for text in shipped().values())
    return {definition.name: definition for definition in parsed if definition is not None}


def _of_one_decision(held: Row, row: Row) -> bool:
    """Say whether a row goes on with the decision of an event that has no answer of its own."""
    if row["event"] is None or row["workflow_id"] != held["workflow_id"]:
        return False
    one, other = (orjson.loads(each["event"]) for each in (held, row))
    return (one.get("command_id"), one["timestamp"]) == (other.get("command_id"), other["timestamp"])


def _paired(journal: Iterable[Row], commands: Iterable[Record]) -> Iterator[tuple[Row, Record | None]]:
    """Yield each answered row with its command, and each event that answers none; one pass over each is enough.

    Both are in the same order but for commands that were answered late: those that were passed are kept meanwhile.
    """
    records = iter(commands)
    record = next(records, None)
    passed: dict[tuple[int, int], Record] = {}
    part = -1
    for row in journal:
        if row["reply"] is None:
            if row["kind"] == "event":
                yield row, None
            continue
        place = (row["part"], row["record_offset"])
        if place[0] != part:
            part = place[0]
            passed.clear()
        while record is not None and (record.partition, record.offset) <= place:
            if record.partition == place[0]:
                passed[place[0], record.offset] = record
            record = next(records, None)
        if place in passed:
            yield row, passed.pop(place)


def _otherwise(row: Row, found: str) -> Violation:
    place = f"{row['part']}/{row['record_offset']}"
    return Violation(Kind.DECIDED_OTHERWISE, place, f"the journal says {row['reply']!r:.300}, again it is {found}")
