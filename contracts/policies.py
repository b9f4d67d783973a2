"""What is put to a remote policy engine and what it answers.

The plain JSON dialect is these models as they are. OPA's data API wraps the same questions in `input` and the same
verdicts in `result`; see docs/predicates.md.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictBool, StringConstraints

from contracts.envelope import Contract, JsonObject

# A path below the engine's address: no step of it can lead out, none needs escaping.
POLICY_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$"
PolicyName = Annotated[str, StringConstraints(strict=True, max_length=200, pattern=POLICY_NAME)]
Dialect = Literal["opa", "json"]


class PolicyQuestion(Contract):
    """One guard to judge: the policy's name and what a guard may look at."""

    policy: PolicyName
    input: JsonObject


class PolicyRequest(Contract):
    """Questions to answer, each in its place; they have nothing to do with each other."""

    questions: tuple[PolicyQuestion, ...] = Field(min_length=1)


class PolicyVerdict(Contract):
    """A verdict in full; only `allow: true` opens a transition.

    `reason` is a sentence for whoever sent the command, `values` what it rests on, `policy_version` what judged it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    allow: StrictBool
    reason: str | None = None
    values: dict[str, Any] | None = None
    policy_version: str | None = None


class PolicyAnswer(Contract):
    """As many verdicts as questions, in their order; a plain boolean is a verdict without a reason."""

    verdicts: tuple[StrictBool | PolicyVerdict, ...]
