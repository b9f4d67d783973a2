"""The clause of a definition that makes a promise in time, the same by configuration, and the record of how one stands.

The record is part of the workflow and of the events that change it; what it means is `domain.sla`'s.
"""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StrictBool, StrictInt, StringConstraints, model_validator

from contracts.clauses import Clause, DefinitionName, Label, Prose, TargetText
from contracts.envelope import Contract, Instant

SlaName = Annotated[str, StringConstraints(strict=True, max_length=60, pattern=r"^[a-z][a-z0-9_-]*$")]
States = Annotated[tuple[Label, ...], Field(max_length=100)]
RUNGS_MAX = 20
SLAS_MAX = 20


class RungDocument(Clause):
    """One step of the escalation ladder: what is done once the breach has lasted for so long."""

    after: TargetText = "0s"
    """Working time past the due instant; each rung's is later than that of the one before."""
    alert: Label | None = Field(default=None, examples=["team-lead"])
    """Whom to tell: an alert on the alerts topic says so."""
    priority: Label | None = Field(default=None, examples=["high"])
    """The priority that the workflow gets."""
    transition: Label | None = Field(default=None, examples=["escalate"])
    """The transition that is asked for, in the service's own name."""
    every: TargetText | None = Field(default=None, examples=["1d"])
    """The last rung alone: it is climbed again each time so much more working time has passed."""

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.alert is None and self.priority is None and self.transition is None:
            raise ValueError("give at least one of alert, priority and transition")
        return self


class SlaDocument(Clause):
    """A promise: so much working time from entering one state to entering another."""

    name: SlaName = Field(examples=["resolution"])
    """Unique among the definition's SLAs."""
    description: Prose | None = None
    """What is promised to whom, for people."""
    starts: States = ()
    """Entering one of these states starts it; the initial state, unless given."""
    holds: States = ()
    """While the workflow is in one of these states its time does not run."""
    stops: States = ()
    """Entering one of these states ends it, met or breached; a terminal state always does."""
    target: TargetText | None = Field(default=None, examples=["4h"])
    """The working time that is promised; without one it is due at the workflow's due date."""
    by_priority: dict[Label, TargetText] = Field(default_factory=dict, examples=[{"high": "1h"}])
    """The working time for workflows of a priority, where it is another."""
    warning: TargetText = "15m"
    """How long before the due instant it is at risk: working time, before a due date time."""
    calendar: DefinitionName | None = Field(default=None, examples=["office"])
    """When its time runs; around the clock, unless given."""
    service_areas: States = ()
    """It is promised to workflows of these service areas alone; all, unless given."""
    types: States = ()
    """It is promised to workflows of these types alone; all, unless given."""
    impact: Label | None = Field(default=None, examples=["contract penalty"])
    """What a breach costs, for reports."""
    ladder: Annotated[tuple[RungDocument, ...], Field(max_length=RUNGS_MAX)] = ()
    """What is done while a breach lasts, in order."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.target is None and (self.by_priority or self.holds):
            raise ValueError("without a target it is due at the workflow's due date: that has no holds or by_priority")
        return self


class ConfiguredSlaDocument(Clause):
    """An SLA that is promised by configuration, beside what definitions promise; a version never changes."""

    model_config = ConfigDict(title="Turnstile configured SLA")

    name: DefinitionName = Field(examples=["polaris.review"])
    """Of this document; the SLA has a name of its own."""
    version: Annotated[StrictInt, Field(ge=1, lt=2**31)]
    description: Prose | None = None
    definition: DefinitionName | None = Field(default=None, examples=["polaris.task"])
    """It is promised to workflows of this definition."""
    kind: Literal["workflow", "task"] | None = None
    """It is promised to workflows of every definition of this kind."""
    retired: StrictBool = False
    """From this version on it is promised to nobody new, and what is open climbs no more rungs."""
    sla: SlaDocument
    """The promise; `service_areas` and `types` say to which workflows. It goes before a definition's of this name."""

    @model_validator(mode="after")
    def _for_some(self) -> Self:
        if (self.definition is None) == (self.kind is None):
            raise ValueError("give definition or kind, one of the two: whose workflows it is promised to")
        return self


class Spent(Contract):
    """Where the time of an SLA went, in seconds; the sum is what has passed from its start to `since`.

    `held` counts whole; the rest is `closed` outside of the calendar's hours, and within them by the state's category:
    `waiting`, `person`, or for any other `worked`.
    """

    worked: float = 0
    held: float = 0
    closed: float = 0
    waiting: float = 0
    person: float = 0


class SlaRecord(Contract):
    """How an SLA of a workflow stands after an event.

    `run` counts how often it was started. `spent` is reckoned up to `since`; `doing` is the account that time goes to
    from there. `held` is by its state, `paused` by a command. `due_at` is absent while it is held, and stays where it
    was once breached. `next_at` is when the next step is taken if nothing happens before; `step` says which: 0 at
    risk, 1 breached, 2 the first rung. `breach_seconds` is the working time past the target, there once it has ended.
    `configured` is the configuration that promised it, with its version; absent where the definition did.
    """

    run: int
    status: Literal["on_track", "at_risk", "breached", "met"]
    started_at: Instant
    since: Instant
    target_seconds: float | None = None
    extended_seconds: float = 0
    warning_seconds: float = 0
    calendar: str | None = None
    calendar_version: int | None = None
    due_at: Instant | None = None
    next_at: Instant | None = None
    step: int = 0
    doing: Literal["worked", "waiting", "person"] = "worked"
    held: bool = False
    paused: bool = False
    spent: Spent
    breached_at: Instant | None = None
    breach_seconds: float | None = None
    stopped_at: Instant | None = None
    impact: str | None = None
    configured: str | None = None
    configured_version: int | None = None
