"""A refusal is a value: the code, a sentence, why, and what would be allowed now."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.rejections import RETRYABLE, STATUS, Code
from domain.definition import Definition
from domain.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that is not accepted; nothing changes."""

    code: Code
    message: str
    why: Mapping[str, Any] | None = None
    allowed: tuple[Mapping[str, Any], ...] | None = None

    @property
    def retryable(self) -> bool:
        """Whether the same command may be sent again under the same id."""
        return self.code in RETRYABLE

    def written(self) -> dict[str, Any]:
        """Return the refusal as `contracts.rejections.Rejection` is written on the wire."""
        document: dict[str, Any] = {"code": self.code, "status": STATUS[self.code], "message": self.message}
        if self.retryable:
            document["retryable"] = True
        if self.why is not None:
            document["why"] = self.why
        if self.allowed is not None:
            document["allowed"] = self.allowed
        return document


def refusal(
    code: Code,
    message: str,
    *,
    clause: str | None = None,
    values: Mapping[str, Any] | None = None,
    allowed: tuple[Mapping[str, Any], ...] | None = None,
    verdict: Mapping[str, Any] | None = None,
) -> Refusal:
    """Make a refusal whose *why* is the failing clause and the values it saw, and what is kept of a guard's verdict."""
    why = None if clause is None else {"clause": clause, "values": dict(values or {})}
    if why is not None and verdict is not None:
        why["verdict"] = dict(verdict)
    return Refusal(code, message, why, allowed)


def allowed_now(definition: Definition | None, workflow: Workflow) -> tuple[Mapping[str, Any], ...]:
    """Return the transitions that leave the workflow's state, whatever their guards would say; no spent retries."""
    if definition is None:
        return ()
    spent = definition.max_retries is not None and workflow.retry_count >= definition.max_retries
    return tuple(
        {"transition": transition.name, "target_state": transition.target, "guarded": transition.guard is not None}
        for transition in definition.outgoing.get(workflow.state, ())
        if not (spent and transition.retry)
    )
