"""What happened: one event per change, in the past tense. Readers ignore types and fields they do not know."""

from typing import Literal
from uuid import UUID

from contracts.envelope import Contract, Id, Instant, JsonObject, Name, Text
from contracts.predicates import Provenance
from contracts.slas import SlaRecord

Severity = Literal["info", "warning", "error", "critical"]
Category = Literal["state", "metadata", "task", "sla", "audit", "definition"]


class Event(Contract):
    """One accepted change of one workflow.

    `sequence` is gapless per workflow and rises with every event; `version` rises once per accepted
    change. `event_id` is uuid5(incarnation, workflow_id + sequence): a repeat carries the same id.
    `timestamp` is the decision's time, `occurred_at` what the producer said; order is by `sequence`.
    `metadata` is the whole of the workflow's at creation, the merge patch afterwards. `definition_version` is the one
    the workflow is on after the event; where `category` is "definition", `details` has `from_version` and `to_version`.
    `verdict` is there on a guarded transition. `slas` are the SLA records that the event changed, by name, as they are
    after it; an event of an SLA alone that no command asked for leaves the version as it is. `effective_at` is there
    where SLAs are promised: when the change counts for them.
    """

    event_id: UUID
    sequence: int
    workflow_id: Id
    root_id: Id
    event_type: Name
    category: Category
    severity: Severity = "info"
    message: Text
    definition: Name
    definition_version: int
    from_state: Name | None = None
    to_state: Name | None = None
    transition: Name | None = None
    version: int
    timestamp: Instant
    occurred_at: Instant | None = None
    command_id: UUID | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    actor: Name | None = None
    reason: Text | None = None
    tenant: Name | None = None
    retry_count: int = 0
    details: JsonObject | None = None
    metadata: JsonObject | None = None
    verdict: Provenance | None = None
    slas: dict[str, SlaRecord] | None = None
    effective_at: Instant | None = None
