"""A state machine compiled from its document: what may happen next, as look-ups.

`check` says everything that is wrong with a document's shape and references; `compile_document` needs no error left.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from contracts.definitions import DefinitionDocument, StateDocument, TransitionDocument
from contracts.predicates import Guard
from domain.canonical import canonical

Path = tuple[str | int, ...]

# Clauses of the language that this build does not enforce yet; applying one would be a promise nobody keeps.
# fmt: off
LATER = frozenset({
    "approvals", "assignment", "automations", "calendar", "children", "compensation", "dependencies", "depends_on",
    "effects", "encryption", "entry", "escalation", "exit", "forms", "max_retries", "migrations",
    "phase", "priority", "remote", "required", "retention", "retries", "retry", "roles", "routing",
    "service_areas", "slas", "substatus", "tasks", "teams", "templates", "tenants", "timeout", "timers",
    "unavailable", "webhooks"
})
# fmt: on


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know about a document: an error forbids applying it. `line` and `column` count from 1."""

    severity: Literal["error", "warning", "note"]
    code: str
    message: str
    path: Path
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    """A state as declared."""

    name: str
    initial: bool
    terminal: bool
    category: str | None
    description: str | None


@dataclass(frozen=True, slots=True)
class Transition:
    """A named way from one state to another; a document's list of sources becomes one each."""

    name: str
    source: str
    target: str
    guard: Guard | None


@dataclass(frozen=True, slots=True)
class EventTypes:
    """What a definition's events are called; `prefix` stands before the name in `ce_type`."""

    prefix: str
    created: str
    transition: str
    metadata_updated: str
    by_transition: Mapping[str, str]

    def event_type(self, transition_name: str) -> str:
        """Return the type of the event that a transition makes."""
        return self.by_transition.get(transition_name, self.transition)


@dataclass(frozen=True, slots=True)
class Definition:
    """One version of a state machine; immutable, shared by every workflow on it."""

    name: str
    version: int
    kind: Literal["workflow", "task"]
    initial: str
    states: Mapping[str, State]
    terminal: frozenset[str]
    transitions: tuple[Transition, ...]
    by_target: Mapping[tuple[str, str], tuple[Transition, ...]]
    by_name: Mapping[tuple[str, str], Transition]
    outgoing: Mapping[str, tuple[Transition, ...]]
    event_types: EventTypes
    max_open: int | None
    on_unavailable: Literal["reject", "wait"]
    metadata_default: dict[str, Any]


def check(document: object) -> tuple[Finding, ...]:
    """Return every finding on a document's shape, or where that is sound on its references."""
    read = _read(document)
    return tuple(_references(read)) if isinstance(read, DefinitionDocument) else read


def compile_document(document: object) -> Definition | tuple[Finding, ...]:
    """Compile a document, or return its findings if one of them is an error."""
    read = _read(document)
    if not isinstance(read, DefinitionDocument):
        return read
    findings = tuple(_references(read))
    return findings if any(finding.severity == "error" for finding in findings) else _compiled(read)


def _compiled(document: DefinitionDocument) -> Definition:
    states = {name: _state(name, state or StateDocument()) for name, state in document.states.items()}
    transitions = tuple(
        Transition(declared.name, source, declared.target, guard)
        for declared in document.transitions
        for guard in (_guard(declared),)
        for source in _sources(declared)
    )
    by_target: dict[tuple[str, str], tuple[Transition, ...]] = {}
    outgoing: dict[str, tuple[Transition, ...]] = {}
    for transition in transitions:
        between = (transition.source, transition.target)
        by_target[between] = (*by_target.get(between, ()), transition)
        outgoing[transition.source] = (*outgoing.get(transition.source, ()), transition)
    events = document.events
    return Definition(
        name=document.name,
        version=document.version,
        kind=document.kind,
        initial=next(state.name for state in states.values() if state.initial),
        states=states,
        terminal=frozenset(state.name for state in states.values() if state.terminal),
        transitions=transitions,
        by_target=by_target,
        by_name={(transition.source, transition.name): transition for transition in transitions},
        outgoing=outgoing,
        event_types=EventTypes(
            prefix=events.prefix or document.name.partition(".")[0],
            created=events.created,
            transition=events.transition,
            metadata_updated=events.metadata_updated,
            by_transition=events.by_transition,
        ),
        max_open=document.limits.max_open,
        on_unavailable=document.on_unavailable,
        metadata_default=document.metadata_default,
    )


def _state(name: str, declared: StateDocument) -> State:
    return State(name, declared.initial, declared.terminal, declared.category, declared.description)


def _sources(declared: TransitionDocument) -> tuple[str, ...]:
    return (declared.source,) if isinstance(declared.source, str) else declared.source


def _guard(declared: TransitionDocument) -> Guard | None:
    if declared.guard is None:
        return None
    if isinstance(declared.guard, str):
        return Guard(engine="cel", expression=declared.guard.strip())
    return guard_of(declared.guard.model_dump(exclude_unset=True))


def guard_of(clause: Mapping[str, Any]) -> Guard:
    """Return the guard of a clause that names its engine."""
    if "jsonlogic" in clause:
        return Guard(engine="jsonlogic", expression=canonical(clause["jsonlogic"]).decode())
    return Guard(engine="cel", expression=clause["cel"].strip())


def _read(document: object) -> DefinitionDocument | tuple[Finding, ...]:
    """Read the shape, or say where it is wrong: one finding per place."""
    try:
        return DefinitionDocument.model_validate(document)
    except ValidationError as error:
        found = [_shape(document, problem) for problem in error.errors(include_url=False, include_context=False)]
        return tuple({(finding.code, finding.path): finding for finding in found}.values())


def _shape(document: object, problem: Mapping[str, Any]) -> Finding:
    kind, message = problem["type"], problem["msg"]
    path = _existing(document, problem["loc"])
    if kind == "extra_forbidden":
        if path[-1] in LATER:
            text = f"{path[-1]} is not enforced by this build yet: remove the clause or use a later version"
            return Finding("error", "NOT_SUPPORTED_YET", text, path)
        return Finding("error", "UNKNOWN_CLAUSE", f"there is no clause {path[-1]} here: correct or remove it", path)
    if kind == "missing":
        return Finding("error", "MISSING_CLAUSE", f"add {problem['loc'][-1]}", (*path, problem["loc"][-1]))
    place = ".".join(map(str, path)) or "the document"
    return Finding("error", "BAD_VALUE", f"{place}: {message[:1].lower()}{message[1:]}", path)


def _existing(document: Any, location: tuple[str | int, ...]) -> Path:  # noqa: ANN401 - JSON
    """Return the part of an error's location that is in the document: the rest names union members."""
    path: list[str | int] = []
    for step in location:
        inside = isinstance(document, list) and isinstance(step, int) and step < len(document)
        if inside or (isinstance(document, dict) and step in document):
            document = document[step]
            path.append(step)
    return tuple(path)


def _references(document: DefinitionDocument) -> Iterator[Finding]:
    yield from _states(document)
    yield from _transitions(document)
    names = {declared.name for declared in document.transitions}
    for name in document.events.by_transition:
        if name not in names:
            text = f"there is no transition {name}: use one of {_listed(names)}"
            yield Finding("error", "UNKNOWN_TRANSITION", text, ("events", "by_transition", name))


def _states(document: DefinitionDocument) -> Iterator[Finding]:
    initial = [name for name, state in document.states.items() if state and state.initial]
    if not initial:
        yield Finding("error", "NO_INITIAL_STATE", "mark the state workflows start in with initial: true", ("states",))
    for name in initial[1:]:
        text = f"{initial[0]} is the initial state already: there is exactly one"
        yield Finding("error", "SEVERAL_INITIAL_STATES", text, ("states", name, "initial"))
    if not any(state and state.terminal for state in document.states.values()):
        text = "no state is terminal: workflows stay open for ever, and count as such"
        yield Finding("note", "NO_TERMINAL_STATE", text, ("states",))


def _transitions(document: DefinitionDocument) -> Iterator[Finding]:
    named: set[tuple[str, str]] = set()
    unguarded: dict[tuple[str, str], str] = {}
    for index, declared in enumerate(document.transitions):
        place: Path = ("transitions", index)
        if declared.target not in document.states:
            yield _unknown_state(declared.target, document, (*place, "to"))
        for position, source in enumerate(_sources(declared)):
            origin: Path = (*place, "from") if isinstance(declared.source, str) else (*place, "from", position)
            if source not in document.states:
                yield _unknown_state(source, document, origin)
                continue
            state = document.states[source]
            if state and state.terminal:
                text = f"{source} is terminal and never left: remove it here, or its terminal: true"
                yield Finding("error", "LEAVES_TERMINAL_STATE", text, origin)
            if (source, declared.name) in named:
                text = f"{source} has a transition {declared.name} already: rename or remove one"
                yield Finding("error", "DUPLICATE_TRANSITION", text, origin)
            named.add((source, declared.name))
            if declared.guard is None:
                other = unguarded.setdefault((source, declared.target), declared.name)
                if other != declared.name:
                    text = (
                        f"{other} and {declared.name} both lead unguarded from {source} to {declared.target}: "
                        "a command that gives only the target state is refused; it must name the transition"
                    )
                    yield Finding("warning", "AMBIGUOUS_TARGET", text, origin)


def _unknown_state(name: str, document: DefinitionDocument, path: Path) -> Finding:
    text = f"there is no state {name}: declare it or use one of {_listed(document.states)}"
    return Finding("error", "UNKNOWN_STATE", text, path)


def _listed(names: Mapping[str, object] | set[str], most: int = 20) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (", ..." if len(ordered) > most else "") or "none"
