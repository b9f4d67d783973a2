"""What a guard is and what its engine answers: one verdict type, whichever engine is asked.

Only `allow` opens a transition. `deny` says which clause failed on which values, `unavailable` why nobody could tell.
"""

from typing import Any, Literal

from contracts.envelope import Contract


class Guard(Contract):
    """A predicate on a transition: the engine that judges it and the expression in that engine's language.

    A JSONLogic rule is its canonical JSON text.
    """

    engine: Literal["cel", "jsonlogic"]
    expression: str


class Verdict(Contract):
    """A guard's answer.

    `clause` is the failing part of the expression, `values` what the paths it reads held (absent paths are left
    out), `cause` a sentence where the clause did not simply come out false, `policy_version` what a remote engine
    says it judged by.
    """

    outcome: Literal["allow", "deny", "unavailable"]
    clause: str | None = None
    values: dict[str, Any] | None = None
    cause: str | None = None
    engine: str
    policy_version: str | None = None
