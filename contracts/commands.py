"""What producers ask for: one model per command type, told apart by `command_type`.

Unknown fields are ignored, so that an older worker reads a newer producer's command.
"""

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, TypeAdapter, model_validator

from contracts.envelope import Contract, Id, Instant, JsonObject, Name, Text


class CommandFields(Contract):
    """What every command carries.

    `command_id` is the idempotency key within its root. `root_id` defaults to the workflow itself.
    `expires_at` is an instant after which the command must not be decided any more.
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
    estimated_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
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


Command = CreateWorkflow | RequestTransition | RecoverWorkflow | UpdateMetadata
AnyCommand = Annotated[Command, Field(discriminator="command_type")]
COMMAND_MODELS: tuple[type[Command], ...] = (CreateWorkflow, RequestTransition, RecoverWorkflow, UpdateMetadata)
COMMANDS: TypeAdapter[Command] = TypeAdapter(AnyCommand)
