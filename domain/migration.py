"""Where a migration leads, or why it does not: a workflow goes to another version of its definition, or back.

A terminal workflow is not migrated; a migration that made it terminal is undone like any other, while it is the
workflow's last change.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from contracts.commands import MigrateWorkflow
from contracts.rejections import Code
from domain.definition import Definition
from domain.evolve import MIGRATION
from domain.rejections import Refusal, allowed_now, refusal
from domain.workflow import Workflow

Json = Mapping[str, Any]

EVENT_TYPE = "MIGRATED"
ENDED = "ended_slas"
"""In the details of a migration's event: the records, as they were before, of the SLAs that it ended."""
RESTORED = "restored_slas"
"""In those of its undo: the same records, which go on."""


class Target(NamedTuple):
    """What a migration is judged with besides the workflow: the definition it leads to, and the workflow's last event.

    `definition` is None where there is no such version, `last` where the history is not there; only an undo needs it.
    """

    definition: Definition | None = None
    last: Json | None = None


class Migration(NamedTuple):
    """Where a workflow goes: the version it is on then, its state there, and what its event says besides."""

    definition: Definition
    state: str
    details: dict[str, Any]


def target_version(command: MigrateWorkflow, last: Json | None) -> int | None:
    """Return the version that a migration leads to; None where there is nothing to undo."""
    if command.undo:
        return None if last is None or not _may_be_undone(last) else int(last["details"]["from_version"])
    return command.to_version


def resolve(
    command: MigrateWorkflow,
    workflow: Workflow,
    definition: Definition,
    target: Target,
    stale: Refusal | None,
) -> Migration | Refusal:
    """Find where a migration leads; `stale` is the refusal of a command that expects another version."""
    undone = target.last if command.undo and target.last is not None and _may_be_undone(target.last) else None
    wanted = target_version(command, target.last)
    if target.definition is None and wanted is not None:
        return refusal(
            Code.UNKNOWN_DEFINITION, f"{workflow.definition} version {wanted} is not in the store; apply it first"
        )
    if workflow.state in definition.terminal and undone is None:
        return refusal(
            Code.TERMINAL_STATE,
            f"{workflow.workflow_id} is {workflow.state}, which is never left"
            + (", and no migration was its last change" if command.undo else ""),
            clause="state is not terminal, or made so by a migration that is undone",
            values={"state": workflow.state} | (_last(target.last) if command.undo else {}),
            allowed=(),
        )
    if stale is not None:
        return stale
    if not command.undo:
        return _mapped(command, workflow, definition, target.definition)
    if undone is None or target.definition is None:
        return refusal(
            Code.INVALID_TRANSITION,
            f"{workflow.workflow_id} was not migrated by its last change: there is nothing to undo",
            clause="the last event is a migration",
            values=_last(target.last),
            allowed=allowed_now(definition, workflow),
        )
    details = _versions(workflow, target.definition) | {"undoes": undone["event_id"]}
    if ENDED in undone["details"]:
        details[RESTORED] = undone["details"][ENDED]
    return Migration(target.definition, undone["from_state"], details)


def fault_of(
    before: Workflow, event: Json, last: Json | None, versions: tuple[Definition | None, Definition | None]
) -> str | None:
    """Say what is wrong with a migration's event after `before`, whose last event is `last`; None if nothing.

    `versions` are the definitions it leaves and goes to, None where they are not known.
    """
    details = event.get("details", {})
    left, reached = versions
    says = (event["definition"], details.get("from_version"), details.get("to_version"), event.get("from_state"))
    is_so = (before.definition, before.definition_version, event["definition_version"], before.state)
    if says != is_so:
        return f"it says {says}, and it is {is_so}"
    if reached is not None and event["to_state"] not in reached.states:
        return f"{reached.name} version {reached.version} has no state {event['to_state']}"
    if reached is not None and bool(details.get("terminal")) != (event["to_state"] in reached.terminal):
        return f"it does not say whether {event['to_state']} is terminal"
    if "undoes" in details:
        back = (details["undoes"], event["to_state"], event["definition_version"])
        due = None
        if last is not None and _may_be_undone(last):
            due = (last["event_id"], last["from_state"], last["details"]["from_version"])
        return None if back == due else f"it undoes {back}, and the event before it leads back to {due}"
    if left is not None and before.state in left.terminal:
        return f"it leaves {before.state}, which is never left"
    return None


def _mapped(
    command: MigrateWorkflow, workflow: Workflow, definition: Definition, target: Definition | None
) -> Migration | Refusal:
    if target is None or target.version == definition.version:
        return refusal(
            Code.INVALID_TRANSITION,
            f"{workflow.workflow_id} is on version {workflow.definition_version} already",
            clause="to_version != definition_version",
            values={"to_version": command.to_version, "definition_version": workflow.definition_version},
            allowed=allowed_now(definition, workflow),
        )
    problem = problem_of_states(command.states, definition, target)
    if problem is not None:
        return refusal(
            Code.INVALID_TRANSITION,
            problem,
            clause="states maps states of the one version to states of the other",
            values={"states": command.states},
            allowed=allowed_now(definition, workflow),
        )
    state = command.states.get(workflow.state, workflow.state)
    if state not in target.states:
        return refusal(
            Code.INVALID_TRANSITION,
            f"{target.name} version {target.version} has no state {state}: name the one that takes its place",
            clause=f"{state} is a state of version {target.version}",
            values={"state": workflow.state, "to_version": target.version, "states": sorted(target.states)},
            allowed=allowed_now(definition, workflow),
        )
    details = _versions(workflow, target)
    if state in target.terminal:
        details["terminal"] = True
    return Migration(target, state, details)


def problem_of_states(states: Mapping[str, str], definition: Definition, target: Definition) -> str | None:
    """Say which name of a state mapping is no state of the one version or the other."""
    for names, version in ((states.keys(), definition), (states.values(), target)):
        for name in names:
            if name not in version.states:
                return f"{version.name} version {version.version} has no state {name}: correct the mapping"
    return None


def _versions(workflow: Workflow, target: Definition) -> dict[str, Any]:
    return {"from_version": workflow.definition_version, "to_version": target.version}


def _may_be_undone(event: Json) -> bool:
    return event.get("category") == MIGRATION and "undoes" not in event["details"]


def _last(event: Json | None) -> dict[str, Any]:
    """Return what a refusal shows of the event that was the last."""
    if event is None:
        return {"last_event": None}
    return {"last_event": {name: event.get(name) for name in ("event_type", "sequence", "timestamp")}}
