"""Whether a command is accepted, and what it changes: SPEC's checks in their order, the first failure is the refusal.

The checks before these (reading, idempotency, age) are in `domain.idempotency`; they need no workflow.
"""

from collections.abc import Mapping
from typing import Any

from contracts.commands import (
    Command,
    CreateWorkflow,
    MigrateWorkflow,
    RecoverWorkflow,
    RequestTransition,
    UpdateMetadata,
)
from contracts.predicates import Verdict
from contracts.rejections import Code
from domain.decision import Accepted, Circumstances, Decision, Facts, change_of, event_of
from domain.definition import RECOVER, Definition, Transition
from domain.evolve import CREATED_DETAILS, MIGRATION, evolve
from domain.guards import Inputs, Question, kept
from domain.instants import written
from domain.migration import EVENT_TYPE, Target, resolve
from domain.rejections import Refusal, allowed_now, refusal
from domain.sla_commands import TimeCommand, decide_time
from domain.workflow import Workflow

NOWHERE = Target()


def decide(
    command: Command,
    workflow: Workflow | None,
    definition: Definition | None,
    *,
    facts: Facts,
    circumstances: Circumstances,
    target: Target = NOWHERE,
) -> Decision | Question:
    """Decide one command against a workflow as it stands; a `Question` where a guard has to answer first.

    `definition` is the workflow's own version, or for a creation the one it names; None if unknown. `target` is where
    a migration leads.
    """
    if command.command_type == "create_workflow":
        return _create(command, workflow, definition, facts=facts, circumstances=circumstances)
    if workflow is None or command.tenant != workflow.tenant:
        return refusal(Code.NOT_FOUND, _not_found(command))
    if definition is None:
        return refusal(
            Code.UNKNOWN_DEFINITION,
            f"{workflow.definition} version {workflow.definition_version} is not in the store; apply it first",
        )
    if not isinstance(command, RequestTransition | RecoverWorkflow):
        return _unguarded(command, workflow, definition, target, facts=facts, circumstances=circumstances)
    transition = _resolve(command, workflow, definition)
    if isinstance(transition, Refusal):
        return transition
    if transition.guard is not None:
        return Question(transition.guard, Inputs(workflow, command, circumstances.now), transition.name)
    return _moved(command, workflow, definition, transition, circumstances, None)


def conclude(
    question: Question,
    verdict: Verdict,
    command: Command,
    workflow: Workflow,
    definition: Definition,
    circumstances: Circumstances,
) -> Decision:
    """Decide the command that a question was about, on the same workflow, now that its guard has answered."""
    transition = definition.by_name[workflow.state, question.transition]
    if verdict.outcome != "allow":
        return _denied(verdict, transition, workflow, definition, circumstances.now)
    return _moved(command, workflow, definition, transition, circumstances, verdict)


def _create(
    command: CreateWorkflow,
    workflow: Workflow | None,
    definition: Definition | None,
    *,
    facts: Facts,
    circumstances: Circumstances,
) -> Decision:
    if definition is None:
        version = "" if command.definition_version is None else f" version {command.definition_version}"
        return refusal(
            Code.UNKNOWN_DEFINITION,
            f"no definition {command.definition}{version}; `turnstile definitions list` shows what there is",
        )
    if workflow is not None or command.workflow_id in facts.taken:
        return refusal(Code.ALREADY_EXISTS, f"a workflow {command.workflow_id} exists already")
    if command.expected_version is not None:
        return refusal(
            Code.VERSION_CONFLICT,
            "a workflow that is yet to be created has no version to expect",
            clause="expected_version is absent",
            values={"expected_version": command.expected_version},
        )
    if facts.room.get(definition.name, 1) <= 0:
        return _full(definition.name)
    terminal = definition.initial in definition.terminal
    details = _creation_details(command)
    if terminal:
        details["terminal"] = True
    event = event_of(
        command,
        circumstances,
        workflow_id=command.workflow_id,
        root_id=command.root_id or command.workflow_id,
        sequence=1,
        version=1,
        event_type=definition.event_types.created,
        category="state",
        message=f"created in {definition.initial}",
        definition=definition.name,
        definition_version=definition.version,
        to_state=definition.initial,
        metadata=definition.metadata_default if command.metadata is None else command.metadata,
    )
    if details:
        event["details"] = details
    return Accepted((event,), evolve(None, event), 0 if terminal else 1)


def _resolve(
    command: RequestTransition | RecoverWorkflow, workflow: Workflow, definition: Definition
) -> Transition | Refusal:
    """Find the transition a command means, or refuse it."""
    state = workflow.state
    name = RECOVER if command.command_type == "recover_workflow" else command.transition
    if name is not None:
        found = definition.by_name.get((state, name))
        wanted, here = f"transition {name}", f" in state {state}"
    else:
        target = command.target_state if command.command_type == "request_transition" else None
        reaching = definition.by_target.get((state, target or ""), ())
        if len(reaching) > 1:
            names = ", ".join(transition.name for transition in reaching)
            return refusal(
                Code.INVALID_COMMAND,
                f"several transitions lead from {state} to {target}: name one of {names}",
                allowed=allowed_now(definition, workflow),
            )
        found = reaching[0] if reaching else None
        wanted, here = f"transition from {state} to {target}", ""
    incomplete = None if found is None else _incomplete(command, found, workflow, definition)
    if incomplete is not None:
        return incomplete
    if state in definition.terminal:
        return refusal(
            definition.terminal_code,
            f"{workflow.workflow_id} is {state}, which is never left",
            clause="state is not terminal",
            values={"state": state},
            allowed=(),
        )
    stale = _stale(command, workflow, definition)
    if stale is not None:
        return stale
    if found is None:
        return refusal(
            Code.INVALID_TRANSITION,
            f"{definition.name} version {definition.version} has no {wanted}{here}",
            clause=f"{wanted} exists in state {state}",
            values={"state": state},
            allowed=allowed_now(definition, workflow),
        )
    return found


def _stale(command: Command, workflow: Workflow, definition: Definition) -> Refusal | None:
    if command.expected_version is None or command.expected_version == workflow.version:
        return None
    return refusal(
        Code.VERSION_CONFLICT,
        f"{workflow.workflow_id} is at version {workflow.version}, not {command.expected_version}",
        clause="expected_version == version",
        values={"expected_version": command.expected_version, "version": workflow.version, "state": workflow.state},
        allowed=allowed_now(definition, workflow),
    )


def _incomplete(
    command: RequestTransition | RecoverWorkflow, transition: Transition, workflow: Workflow, definition: Definition
) -> Refusal | None:
    """Refuse a command that lacks a field its transition requires: absent and null are the same."""
    missing = [path for path in transition.required if _given(command, path) is None]
    if not missing:
        return None
    return refusal(
        Code.INVALID_COMMAND,
        f"{transition.name} requires {', '.join(missing)}: add {'it' if len(missing) == 1 else 'them'} to the command",
        clause="each required field is given",
        values={"required": list(transition.required), "missing": missing},
        allowed=allowed_now(definition, workflow),
    )


def _given(command: Command, path: str) -> object:
    field, *keys = path.split(".")
    value = getattr(command, field, None)
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _spent(transition: Transition, workflow: Workflow, definition: Definition) -> Refusal | None:
    """Refuse a retry beyond the definition's limit."""
    most = definition.max_retries
    if not transition.retry or most is None or workflow.retry_count < most:
        return None
    return refusal(
        Code.LIMIT_REACHED,
        f"{workflow.workflow_id} was retried {workflow.retry_count} times; {definition.name} allows {most}",
        clause="retry_count < max_retries",
        values={"retry_count": workflow.retry_count, "max_retries": most},
        allowed=allowed_now(definition, workflow),
    )


def _denied(verdict: Verdict, transition: Transition, workflow: Workflow, definition: Definition, now: str) -> Refusal:
    unavailable = verdict.outcome == "unavailable"
    problem = "could not be asked" if unavailable else "denied it"
    cause = f": {verdict.cause}" if verdict.cause else ""
    expression = transition.guard.expression if transition.guard else ""
    return refusal(
        Code.PREDICATE_UNAVAILABLE if unavailable else Code.GUARD_DENIED,
        f"the guard of {transition.name} {problem}{cause}",
        clause=verdict.clause or expression,
        values=verdict.values,
        allowed=allowed_now(definition, workflow),
        verdict=kept(verdict, now),
    )


def _moved(
    command: Command,
    workflow: Workflow,
    definition: Definition,
    transition: Transition,
    circumstances: Circumstances,
    verdict: Verdict | None,
) -> Decision:
    spent = _spent(transition, workflow, definition)
    if spent is not None:
        return spent
    closes = transition.target in definition.terminal
    details: dict[str, Any] = {"terminal": True} if closes else {}
    if command.command_type == "request_transition":
        if command.output is not None:
            details["output"] = command.output
        if command.error is not None:
            details["error"] = command.error
    event = change_of(
        workflow,
        command,
        circumstances,
        event_type=definition.event_types.event_type(transition.name),
        category="state",
        message=f"{transition.name}: {transition.source} to {transition.target}",
        from_state=transition.source,
        to_state=transition.target,
        transition=transition.name,
    )
    retries = workflow.retry_count + transition.retry
    if retries:
        event["retry_count"] = retries
    if details:
        event["details"] = details
    if verdict is not None:
        event["verdict"] = kept(verdict, circumstances.now)
    return Accepted((event,), evolve(workflow, event), -1 if closes else 0)


def _updated(
    command: UpdateMetadata, workflow: Workflow, definition: Definition, circumstances: Circumstances
) -> Accepted:
    event = change_of(
        workflow,
        command,
        circumstances,
        event_type=definition.event_types.metadata_updated,
        category="metadata",
        message=f"metadata changed: {', '.join(sorted(command.metadata))[:1000]}",
        metadata=command.metadata,
    )
    return Accepted((event,), evolve(workflow, event), 0)


def _unguarded(
    command: UpdateMetadata | MigrateWorkflow | TimeCommand,
    workflow: Workflow,
    definition: Definition,
    target: Target,
    *,
    facts: Facts,
    circumstances: Circumstances,
) -> Decision:
    """Decide what takes no transition."""
    if isinstance(command, UpdateMetadata):
        return _stale(command, workflow, definition) or _updated(command, workflow, definition, circumstances)
    if not isinstance(command, MigrateWorkflow):
        stale = _stale(command, workflow, definition)
        return decide_time(command, workflow, definition, stale=stale, circumstances=circumstances)
    return _migrated(command, workflow, definition, target, facts=facts, circumstances=circumstances)


def _migrated(
    command: MigrateWorkflow,
    workflow: Workflow,
    definition: Definition,
    target: Target,
    *,
    facts: Facts,
    circumstances: Circumstances,
) -> Decision:
    found = resolve(command, workflow, definition, target, _stale(command, workflow, definition))
    if isinstance(found, Refusal):
        return found
    delta = (workflow.state in definition.terminal) - (found.state in found.definition.terminal)
    if delta > 0 and facts.room.get(definition.name, 1) <= 0:
        return _full(definition.name)
    event = change_of(
        workflow,
        command,
        circumstances,
        event_type=EVENT_TYPE,
        category=MIGRATION,
        message=f"{'back from' if command.undo else 'from'} version {definition.version} to "
        f"{found.definition.version}: {workflow.state} to {found.state}",
        definition_version=found.definition.version,
        from_state=workflow.state,
        to_state=found.state,
        details=found.details,
    )
    return Accepted((event,), evolve(workflow, event), delta)


def _full(name: str) -> Refusal:
    """Refuse what the counter has no room for: its limit is that of the newest version, which may be another one."""
    return refusal(
        Code.LIMIT_REACHED,
        f"as many workflows of {name} are open as its newest version allows",
        clause="open < max_open of the newest version",
    )


def _creation_details(command: CreateWorkflow) -> dict[str, Any]:
    given = {name: getattr(command, name) for name in CREATED_DETAILS}
    if command.estimated_seconds is not None and command.estimated_seconds.is_integer():
        given["estimated_seconds"] = int(command.estimated_seconds)  # as the row is read back
    if command.due_at is not None:
        given["due_at"] = written(command.due_at)
    return {name: value for name, value in given.items() if value is not None}


def _not_found(command: Command) -> str:
    if command.root_id is None:
        return f"no workflow {command.workflow_id}; one inside a tree is reached by giving its root_id"
    return f"no workflow {command.workflow_id} in the tree of {command.root_id}"
