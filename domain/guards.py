"""A guard put to its engine: what is asked and what the engine may look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from contracts.predicates import Guard, Verdict
from domain.canonical import canonical

_DIGITS = 32
# What an expression may name; a definition that reads anything else is refused before it is stored.
VARIABLES = ("workflow", "command", "actor", "children", "slas", "now")


@dataclass(frozen=True, slots=True)
class Question:
    """A guard and its inputs: plain JSON under each of `VARIABLES`, `now` as RFC 3339 text.

    No text may hold a NUL: the CEL library ends a text there, so that "admin", NUL, "x" would equal "admin".
    The decoder refuses such commands before they come here.
    """

    guard: Guard
    inputs: Mapping[str, Any]

    def digest(self) -> str:
        """Return what `contracts.predicates.Provenance` calls the digest of the inputs."""
        return sha256(canonical(self.inputs)).hexdigest()[:_DIGITS]


def kept(verdict: Verdict, now: str) -> dict[str, Any]:
    """Return what is kept of a verdict with the decision made at `now`; what is not known is left out."""
    found = {
        "outcome": verdict.outcome,
        "engine": verdict.engine,
        "policy_version": verdict.policy_version,
        "inputs_digest": verdict.inputs_digest,
        "latency_us": verdict.latency_us,
        "asked_at": None if verdict.asked_at == now else verdict.asked_at,
    }
    return {name: value for name, value in found.items() if value is not None}
