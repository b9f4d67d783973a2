"""What a change of a workflow means for its SLAs, and what time alone does: their events, alerts and follow-ups.

Both go by `domain.sla`'s records. The records that an event changes are part of it, so that folding a history needs
neither definition nor calendar.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any, NamedTuple

from contracts.commands import Command, ExtendSla, MigrateWorkflow, PauseSla, ResumeSla, SetDueDate
from contracts.rejections import Code
from domain.calendar import Calendar
from domain.decision import Accepted, Circumstances, Decision
from domain.definition import Definition
from domain.evolve import SLA, evolve, with_slas
from domain.ids import event_id, follow_up_id
from domain.instants import read, written
from domain.migration import ENDED, RESTORED
from domain.rejections import Refusal, refusal
from domain.sla import (
    AT_RISK,
    BREACHED,
    FIRST_RUNG,
    Calendars,
    Followed,
    SlaRecord,
    Step,
    account_of,
    advance,
    begin,
    calendar_of,
    change,
    dump_record,
    end,
    open_records,
    parse_record,
    target_of,
)
from domain.sla_commands import impossible
from domain.sla_terms import Rung, SlaTerms
from domain.workflow import Workflow

MET = "SLA_MET"
SERVICE = "turnstile"
"""Who asks for what a ladder asks for."""


class Change(NamedTuple):
    """A change as SLAs see it: by which command, and the workflow after it.

    Then come the version of the definition that the workflow is on then, and what is promised to it.
    """

    command: Command
    workflow: Workflow
    definition: Definition
    terms: Mapping[str, SlaTerms]
    calendars: Calendars


class Moved(NamedTuple):
    """One SLA that a change or time moved: as it stands now, and the steps it took."""

    name: str
    terms: SlaTerms | None
    record: SlaRecord
    steps: tuple[Step, ...]

    @property
    def met(self) -> bool:
        """Whether it has just ended in time."""
        return not self.record.is_open and self.record.breached_at is None


def attend(accepted: Accepted, made: Change, *, at: datetime, circumstances: Circumstances) -> Decision:
    """Return a change with what it means for the workflow's SLAs, or why it may not be; `at` is when it counts."""
    if not made.terms and made.workflow.slas is None:
        return accepted
    objection = _objection(made, at)
    if objection is not None:
        return objection
    first, workflow = dict(accepted.events[0]), made.workflow
    restored = restored_by(first)
    moved = tuple(moves(made, at, entered="to_state" in first, restored=restored))
    if moved:
        first["slas"] = {each.name: dump_record(each.record) for each in moved}
        ended = {each.name: (workflow.slas or {}).get(each.name) for each in moved if not each.record.is_open}
        if ended and isinstance(made.command, MigrateWorkflow) and not made.command.undo:
            first["details"] = {**first["details"], ENDED: ended}
        workflow = with_slas(workflow, first)
    first["effective_at"] = written(at)
    return _told((first,), workflow, moved, circumstances, open_delta=accepted.open_delta)


def restored_by(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the records that go on by an event, which takes back the migration that had ended them."""
    found: Mapping[str, Any] = event.get("details", {}).get(RESTORED, {})
    return found


def lapse(
    workflow: Workflow,
    terms: Mapping[str, SlaTerms],
    *,
    until: datetime,
    calendars: Calendars,
    circumstances: Circumstances,
) -> tuple[Accepted, list[timedelta]] | None:
    """Take the steps of a workflow's SLAs that are due up to an instant; None where there is none.

    Returned beside the change is for each step how long before the decision it was due.
    """
    found = []
    for name, record in open_records(workflow):
        under = terms.get(name)
        followed = advance(record, under, calendar_of(record, calendars), until)
        if followed.steps:
            found.append(Moved(name, under, *followed))
    if not found:
        return None
    now = read(circumstances.now)
    late = [now - read(step.due_at) for each in found for step in each.steps]
    return _told((), workflow, tuple(found), circumstances, open_delta=0), late


def moves(made: Change, at: datetime, *, entered: bool, restored: Mapping[str, Any]) -> Iterator[Moved]:
    """Give each SLA that a change moves, ends or starts; a state is `entered` also where it is the same again.

    The records in `restored` take the places of those that a migration, now undone, had ended.
    """
    workflow, definition = made.workflow, made.definition
    standing = workflow.slas or {}
    records = {name: parse_record(body) for name, body in {**standing, **restored}.items()}
    for name, record in records.items():
        if record.is_open:
            terms = made.terms.get(name)
            followed = _followed(made, name, record, max(at, read(record.since)))
            if followed.record != record or name in restored:
                yield Moved(name, terms, *followed)
    for name, terms in made.terms.items() if entered else ():
        old = records.get(name)
        starts = workflow.state in terms.starts and workflow.state not in terms.stops
        if starts and (old is None or not old.is_open) and terms.promised_to(workflow):
            account = account_of(definition.states[workflow.state].category)
            run, when = (1, at) if old is None else (old.run + 1, max(at, read(old.since)))
            yield Moved(name, terms, *begin(terms, workflow, made.calendars, when, account=account, run=run))


def _objection(made: Change, at: datetime) -> Refusal | None:
    """Say why a change may not be, which only the instant when it counts and the calendars of its SLAs can tell."""
    if isinstance(made.command, ExtendSla):
        slas = {
            name: dump_record(advance(record, made.terms.get(name), calendar_of(record, made.calendars), at).record)
            for name, record in open_records(made.workflow)
        }
        return impossible(made.command, made.workflow._replace(slas=slas), made.definition)
    if isinstance(made.command, MigrateWorkflow):
        for name, record in open_records(made.workflow):
            calendar = calendar_of(record, made.calendars)
            untold = made.terms[name].untold(calendar.working_day) if name in made.terms else None
            if untold is not None:
                return _untold(made, name, calendar, untold)
    return None


def _untold(made: Change, name: str, calendar: Calendar, problem: str) -> Refusal:
    under = f"{calendar.name} version {calendar.version}"
    return refusal(
        Code.INVALID_TRANSITION,
        f"SLA {name} of {made.workflow.workflow_id} goes on under calendar {under}: {problem}",
        clause=f"calendar {under} tells every time of SLA {name}",
        values={"sla": name, "calendar": calendar.name, "calendar_version": calendar.version},
    )


def _followed(made: Change, name: str, record: SlaRecord, at: datetime) -> Followed:
    """Return what becomes of one open record."""
    command, workflow, definition, promised, calendars = made
    terms = promised.get(name)
    calendar = calendar_of(record, calendars)
    stops = definition.terminal if terms is None else terms.stops
    if workflow.state in stops:
        return end(record, terms, calendar, at)
    record, passed = advance(record, terms, calendar, at)
    # A definition that no longer promises it holds it: another migration may bring it back.
    fields: dict[str, Any] = {
        "held": terms is None or workflow.state in terms.holds,
        "doing": account_of(definition.states[workflow.state].category),
    }
    if isinstance(command, PauseSla | ResumeSla) and command.sla in (None, name) and record.target_seconds is not None:
        fields["paused"] = isinstance(command, PauseSla)
    elif isinstance(command, ExtendSla) and command.sla == name and record.breached_at is None:
        fields["extended_seconds"] = record.extended_seconds + command.seconds
    elif isinstance(command, SetDueDate) and record.target_seconds is None and record.breached_at is None:
        fields["due_at"] = workflow.due_at
    if terms is not None:
        fields["target_seconds"] = target_of(terms, record, calendar, workflow.priority)
    same = all(getattr(record, field) == value for field, value in fields.items())
    if same and not isinstance(command, MigrateWorkflow):
        return Followed(record, passed)
    changed = change(record, terms, calendar, at, fields)
    return Followed(changed.record, passed + changed.steps)


def _told(
    events: tuple[dict[str, Any], ...],
    workflow: Workflow,
    moved: tuple[Moved, ...],
    circumstances: Circumstances,
    *,
    open_delta: int,
) -> Accepted:
    """Add the events of steps and of SLAs that were met, in the order of time, with whom to tell and what to ask."""
    told = list(events)
    alerts: list[dict[str, Any]] = []
    follow_ups: list[dict[str, Any]] = []
    loudest = {each.name: _loudest(each) for each in moved}
    due = [
        (when, step, each)
        for each in moved
        for step, when in zip(each.steps, accumulate((step.due_at for step in each.steps), max), strict=True)
    ]
    for _, step, each in sorted(due, key=lambda found: found[0]):
        event = _step_event(workflow, each, step, circumstances)
        workflow = evolve(workflow, event)
        told.append(event)
        if step.number == loudest[each.name]:
            alerts.append(_alert(workflow, each, step, event))
        if each.record.is_open and step.number >= FIRST_RUNG:
            follow_ups.extend(_asked(workflow, each, step, event))
    for each in moved:
        if each.met:
            event = _met_event(workflow, each, circumstances)
            workflow = evolve(workflow, event)
            told.append(event)
    return Accepted(tuple(told), workflow, open_delta, tuple(alerts), tuple(follow_ups))


def _loudest(moved: Moved) -> int | None:
    """Return the highest step to tell people of; none where there is nothing left to worry about."""
    telling = [step.number for step in moved.steps if step.number < FIRST_RUNG or _rung_alert(moved, step) is not None]
    return None if moved.met or not telling else telling[-1]


def _rung(moved: Moved, step: Step) -> Rung | None:
    """Return the rung that a step is; None also where the ladder is no longer promised, or is shorter by now."""
    return None if step.number < FIRST_RUNG or moved.terms is None else moved.terms.rung(step.number - FIRST_RUNG)


def _rung_alert(moved: Moved, step: Step) -> str | None:
    rung = _rung(moved, step)
    return None if rung is None else rung.alert


def _step_event(workflow: Workflow, moved: Moved, step: Step, circumstances: Circumstances) -> dict[str, Any]:
    event_type, severity, message = _what(moved, step)
    details: dict[str, Any] = {"sla": moved.name, "step_due_at": step.due_at}
    if step.number >= FIRST_RUNG:
        details["rung"] = step.number - FIRST_RUNG + 1
    return _event(
        workflow,
        circumstances,
        event_type=event_type,
        severity=severity,
        message=message,
        details=details,
        slas={moved.name: dump_record(_in_order(step, moved))},
    )


def _what(moved: Moved, step: Step) -> tuple[str, str, str]:
    """Return the type, the severity and the message of a step's event."""
    sla, rung = f"SLA {moved.name}", step.number - FIRST_RUNG + 1
    if step.number == AT_RISK:
        return "SLA_AT_RISK", "warning", f"{sla} is at risk: it is due at {step.record.due_at}"
    if step.number == BREACHED:
        return "SLA_BREACHED", "error", f"{sla} is breached: it was due at {step.due_at}"
    if _rung(moved, step) is None:
        return "ESCALATION_ENDED", "info", f"{sla} climbs no further: rung {rung} of its ladder is promised no more"
    return "ESCALATION_TRIGGERED", "critical", f"{sla} has been breached long enough for rung {rung} of its ladder"


def _in_order(step: Step, moved: Moved) -> SlaRecord:
    """Return the record to write with a step: the last one's is the record as it stands."""
    return moved.record if step is moved.steps[-1] else step.record


def _met_event(workflow: Workflow, moved: Moved, circumstances: Circumstances) -> dict[str, Any]:
    return _event(
        workflow,
        circumstances,
        event_type=MET,
        severity="info",
        message=f"SLA {moved.name} is met",
        details={"sla": moved.name},
        slas={moved.name: dump_record(moved.record)},
    )


def _event(workflow: Workflow, circumstances: Circumstances, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return an event that no command asked for; one that comes of a command's change says which."""
    fields["sequence"] = workflow.sequence + 1
    fields["event_id"] = event_id(circumstances.incarnation, workflow.workflow_id, fields["sequence"])
    fields["workflow_id"] = workflow.workflow_id
    fields["root_id"] = workflow.root_id
    fields["category"] = SLA
    fields["definition"] = workflow.definition
    fields["definition_version"] = workflow.definition_version
    fields["version"] = workflow.version
    fields["timestamp"] = circumstances.now
    if workflow.tenant is not None:
        fields["tenant"] = workflow.tenant
    if circumstances.command_id:
        fields["command_id"] = fields["causation_id"] = circumstances.command_id
        fields["correlation_id"] = circumstances.correlation_id or circumstances.command_id
    return fields


def _alert(workflow: Workflow, moved: Moved, step: Step, event: Mapping[str, Any]) -> dict[str, Any]:
    alert = {
        "alert_id": follow_up_id(event["event_id"], "alert", 0),
        "event_id": event["event_id"],
        "workflow_id": workflow.workflow_id,
        "root_id": workflow.root_id,
        "kind": event["event_type"],
        "severity": event["severity"],
        "message": event["message"],
        "to": _rung_alert(moved, step),
        "sla": moved.name,
        "rung": event["details"].get("rung"),
        "due_at": moved.record.due_at,
        "definition": workflow.definition,
        "state": workflow.state,
        "tenant": workflow.tenant,
        "name": workflow.name,
        "service_area": workflow.service_area,
        "priority": workflow.priority,
        "impact": moved.record.impact,
        "timestamp": event["timestamp"],
    }
    return {name: value for name, value in alert.items() if value is not None}


def _asked(workflow: Workflow, moved: Moved, step: Step, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the commands that a rung asks for."""
    rung = _rung(moved, step)
    if rung is None:
        return
    asked = []
    if rung.priority is not None and rung.priority != workflow.priority:
        asked.append({"command_type": "set_priority", "priority": rung.priority})
    if rung.transition is not None:
        asked.append({"command_type": "request_transition", "transition": rung.transition})
    for index, fields in enumerate(asked, start=1):
        command = {
            "command_id": follow_up_id(event["event_id"], "rung", index),
            "workflow_id": workflow.workflow_id,
            "root_id": workflow.root_id,
            "tenant": workflow.tenant,
            "requested_by": SERVICE,
            "reason": event["message"],
            "occurred_at": event["timestamp"],
            **fields,
        }
        yield {name: value for name, value in command.items() if value is not None}
