"""What somebody should be told now: a promise at risk or broken, a rung of its ladder."""

from typing import Literal
from uuid import UUID

from contracts.envelope import Contract, Id, Instant, Name, Text
from contracts.events import Severity


class Alert(Contract):
    """One thing to tell people; `event_id` is the event it stems from, and `alert_id` the same however often it comes.

    `to` is whom the ladder names, absent for the SLA's own warning and breach.
    """

    alert_id: UUID
    event_id: UUID
    workflow_id: Id
    root_id: Id
    kind: Literal["SLA_AT_RISK", "SLA_BREACHED", "ESCALATION_TRIGGERED"]
    severity: Severity
    message: Text
    to: Name | None = None
    sla: Name
    rung: int | None = None
    due_at: Instant | None = None
    definition: Name
    state: Name
    tenant: Name | None = None
    name: Name | None = None
    service_area: Name | None = None
    priority: Name | None = None
    impact: Name | None = None
    timestamp: Instant
