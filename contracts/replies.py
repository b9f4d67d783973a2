"""The outcome of one command record, for whoever sent it."""

from typing import Literal
from uuid import UUID

from contracts.envelope import Contract, Id, Instant
from contracts.rejections import Rejection


class Reply(Contract):
    """Accepted, with the events it made and the states before and after; or rejected, with why.

    A repeated command gets the first one's reply with `duplicate: true`. `state` and `version` are the
    workflow's after the decision, absent where there is no workflow to speak of.
    """

    command_id: UUID
    workflow_id: Id
    root_id: Id
    outcome: Literal["accepted", "rejected"]
    duplicate: bool = False
    events: tuple[UUID, ...] = ()
    from_state: str | None = None
    to_state: str | None = None
    state: str | None = None
    version: int | None = None
    decided_at: Instant
    correlation_id: str | None = None
    rejection: Rejection | None = None
