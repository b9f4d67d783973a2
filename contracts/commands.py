"""What producers ask for: one model per command type, told apart by `command_type`.

Unknown fields are ignored, so that an older worker reads a newer producer's command.
"""

from typing import Annotated, Literal, Self, get_args
from uuid import UUID

from pydantic import ConfigDict, Field, TypeAdapter, model_validator

from contracts.envelope import Contract, Id, Instant, JsonObject, Name, Text


class CommandFields(Contract):
    """What every command carries.

    `command_id` is the idempotency key within its root. `root_id` defaults to the workflow itself.
    `expires_at` is an instant after which the command must not be decided any more, `not_before` one before which it
    must not: it waits aside, keeps nothing else waiting, and comes into the order of commands when its time has come.
    """

    command_id: UUID
    workflow_id: Id
    root_id: Id | None = None
    tenant: Name | None = None
    expected_version: int | None = Field(default=None, ge=1, lt=2**63)
    reason: Text | None = None
    requested_by: Name | None = None
    context: JsonObject = Field(default_factory=dict)
    submitted_at: Instant | None = None
    occurred_at: Instant | None = None
    expires_at: Instant | None = None
    not_before: Instant | None = None


class CreateWorkflow(CommandFields):
    """Create a workflow in its definition's initial state; the latest version unless one is named."""

    command_type: Literal["create_workflow"]
    definition: Name
    definition_version: int | None = Field(default=None, ge=1, lt=2**31)
    name: Name | None = None
    type: Name | None = None
    service_area: Name | None = None
    owner: Name | None = None
    priority: Name | None = None
    due_at: Instant | None = None
    estimated_seconds: float | None = Field(default=None, ge=0, lt=2**63, allow_inf_nan=False)
    metadata: JsonObject | None = None
    input: JsonObject | None = None


class RequestTransition(CommandFields):
    """Move a workflow to `target_state`, or along the named `transition`: exactly one of the two."""

    # The validator below, as a reader of the JSON Schema sees it.
    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [name], "properties": {name: {"type": "string"}}}
                for name in ("target_state", "transition")
            ]
        }
    )

    command_type: Literal["request_transition"]
    target_state: Name | None = None
    transition: Name | None = None
    output: JsonObject | None = None
    error: Text | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.target_state is None) == (self.transition is None):
            raise ValueError("give exactly one of target_state and transition")
        return self


class RecoverWorkflow(CommandFields):
    """Take the transition named `recover`."""

    command_type: Literal["recover_workflow"]


class UpdateMetadata(CommandFields):
    """Merge `metadata` into the workflow's as an RFC 7396 merge patch: null removes a key."""

    command_type: Literal["update_metadata"]
    metadata: JsonObject


class MigrateWorkflow(CommandFields):
    """Move a workflow to another version of its definition, or undo the migration that was its last change.

    Exactly one of `to_version` and `undo: true`. `states` maps the states of the workflow's version to those of the
    other one; a state it does not name keeps its name.
    """

    # The validator below, as a reader of the JSON Schema sees it.
    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": ["to_version"],
                    "properties": {"to_version": {"type": "integer"}, "undo": {"const": False}},
                },
                {
                    "required": ["undo"],
                    "properties": {
                        "to_version": {"type": "null"},
                        "states": {"maxProperties": 0},
                        "undo": {"const": True},
                    },
                },
            ]
        }
    )

    command_type: Literal["migrate_workflow"]
    reason: Annotated[Text, Field(min_length=1)]
    to_version: int | None = Field(default=None, ge=1, lt=2**31)
    states: dict[Name, Name] = Field(default_factory=dict)
    undo: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.to_version is None) != self.undo:
            raise ValueError("give exactly one of to_version and undo: true")
        if self.undo and self.states:
            raise ValueError("an undo goes back to the state before: it takes no states")
        return self


class PauseSla(CommandFields):
    """Hold an SLA by hand, all that are open unless one is named, until `resume_sla`."""

    command_type: Literal["pause_sla"]
    reason: Annotated[Text, Field(min_length=1)]
    sla: Name | None = None


class ResumeSla(CommandFields):
    """Let an SLA run on that was paused, all of them unless one is named."""

    command_type: Literal["resume_sla"]
    reason: Annotated[Text, Field(min_length=1)]
    sla: Name | None = None


class ExtendSla(CommandFields):
    """Promise `seconds` more of working time: the due instant of an open SLA moves, one that is breached stays so."""

    command_type: Literal["extend_sla"]
    reason: Annotated[Text, Field(min_length=1)]
    sla: Name
    seconds: float = Field(gt=0, le=315_360_000, allow_inf_nan=False)


class SetPriority(CommandFields):
    """Give a workflow a priority; SLAs whose target depends on it keep the time they have spent."""

    command_type: Literal["set_priority"]
    priority: Name


class SetDueDate(CommandFields):
    """Move a workflow's due date, or take it away with null; SLAs that are due then move with it."""

    command_type: Literal["set_due_date"]
    due_at: Instant | None


SlaCommand = PauseSla | ResumeSla | ExtendSla
Command = (
    CreateWorkflow
    | RequestTransition
    | RecoverWorkflow
    | UpdateMetadata
    | MigrateWorkflow
    | PauseSla
    | ResumeSla
    | ExtendSla
    | SetPriority
    | SetDueDate
)
AnyCommand = Annotated[Command, Field(discriminator="command_type")]
COMMAND_MODELS: tuple[type[Command], ...] = (
    CreateWorkflow,
    RequestTransition,
    RecoverWorkflow,
    UpdateMetadata,
    MigrateWorkflow,
    PauseSla,
    ResumeSla,
    ExtendSla,
    SetPriority,
    SetDueDate,
)
COMMAND_TYPES: dict[str, type[Command]] = {
    get_args(model.model_fields["command_type"].annotation)[0]: model for model in COMMAND_MODELS
}
COMMANDS: TypeAdapter[Command] = TypeAdapter(AnyCommand)
# A model's own `model_dump` takes twice as long to come to this.
_WRITERS = {model: TypeAdapter(model).serializer.to_python for model in COMMAND_MODELS}


def plain(command: Command) -> JsonObject:
    """Return a command as plain JSON; fields without a value are left out."""
    written: JsonObject = _WRITERS[type(command)](command, mode="json", exclude_none=True)
    return written
