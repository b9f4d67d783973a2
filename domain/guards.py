"""A guard put to its engine: what is asked and what the engine may look at."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from contracts.predicates import Guard, Verdict
from domain.canonical import canonical

_DIGITS = 32
# What an expression may name; a definition that reads anything else is refused before it is stored.
VARIABLES = ("workflow", "command", "actor", "children", "slas", "now")


class Question(NamedTuple):
    """A guard and its inputs: plain JSON under each of `VARIABLES`, `now` as RFC 3339 text.

    `transition` is the name of the one that it guards.

    No text may hold a NUL: the CEL library ends a text there, so that "admin", NUL, "x" would equal "admin".
    The decoder refuses such commands before they come here.
    """

    guard: Guard
    inputs: Mapping[str, Any]
    transition: str = ""

    def digest(self) -> str:
        """Return what `contracts.predicates.Provenance` calls the digest of the inputs."""
        return sha256(canonical(self.inputs)).hexdigest()[:_DIGITS]


def kept(verdict: Verdict, now: str) -> dict[str, Any]:
    """Return what is kept of a verdict with the decision made at `now`; what is not known is left out."""
    found: dict[str, Any] = {"outcome": verdict.outcome, "engine": verdict.engine}
    if verdict.policy_version is not None:
        found["policy_version"] = verdict.policy_version
    if verdict.inputs_digest is not None:
        found["inputs_digest"] = verdict.inputs_digest
    if verdict.latency_us is not None:
        found["latency_us"] = verdict.latency_us
    if verdict.asked_at is not None and verdict.asked_at != now:
        found["asked_at"] = verdict.asked_at
    return found
