"""What a guard is and what its engine answers: one verdict type, whichever engine is asked.

Only `allow` opens a transition. `deny` says which clause failed on which values, `unavailable` why nobody could tell.
"""

from typing import Any, Literal, NamedTuple

from contracts.envelope import Contract


class Guard(Contract):
    """A predicate on a transition: the engine that judges it and the expression in that engine's language.

    A JSONLogic rule is its canonical JSON text; of the remote engine the expression is the policy's name.
    """

    engine: Literal["cel", "jsonlogic", "remote"]
    expression: str


class Verdict(NamedTuple):
    """A guard's answer; it crosses no wire as it is, and each guarded command makes one.

    `clause` is the failing part of the expression, `values` what the paths it reads held (absent paths are left
    out), `cause` a sentence where the clause did not simply come out false, `policy_version` what a remote engine
    says it judged by. Whoever asked adds when, how long it took and the digest of what was asked.
    """

    outcome: Literal["allow", "deny", "unavailable"]
    engine: str
    clause: str | None = None
    values: dict[str, Any] | None = None
    cause: str | None = None
    policy_version: str | None = None
    inputs_digest: str | None = None
    latency_us: int | None = None
    asked_at: str | None = None


class Provenance(Contract):
    """What is kept of a verdict with the decision that it led to.

    `inputs_digest` is the first 32 hexadecimal digits of the SHA-256 of the guard's inputs as canonical JSON
    (RFC 8785): the object of `workflow` (as it stood, every field), `command`, `actor`, `children`, `slas` and `now`;
    of a CEL guard only the paths that its expression names. `now` is `asked_at`, which is there only where the guard
    was asked at another time than the decision's. `latency_us` is from asking to the answer.
    """

    outcome: Literal["allow", "deny", "unavailable"]
    engine: str
    policy_version: str | None = None
    inputs_digest: str | None = None
    latency_us: int | None = None
    asked_at: str | None = None
