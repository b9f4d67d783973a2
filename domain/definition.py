"""A state machine compiled from its document: what may happen next, as look-ups.

`check` says everything that is wrong with a document's shape and references; `compile_document` needs no error left.
How the machine would run is `domain.model_check`'s.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from contracts.definitions import (
    GUARD_LANGUAGES,
    DefinitionDocument,
    GuardDocument,
    StateDocument,
    TransitionDocument,
)
from contracts.predicates import Guard
from contracts.rejections import Code
from domain.canonical import canonical
from domain.condition_text import Problem
from domain.conditions import translate
from domain.findings import Finding, Path
from domain.shape import read_shape
from domain.sla_terms import SlaTerms, check_terms, compile_terms

# Clauses of the language that this build does not enforce yet; applying one would be a promise nobody keeps.
# fmt: off
LATER = frozenset({
    "approvals", "assignment", "automations", "children", "compensation", "dependencies", "depends_on",
    "effects", "encryption", "entry", "escalation", "exit", "forms", "migrations",
    "phase", "priority", "retention", "retries", "roles", "routing",
    "substatus", "tasks", "teams", "templates", "tenants", "timeout", "timers",
    "unavailable", "webhooks"
})
# fmt: on

# The transition that `recover_workflow` takes; it is a retry whether or not its clause says so.
RECOVER = "recover"


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
    """A named way from one state to another; a document's list of sources becomes one each.

    `required` are the command's fields that may not be absent, as dotted paths; a `retry` raises `retry_count`.
    """

    name: str
    source: str
    target: str
    guard: Guard | None
    required: tuple[str, ...] = ()
    retry: bool = False


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
    max_retries: int | None = None
    terminal_code: Code = Code.TERMINAL_STATE
    slas: Mapping[str, SlaTerms] = field(default_factory=dict)


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
        Transition(
            declared.name,
            source,
            declared.target,
            guard,
            required=declared.required,
            retry=_retries(declared),
        )
        for declared in document.transitions
        for guard in (_guard(declared),)
        for source in _sources(declared)
    )
    by_target: dict[tuple[str, str], list[Transition]] = {}
    outgoing: dict[str, list[Transition]] = {}
    for transition in transitions:
        by_target.setdefault((transition.source, transition.target), []).append(transition)
        outgoing.setdefault(transition.source, []).append(transition)
    events = document.events
    initial = next(state.name for state in states.values() if state.initial)
    terminal = frozenset(state.name for state in states.values() if state.terminal)
    return Definition(
        name=document.name,
        version=document.version,
        kind=document.kind,
        initial=initial,
        states=states,
        terminal=terminal,
        transitions=transitions,
        by_target={between: tuple(reaching) for between, reaching in by_target.items()},
        by_name={(transition.source, transition.name): transition for transition in transitions},
        outgoing={source: tuple(leaving) for source, leaving in outgoing.items()},
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
        max_retries=document.limits.max_retries,
        terminal_code=Code(document.refusals.terminal_state),
        slas={each.name: compile_terms(each, initial=initial, terminal=terminal) for each in document.slas},
    )


def _state(name: str, declared: StateDocument) -> State:
    return State(name, declared.initial, declared.terminal, declared.category, declared.description)


def _sources(declared: TransitionDocument) -> tuple[str, ...]:
    return (declared.source,) if isinstance(declared.source, str) else declared.source


def _retries(declared: TransitionDocument) -> bool:
    return declared.retry or declared.name == RECOVER


def _guard(declared: TransitionDocument) -> Guard | None:
    guard = declared.guard
    if guard is None:
        return None
    if isinstance(guard, str):
        return guard_of("cel", guard)
    language = next(name for name in GUARD_LANGUAGES if getattr(guard, name) is not None)
    return guard_of(language, getattr(guard, language))


def guard_of(language: str, written: Any) -> Guard:  # noqa: ANN401 - in JSONLogic any JSON
    """Return the guard that is written in a language; a condition must be one that can be translated."""
    if language == "remote":
        return Guard(engine="remote", expression=written)
    if language == "jsonlogic":
        return Guard(engine="jsonlogic", expression=canonical(written).decode())
    text = translate(written) if language == "python" else written
    if not isinstance(text, str):
        raise TypeError(f"a condition with a problem is compiled: {text}")
    return Guard(engine="cel", expression=text.strip())


def _read(document: object) -> DefinitionDocument | tuple[Finding, ...]:
    return read_shape(DefinitionDocument, document, later=LATER)


def _references(document: DefinitionDocument) -> Iterator[Finding]:
    yield from _states(document)
    yield from _transitions(document)
    yield from check_terms(document)
    names = {declared.name for declared in document.transitions}
    listed = _listed(names)
    for name in document.events.by_transition:
        if name not in names:
            text = f"there is no transition {name}: use one of {listed}"
            yield Finding("error", "UNKNOWN_TRANSITION", text, ("events", "by_transition", name))
    if document.limits.max_retries is not None and not any(map(_retries, document.transitions)):
        text = "max_retries bounds the transitions with retry: true, and there is none: mark one or remove the limit"
        yield Finding("warning", "NO_RETRY", text, ("limits", "max_retries"))


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
    listed = _listed(document.states)
    for index, declared in enumerate(document.transitions):
        place: Path = ("transitions", index)
        if declared.target not in document.states:
            yield _unknown_state(declared.target, listed, (*place, "to"))
        yield from _condition(declared, place)
        for position, source in enumerate(_sources(declared)):
            origin: Path = (*place, "from") if isinstance(declared.source, str) else (*place, "from", position)
            if source not in document.states:
                yield _unknown_state(source, listed, origin)
                continue
            state = document.states[source]
            if state and state.terminal:
                text = f"{source} is terminal and never left: remove it here, or its terminal: true"
                yield Finding("error", "LEAVES_TERMINAL_STATE", text, origin)
            if (source, declared.name) in named:
                text = f"{source} has a transition {declared.name} already: rename or remove one"
                yield Finding("error", "DUPLICATE_TRANSITION", text, origin)
            named.add((source, declared.name))


def _condition(declared: TransitionDocument, path: Path) -> Iterator[Finding]:
    guard = declared.guard
    problem = translate(guard.python) if isinstance(guard, GuardDocument) and guard.python is not None else None
    if isinstance(problem, Problem):
        text = f"at {problem.line}:{problem.column} of this Python condition: {problem.message}"
        yield Finding("error", "BAD_GUARD", text, (*path, "guard", "python"))


def _unknown_state(name: str, listed: str, path: Path) -> Finding:
    text = f"there is no state {name}: declare it or use one of {listed}"
    return Finding("error", "UNKNOWN_STATE", text, path)


def _listed(names: Mapping[str, object] | set[str], most: int = 20) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (", ..." if len(ordered) > most else "") or "none"
