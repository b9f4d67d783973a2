"""What a decision is made in and what it comes to: circumstances, facts, a change or a refusal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from contracts.commands import Command
from domain.ids import event_id
from domain.instants import written
from domain.rejections import Refusal
from domain.workflow import Workflow


class Circumstances(NamedTuple):
    """What a decision is made in: when, under which incarnation of the partition, in which conversation.

    `now` is as `domain.instants` writes it, `command_id` the command's as text: each is written many times.
    """

    now: str
    incarnation: UUID
    command_id: str
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What only the store can see: ids taken elsewhere, and room under `max_open` by definition; empty until told."""

    taken: Mapping[str, str] = field(default_factory=dict)
    room: Mapping[str, int] = field(default_factory=dict)


class Accepted(NamedTuple):
    """A change: its events in order, the workflow after them, and by how much it changed the number of open ones.

    The first event is the change that was asked for, others come of it. `alerts` tell people, `follow_ups` are
    commands that the service sends to itself, each as plain JSON.
    """

    events: tuple[dict[str, Any], ...]
    workflow: Workflow
    open_delta: int
    alerts: tuple[dict[str, Any], ...] = ()
    follow_ups: tuple[dict[str, Any], ...] = ()


Decision = Accepted | Refusal


def event_of(command: Command, circumstances: Circumstances, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a command's event as it is written: fields without a value are left out."""
    return _completed(fields, command, circumstances)


def change_of(workflow: Workflow, command: Command, circumstances: Circumstances, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the event of a command that changes a workflow: its next one, of its next version."""
    fields["workflow_id"] = workflow.workflow_id
    fields["root_id"] = workflow.root_id
    fields["sequence"] = workflow.sequence + 1
    fields["version"] = workflow.version + 1
    fields["definition"] = workflow.definition
    fields.setdefault("definition_version", workflow.definition_version)
    return _completed(fields, command, circumstances)


def _completed(fields: dict[str, Any], command: Command, circumstances: Circumstances) -> dict[str, Any]:
    fields["event_id"] = event_id(circumstances.incarnation, fields["workflow_id"], fields["sequence"])
    fields["timestamp"] = circumstances.now
    fields["command_id"] = fields["causation_id"] = circumstances.command_id
    fields["correlation_id"] = circumstances.correlation_id or circumstances.command_id
    fields["severity"] = "info"
    if command.requested_by is not None:
        fields["actor"] = command.requested_by
    if command.reason is not None:
        fields["reason"] = command.reason
    if command.tenant is not None:
        fields["tenant"] = command.tenant
    if command.occurred_at is not None:
        fields["occurred_at"] = written(command.occurred_at)
    return fields
