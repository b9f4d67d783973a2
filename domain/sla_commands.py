"""Whether a command that moves a promise is accepted: an SLA held, let go or extended, a priority, a due date."""

from typing import Any

from contracts.commands import ExtendSla, PauseSla, ResumeSla, SetDueDate, SetPriority
from contracts.rejections import Code
from domain.decision import Accepted, Circumstances, Decision, change_of
from domain.definition import Definition
from domain.evolve import SLA, evolve
from domain.instants import written
from domain.rejections import Refusal, allowed_now, refusal
from domain.sla import SlaRecord, open_records
from domain.workflow import Workflow

TimeCommand = PauseSla | ResumeSla | ExtendSla | SetPriority | SetDueDate

_EVENT_TYPES = {"pause_sla": "SLA_PAUSED", "resume_sla": "SLA_RESUMED", "extend_sla": "SLA_EXTENDED"}


def decide_time(
    command: TimeCommand,
    workflow: Workflow,
    definition: Definition,
    *,
    stale: Refusal | None,
    circumstances: Circumstances,
) -> Decision:
    """Decide a command that changes no state; `stale` is the refusal of one that expects another version."""
    if workflow.state in definition.terminal:
        return refusal(
            definition.terminal_code,
            f"{workflow.workflow_id} is {workflow.state}: nothing is promised any more",
            clause="state is not terminal",
            values={"state": workflow.state},
            allowed=(),
        )
    if stale is not None:
        return stale
    if isinstance(command, SetPriority):
        changed = {"priority": command.priority}
        return _changed(command, workflow, circumstances, "PRIORITY_CHANGED", f"priority {command.priority}", changed)
    if isinstance(command, SetDueDate):
        due = None if command.due_at is None else written(command.due_at)
        said = "no due date" if due is None else f"due at {due}"
        return _changed(command, workflow, circumstances, "DUE_DATE_CHANGED", said, {"due_at": due})
    return impossible(command, workflow, definition) or _of_sla(command, workflow, circumstances)


def impossible(command: PauseSla | ResumeSla | ExtendSla, workflow: Workflow, definition: Definition) -> Refusal | None:
    """Refuse what changes nothing: no open SLA of that name, one that is paused already, one that is breached."""
    records = dict(open_records(workflow))
    named = [record for name, record in records.items() if command.sla in (None, name)]
    if any(_changes(command, record) for record in named):
        return None
    if named:
        problem = {
            "pause_sla": "is paused already, or due at a date, which does not wait",
            "resume_sla": "is not paused",
            "extend_sla": "is breached already, or due at a date: move the due date",
        }[command.command_type]
    else:
        problem = "is not open"
    return refusal(
        Code.INVALID_TRANSITION,
        f"{'no SLA can be changed so: each' if command.sla is None else f'SLA {command.sla}'} {problem}",
        clause=f"an SLA is open that {command.command_type} changes",
        values={"slas": {name: record.status for name, record in records.items()}},
        allowed=allowed_now(definition, workflow),
    )


def _changes(command: PauseSla | ResumeSla | ExtendSla, record: SlaRecord) -> bool:
    if record.target_seconds is None:
        return False
    if isinstance(command, ExtendSla):
        return record.breached_at is None
    return record.paused is not isinstance(command, PauseSla)


def _of_sla(command: PauseSla | ResumeSla | ExtendSla, workflow: Workflow, circumstances: Circumstances) -> Accepted:
    details: dict[str, Any] = {} if command.sla is None else {"sla": command.sla}
    if isinstance(command, ExtendSla):
        details["seconds"] = int(command.seconds) if command.seconds.is_integer() else command.seconds
    event_type = _EVENT_TYPES[command.command_type]
    message = f"{command.sla or 'every SLA'}: {event_type.removeprefix('SLA_').lower()}"
    return _accepted(
        command, workflow, circumstances, event_type=event_type, category=SLA, message=message, details=details
    )


def _changed(
    command: TimeCommand,
    workflow: Workflow,
    circumstances: Circumstances,
    event_type: str,
    message: str,
    changed: dict[str, Any],
) -> Accepted:
    details = {"changed": changed}
    return _accepted(
        command, workflow, circumstances, event_type=event_type, category="metadata", message=message, details=details
    )


def _accepted(command: TimeCommand, workflow: Workflow, circumstances: Circumstances, **fields: Any) -> Accepted:  # noqa: ANN401
    event = change_of(
        workflow,
        command,
        circumstances,
        **fields,
    )
    return Accepted((event,), evolve(workflow, event), 0)
