"""A guard put to its engine: what is asked, what the engine may look at, and what is kept of the answer."""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from contracts.commands import Command, plain
from contracts.predicates import Guard, Verdict
from domain.canonical import canonical
from domain.workflow import Workflow

_DIGITS = 32
Reads = Mapping[str, "Reads | None"]
"""What an expression looks at, nested by field: None stands for all that is there."""

_WORKFLOW_FIELDS = frozenset(Workflow._fields)
_PLAIN = frozenset({str, int, float, bool, dict})  # of a command's fields: already as JSON has them


class Inputs(NamedTuple):
    """What a guard may look at: a workflow, a command about it, and when it is asked, as `domain.instants` writes it.

    Made into plain JSON only as far as somebody looks: most guards look at little, and each command has its own.
    No text may hold a NUL: the CEL library ends a text there, so that "admin", NUL, "x" would equal "admin".
    The decoder refuses such commands before they come here.
    """

    workflow: Workflow
    command: Command
    now: str

    def whole(self) -> dict[str, Any]:
        """Return all of it: plain JSON under each of `VARIABLES`, `now` as RFC 3339 text."""
        return self.part(_ALL)

    def part(self, reads: Reads) -> dict[str, Any]:
        """Return of `whole` what is read, in the order of `reads`; what is absent stays so."""
        return {name: _MAKERS[name](self, below) for name, below in reads.items()}


def _workflow(inputs: Inputs, reads: Reads | None) -> dict[str, Any]:
    workflow = inputs.workflow
    if reads is None:
        return workflow._asdict()
    found = {}
    for field, below in reads.items():
        if field in _WORKFLOW_FIELDS:
            value = getattr(workflow, field)
            found[field] = value if below is None else cut(value, below)
    return found


def _command(inputs: Inputs, reads: Reads | None) -> dict[str, Any]:
    """Return a command's fields as `plain` writes them, which leaves out what has no value."""
    if reads is None:
        return plain(inputs.command)
    given, found = vars(inputs.command), {}
    for field, below in reads.items():
        value = given.get(field)
        if type(value) in _PLAIN:
            found[field] = value if below is None else cut(value, below)
        elif value is not None:
            found[field] = plain(inputs.command)[field]
    return found


def _actor(inputs: Inputs, reads: Reads | None) -> dict[str, Any]:
    actor = {"name": inputs.command.requested_by, "tenant": inputs.command.tenant}
    return actor if reads is None else {field: actor[field] for field in reads if field in actor}


def _children(_: Inputs, __: Reads | None) -> list[dict[str, Any]]:
    return []


def _slas(inputs: Inputs, _: Reads | None) -> list[dict[str, Any]]:
    held = inputs.workflow.slas
    return [{"name": name} | record for name, record in sorted(held.items())] if held else []


def _now(inputs: Inputs, _: Reads | None) -> str:
    return inputs.now


# What stands under each name: all of it, or what is read of it.
_MAKERS: dict[str, Callable[[Inputs, Reads | None], Any]] = {
    "workflow": _workflow,
    "command": _command,
    "actor": _actor,
    "children": _children,
    "slas": _slas,
    "now": _now,
}
# What an expression may name; a definition that reads anything else is refused before it is stored.
VARIABLES = tuple(_MAKERS)
_ALL: Reads = dict.fromkeys(VARIABLES)


class Question(NamedTuple):
    """A guard, what it may look at, and the name of the transition that it guards."""

    guard: Guard
    inputs: Inputs
    transition: str = ""


def cut(value: Any, reads: Reads | None) -> Any:  # noqa: ANN401 - any JSON value
    """Return of a JSON value what is read; what has no fields is read whole."""
    if reads is None or type(value) is not dict:
        return value
    return {field: cut(value[field], below) for field, below in reads.items() if field in value}


def digest(inputs: Mapping[str, Any]) -> str:
    """Return what `contracts.predicates.Provenance` calls the digest of inputs, whole or a part."""
    return sha256(canonical(inputs)).hexdigest()[:_DIGITS]


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
