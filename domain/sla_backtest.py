"""Recorded SLAs judged again under another calendar or target: what happened counts from the same instants as it did.

Commands are believed: one that a ladder asked for stays where it was, also if the candidate would not have asked it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from contracts.commands import COMMANDS, Command
from domain.definition import Definition
from domain.evolve import MIGRATION, evolve, fold
from domain.instants import read
from domain.sla import (
    Calendars,
    SlaRecord,
    advance,
    calendar_of,
    dump_record,
    open_records,
    overrun,
    parse_record,
    reckoned,
    seconds,
)
from domain.sla_config import NOTHING, Configured, promised
from domain.sla_events import Change, moves
from domain.sla_terms import SlaTerms
from domain.workflow import Workflow

Json = Mapping[str, Any]
Runs = Mapping[tuple[str, int], SlaRecord]

EXAMPLES_MAX = 5
NOT_PROMISED = "not promised"
_HOLDING = {"SLA_PAUSED": "pause_sla", "SLA_RESUMED": "resume_sla"}


class Judged(NamedTuple):
    """What one run of an SLA came to: breached, met, open or not promised; and the working time past its target."""

    said: str
    over_seconds: float = 0


class Example(NamedTuple):
    """A run that comes out otherwise."""

    workflow_id: str
    run: int
    recorded: Judged
    candidate: Judged


@dataclass(slots=True)
class Figures:
    """What the runs of one SLA came to; `differing` counts those with another outcome or amount."""

    runs: int = 0
    breached_recorded: int = 0
    breached_candidate: int = 0
    over_seconds_recorded: float = 0
    over_seconds_candidate: float = 0
    differing: int = 0
    examples: list[Example] = field(default_factory=list)

    def add(self, found: Example) -> None:
        """Take one run."""
        self.runs += 1
        self.breached_recorded += found.recorded.said == "breached"
        self.breached_candidate += found.candidate.said == "breached"
        self.over_seconds_recorded += found.recorded.over_seconds
        self.over_seconds_candidate += found.candidate.over_seconds
        if found.recorded != found.candidate:
            self.differing += 1
            if len(self.examples) < EXAMPLES_MAX:
                self.examples.append(found)


@dataclass(frozen=True, slots=True)
class Terms:
    """What changes for the candidate: targets by SLA, and by SLA and priority; the calendar of all, if it is given."""

    targets: Mapping[str, str] = field(default_factory=dict)
    by_priority: Mapping[tuple[str, str], str] = field(default_factory=dict)
    calendar: tuple[str, int] | None = None

    def applied_to(self, promised: Mapping[str, SlaTerms]) -> dict[str, SlaTerms]:
        """Return what is promised as the candidate promises it."""
        return {name: self._applied(each) for name, each in promised.items()}

    def _applied(self, terms: SlaTerms) -> SlaTerms:
        by_priority = {priority: text for (name, priority), text in self.by_priority.items() if name == terms.name}
        return replace(
            terms,
            target=self.targets.get(terms.name, terms.target),
            by_priority={**(terms.by_priority or {}), **by_priority},
            calendar=terms.calendar if self.calendar is None else self.calendar[0],
        )


@dataclass(frozen=True, slots=True)
class Past:
    """A workflow's history with what it was judged by: the definition of each version and every calendar named."""

    history: Sequence[Json]
    definitions: Mapping[int, Definition]
    calendars: Calendars
    configured: Configured = NOTHING

    def definition(self, event: Json) -> Definition:
        """Return the version of the definition that an event was decided by."""
        return self.definitions[event["definition_version"]]

    def promised(self, event: Json, workflow: Workflow) -> Mapping[str, SlaTerms]:
        """Return what was promised at an event, by what was configured when it started runs."""
        return promised(self.definition(event), self.configured.as_of(event), workflow)


def compare(past: Past, terms: Terms, figures: dict[str, Figures], now: datetime) -> None:
    """Add what a workflow's SLAs came to, as recorded and under the candidate, both as of now."""
    workflow_id = str(past.history[0]["workflow_id"])
    recorded, candidate = _recorded(past.history), replay(past, terms)
    last = fold(past.history)
    if last is None:
        return
    was = _judged(recorded, past.promised(past.history[-1], last), past.calendars, now)
    again = last._replace(slas={name: dump_record(record) for (name, _), record in sorted(candidate.items())} or None)
    under = terms.applied_to(past.promised(past.history[-1], again))
    would_be = _judged(candidate, under, past.calendars, now)
    missing = Judged(NOT_PROMISED)
    for name, run in sorted(was.keys() | would_be.keys()):
        pair = (was.get((name, run), missing), would_be.get((name, run), missing))
        figures.setdefault(name, Figures()).add(Example(workflow_id, run, *pair))


def replay(past: Past, terms: Terms) -> Runs:
    """Return every run of every SLA of a workflow as its last event would have left it under the candidate."""
    found: dict[tuple[str, int], SlaRecord] = {}
    records: dict[str, SlaRecord] = {}
    ended: dict[str, SlaRecord] = {}
    workflow: Workflow | None = None
    for event in past.history:
        workflow = evolve(workflow, event)
        slas = {name: dump_record(record) for name, record in records.items()} or None
        standing = dict(records)
        undone = ended if "undoes" in event.get("details", {}) else {}
        for name, record in _after(past, terms, event, workflow._replace(slas=slas), undone):
            records[name] = found[name, record.run] = record
        if event.get("category") == MIGRATION:
            ended = {name: each for name, each in standing.items() if each.is_open and not records[name].is_open}
    return found


def _after(
    past: Past, terms: Terms, event: Json, workflow: Workflow, undone: Mapping[str, SlaRecord]
) -> Iterator[tuple[str, SlaRecord]]:
    """Give the records that an event changes; `undone` are those that go on where it takes a migration back."""
    due = event.get("details", {}).get("step_due_at")
    if "effective_at" not in event and due is None:
        return
    under, calendars = terms.applied_to(past.promised(event, workflow)), _calendars(past, terms, event)
    if "effective_at" in event:
        made = Change(_asked(event, workflow), workflow, past.definition(event), under, calendars)
        restored = {name: dump_record(record) for name, record in undone.items()}
        for each in moves(made, read(event["effective_at"]), entered="to_state" in event, restored=restored):
            yield each.name, each.record
    else:  # a tick found this step; whatever was due by then had come
        for name, record in open_records(workflow):
            yield name, advance(record, under.get(name), calendar_of(record, calendars), read(due)).record


def _asked(event: Json, workflow: Workflow) -> Command:
    """Return the command of an event, as far as SLAs look at it."""
    details, kind = event.get("details", {}), event["event_type"]
    asked: dict[str, Any] = {"command_type": "set_priority", "priority": "any"}  # one that they do not look at
    if kind in _HOLDING:
        asked = {"command_type": _HOLDING[kind], "sla": details.get("sla")}
    elif event.get("category") == MIGRATION:
        asked = {"command_type": "migrate_workflow", "to_version": event["definition_version"]}
    elif kind == "DUE_DATE_CHANGED":
        asked = {"command_type": "set_due_date", "due_at": None}  # the workflow has it
    elif kind == "SLA_EXTENDED":
        asked = {"command_type": "extend_sla", "sla": details["sla"], "seconds": details["seconds"]}
    about = {"command_id": UUID(event["event_id"]), "workflow_id": workflow.workflow_id, "reason": kind}
    return COMMANDS.validate_python(asked | about)


def _calendars(past: Past, terms: Terms, event: Json) -> Calendars:
    """Return calendars in which the newest of each is the one that was the newest then, or the candidate's."""
    found = dict(past.calendars)
    for body in event.get("slas", {}).values():
        record = parse_record(body)
        if record.calendar is not None:
            found[record.calendar, None] = found[record.calendar, record.calendar_version]
    if terms.calendar is not None:
        found[terms.calendar[0], None] = found[terms.calendar]
    return found


def _recorded(history: Sequence[Json]) -> Runs:
    found = {}
    for event in history:
        for name, body in event.get("slas", {}).items():
            record = parse_record(body)
            found[name, record.run] = record
    return found


def _judged(
    runs: Runs, promised: Mapping[str, SlaTerms], calendars: Calendars, now: datetime
) -> dict[tuple[str, int], Judged]:
    found = {}
    for (name, run), record in runs.items():
        calendar = calendar_of(record, calendars)
        whole = reckoned(advance(record, promised.get(name), calendar, now).record, calendar, now)
        if whole.breached_at is not None:
            found[name, run] = Judged("breached", seconds(overrun(whole, calendar)))
        else:
            found[name, run] = Judged("open" if whole.is_open else "met")
    return found
