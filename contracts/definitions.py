"""The published shape of a definition document: a versioned state machine as data.

Its JSON Schema serves editors; what the shape cannot say (names that must exist, one initial state) is checked in
`domain.definition`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
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
from pydantic_core import PydanticCustomError

DefinitionName = Annotated[
    str, StringConstraints(strict=True, max_length=200, pattern=r"^[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)*$")
]
# A state or transition is often named by people ("Take in charge ticket"): any printable text without outer blanks.
Label = Annotated[
    str,
    StringConstraints(
        strict=True, max_length=200, pattern=r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?$"
    ),
]
# An event type becomes a CloudEvents header and often a class name.
EventType = Annotated[str, StringConstraints(strict=True, max_length=100, pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$")]
Prose = Annotated[str, StringConstraints(strict=True, max_length=4000)]
Expression = Annotated[str, StringConstraints(strict=True, min_length=1)]


class Clause(BaseModel):
    """A part of the document; a key it does not know is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StateDocument(Clause):
    """A state; `category` groups states of different definitions for reports."""

    initial: StrictBool = False
    terminal: StrictBool = False
    category: Label | None = None
    description: Prose | None = None


class GuardDocument(Clause):
    """A guard that names its engine: exactly one of its keys; `jsonlogic` holds a rule as it is, any JSON."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["cel"]}, {"required": ["jsonlogic"]}]})

    cel: Expression = ""
    jsonlogic: JsonValue = None

    @model_validator(mode="after")
    def _names_one_engine(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise PydanticCustomError("engines", "a guard has exactly one engine: cel or jsonlogic")
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
    """A named way from one state, or each of several, to another; a plain string as guard is CEL."""

    name: Label
    source: Source = Field(alias="from")
    target: Label = Field(alias="to")
    guard: GuardClause | None = None
    description: Prose | None = None


class EventsDocument(Clause):
    """How events are named; `prefix` defaults to the definition's name up to its first dot."""

    prefix: DefinitionName | None = None
    created: EventType = "CREATED"
    transition: EventType = "TRANSITION"
    metadata_updated: EventType = "METADATA_UPDATED"
    by_transition: dict[Label, EventType] = Field(default_factory=dict)


class LimitsDocument(Clause):
    """`max_open` bounds the workflows that are not in a terminal state; absent means no limit."""

    max_open: Annotated[StrictInt, Field(ge=1, lt=2**63)] | None = None


class DefinitionDocument(Clause):
    """A definition as its author writes it; `on_unavailable` says what becomes of a command whose guard cannot tell."""

    model_config = ConfigDict(title="Turnstile definition")

    name: DefinitionName
    version: Annotated[StrictInt, Field(ge=1, lt=2**31)]
    kind: Literal["workflow", "task"] = "workflow"
    description: Prose | None = None
    states: dict[Label, StateDocument | None] = Field(min_length=1)
    transitions: tuple[TransitionDocument, ...] = ()
    on_unavailable: Literal["reject", "wait"] = "reject"
    events: EventsDocument = Field(default_factory=EventsDocument)
    limits: LimitsDocument = Field(default_factory=LimitsDocument)
    metadata_default: dict[str, JsonValue] = Field(default_factory=dict)
