"""The published shape of a definition document: a versioned state machine as data.

Its JSON Schema serves editors; what the shape cannot say (names that must exist, one initial state) is checked in
`domain.definition`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    StrictBool,
    StrictInt,
    StringConstraints,
    Tag,
    model_validator,
)

from contracts.clauses import Clause, DefinitionName, Label, Prose
from contracts.policies import PolicyName
from contracts.slas import SLAS_MAX, SlaDocument

# An event type becomes a CloudEvents header and often a class name.
EventType = Annotated[str, StringConstraints(strict=True, max_length=100, pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$")]
Expression = Annotated[str, StringConstraints(strict=True, min_length=1)]


# A field of the command that a transition may insist on; below context and output any path of keys.
RequiredField = Annotated[
    str,
    StringConstraints(
        strict=True,
        max_length=200,
        pattern=r"^(reason|requested_by|expected_version|occurred_at|expires_at|error|output"
        r"|(context|output)(\.[^.\s\x00-\x1f\x7f]+)+)$",
    ),
]

GUARD_LANGUAGES = ("cel", "jsonlogic", "remote", "python")


class StateDocument(Clause):
    """A state; without clauses it is neither initial nor terminal."""

    initial: StrictBool = False
    """Workflows start here; exactly one state is initial."""
    terminal: StrictBool = False
    """A workflow that comes here has ended: no transition leaves it, and it does not count as open."""
    category: Label | None = Field(default=None, examples=["open", "running", "waiting", "done", "failed", "cancelled"])
    """Groups states of different definitions for reports; the time of SLAs in `waiting` and `person` is told apart."""
    description: Prose | None = None
    """What the state means, for people."""


class GuardDocument(Clause):
    """A guard that names its language: exactly one of them."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in GUARD_LANGUAGES]
        }
    )

    cel: Expression | None = Field(default=None, examples=["command.context.amount <= 100"])
    """A CEL expression; it sees workflow, command, actor, children, slas and now, and only true opens."""
    jsonlogic: JsonValue = Field(default=None, examples=[{"<=": [{"var": "command.context.amount"}, 100]}])
    """A JSONLogic rule as it is; it sees what CEL sees, and only true opens."""
    remote: PolicyName | None = Field(default=None, examples=["shop/pay"])
    """The name of a policy that the engine of the service's settings judges."""
    python: Expression | None = Field(default=None, examples=["amount <= 100 and risk == 'low'"])
    """A condition in Python's words, translated to CEL; a bare name is a field of command.context."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(getattr(self, name) is not None for name in GUARD_LANGUAGES) != 1:
            raise ValueError(f"give exactly one of {', '.join(GUARD_LANGUAGES)}")
        return self


def _kind_of_guard(value: Any) -> str:  # noqa: ANN401 - whatever the document holds
    return "engine" if isinstance(value, dict | GuardDocument) else "text"


def _kind_of_source(value: Any) -> str:  # noqa: ANN401 - whatever the document holds
    return "list" if isinstance(value, list | tuple) else "one"


Source = Annotated[
    Annotated[Label, Tag("one")] | Annotated[tuple[Label, ...], Field(min_length=1), Tag("list")],
    Discriminator(_kind_of_source),
]
GuardClause = Annotated[
    Annotated[Expression, Tag("text")] | Annotated[GuardDocument, Tag("engine")], Discriminator(_kind_of_guard)
]


class TransitionDocument(Clause):
    """A named way from one state, or each of several, to another."""

    name: Label
    """What commands call it; unique among the transitions that leave a state. `recover_workflow` takes `recover`."""
    source: Source = Field(alias="from")
    """The state that it leaves, or a list of them."""
    target: Label = Field(alias="to")
    """The state that it leads to."""
    guard: GuardClause | None = Field(default=None, examples=["command.context.paid == true"])
    """What has to be true, asked at each command: a CEL text, or a mapping that names the language."""
    required: Annotated[tuple[RequiredField, ...], Field(max_length=100)] = Field(
        default=(), examples=[["reason", "context.result", "output.report"]]
    )
    """Fields of the command that may be neither absent nor null."""
    retry: StrictBool = False
    """Whether it raises retry_count, and is refused once limits.max_retries are spent."""
    description: Prose | None = None
    """When it is taken, for people."""


class EventsDocument(Clause):
    """How events are named."""

    prefix: DefinitionName | None = None
    """Stands before the event type in ce_type; the definition's name up to its first dot, unless given."""
    created: EventType = "CREATED"
    """The type of a workflow's first event."""
    transition: EventType = "TRANSITION"
    """The type of a transition's event that has none in by_transition."""
    metadata_updated: EventType = "METADATA_UPDATED"
    """The type of a metadata change's event."""
    by_transition: dict[Label, EventType] = Field(
        default_factory=dict, json_schema_extra={"additionalProperties": False}, examples=[{"close": "ORDER_CLOSED"}]
    )
    """Event types by the transition's name."""


class LimitsDocument(Clause):
    """What is bounded; absent means no limit."""

    max_open: Annotated[StrictInt, Field(ge=1, lt=2**63)] | None = None
    """How many workflows may be in a state that is not terminal, over all partitions."""
    max_retries: Annotated[StrictInt, Field(ge=0, lt=2**31)] | None = None
    """How many transitions with retry: true one workflow may take."""


class RefusalsDocument(Clause):
    """By which code a command is refused, where clients of a definition know another than the usual one."""

    terminal_state: Literal["TERMINAL_STATE", "INVALID_TRANSITION"] = "TERMINAL_STATE"
    """The code for a command to a workflow that has ended."""


class DefinitionDocument(Clause):
    """A state machine as data; immutable once applied."""

    model_config = ConfigDict(title="Turnstile definition")

    name: DefinitionName = Field(examples=["shop.order"])
    """Lower-case words joined by dots."""
    version: Annotated[StrictInt, Field(ge=1, lt=2**31)]
    """A changed definition is a new version; workflows stay on theirs."""
    kind: Literal["workflow", "task"] = "workflow"
    """Whether its workflows are tasks."""
    description: Prose | None = None
    """What it is for, for people."""
    states: dict[Label, StateDocument | None] = Field(
        min_length=1, json_schema_extra={"additionalProperties": False}, examples=[{"NEW": {"initial": True}}]
    )
    """The states by name; exactly one is initial."""
    transitions: tuple[TransitionDocument, ...] = ()
    """The ways between states; what is not here does not happen."""
    on_unavailable: Literal["reject", "wait"] = "reject"
    """What becomes of a command whose guard cannot tell: refused as PREDICATE_UNAVAILABLE, or parked."""
    events: EventsDocument = Field(default_factory=EventsDocument)
    """How its events are named."""
    limits: LimitsDocument = Field(default_factory=LimitsDocument)
    """What is bounded."""
    refusals: RefusalsDocument = Field(default_factory=RefusalsDocument)
    """Codes that clients know by another name."""
    slas: Annotated[tuple[SlaDocument, ...], Field(max_length=SLAS_MAX)] = ()
    """What is promised in time."""
    metadata_default: dict[str, JsonValue] = Field(default_factory=dict, examples=[{"type": "LIMS_WORKFLOW"}])
    """The metadata of a workflow whose creation brings none."""
