"""What a new version of a definition changes, in words, and which open work each change concerns.

Every difference of the two compiled tables is in one of the changes; a clause that has no words of its own here is
named with its values, so that none that the language gains is passed over.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from itertools import chain
from typing import Any, Literal, NamedTuple, get_args

import orjson

from contracts.predicates import Guard
from domain.cel_text import clauses
from domain.definition import Definition, EventTypes, State, Transition
from domain.findings import Path
from domain.model_check import explore
from domain.sla_terms import SlaTerms

Effect = Literal["takes away", "adds", "changes"]
EFFECTS: tuple[Effect, ...] = get_args(Effect)
Key = tuple[str, str]

_NOWHERE: frozenset[str] = frozenset()
# What follows from states and transitions, or names the version itself.
_DERIVED = frozenset(
    {"name", "version", "initial", "states", "terminal", "transitions", "by_target", "by_name", "outgoing"}
)
_EVENTS = {"created": "a creation", "transition": "a transition", "metadata_updated": "an update of metadata"}


class Change(NamedTuple):
    """One change as a manager reads it.

    `touches` are the states of the old version whose open work it concerns; with `breaks`, that work could not go on
    in the new version. `about` are the places of the compiled table that differ; none where it follows from others.
    """

    effect: Effect
    code: str
    sentence: str
    touches: frozenset[str] = _NOWHERE
    breaks: bool = False
    about: frozenset[Path] = frozenset()


class Touched(NamedTuple):
    """A change and the open workflows it concerns; it is breaking if it breaks any."""

    change: Change
    open: int
    breaking: bool


class _Said(NamedTuple):
    """What is said of a transition, before and after the states it starts from."""

    effect: Effect
    code: str
    before: str
    after: str


def compare(old: Definition, new: Definition) -> tuple[Change, ...]:
    """Return what changes, grouped by effect; nothing for two versions that say the same."""
    found = chain(_states(old, new), _ways(old, new), _cut_off(old, new), _slas(old, new), _settings(old, new))
    return tuple(sorted(found, key=lambda change: EFFECTS.index(change.effect)))


def touched(changes: Iterable[Change], open_by_state: Mapping[str, int]) -> tuple[Touched, ...]:
    """Count for each change the open workflows of the old version that it concerns."""
    counted = ((each, sum(open_by_state.get(state, 0) for state in each.touches)) for each in changes)
    return tuple(Touched(each, count, each.breaks and count > 0) for each, count in counted)


def _states(old: Definition, new: Definition) -> Iterator[Change]:
    for name in old.states:
        if name not in new.states:
            lost = {_place(key) for key, way in old.by_name.items() if way.source == name and key not in new.by_name}
            text = f"The state {name} is gone: open work in it has no counterpart."
            touches, about = frozenset({name}), frozenset[Path]({("states", name), *lost})
            yield Change("takes away", "STATE_REMOVED", text, touches, breaks=True, about=about)
    for name in new.states:
        if name not in old.states:
            yield _new_state(name, old, new)
    if old.initial != new.initial:
        marked = (name for name in (old.initial, new.initial) if name in old.states and name in new.states)
        text = f"New work starts in {new.initial}, before in {old.initial}."
        about = frozenset(("states", name, "initial") for name in marked)
        yield Change("changes", "INITIAL_STATE", text, _NOWHERE, about=about | {("initial",)})
    for name, before in old.states.items():
        after = new.states.get(name, before)
        for field in _differing(before, after, {"name", "initial"}):
            about = frozenset({("states", name, field)})
            effect, code, text = _state_field(name, field, before, after)
            yield Change(effect, code, text, frozenset({name}), about=about)


def _new_state(name: str, old: Definition, new: Definition) -> Change:
    entering = [way for way in new.transitions if way.target == name and way.source != name]
    leaving = new.outgoing.get(name, ())
    reached = ", ".join(f"from {way.source} by {_quoted(way.name)}" for way in entering) or "from nowhere"
    left = ", ".join(f"to {way.target} by {_quoted(way.name)}" for way in leaving)
    end = "an end" if name in new.terminal else f"left {left}" if left else "never left"
    fresh = [(way.source, way.name) for way in (*entering, *leaving) if (way.source, way.name) not in old.by_name]
    touches = frozenset(way.source for way in entering if way.source in old.states)
    about = frozenset(map(_place, fresh)) | {("states", name)}
    return Change("adds", "STATE_ADDED", f"A new state {name}, reached {reached}; {end}.", touches, about=about)


def _state_field(name: str, field: str, before: State, after: State) -> tuple[Effect, str, str]:
    if field == "terminal":
        if after.terminal:
            return "takes away", "STATE_ENDS", f"{name} is an end now: work in it is closed, and nothing leaves it."
        return "changes", "STATE_GOES_ON", f"{name} is no longer an end: work in it stays open."
    return "changes", f"STATE_{field.upper()}", f"State {name}: {_now(field, before, after)}."


def _ways(old: Definition, new: Definition) -> Iterator[Change]:
    """Say what becomes of transitions, those that start from several states in one sentence."""
    said: dict[_Said, list[tuple[str, frozenset[Path]]]] = {}
    for source, words, about in chain(_gone_and_new(old, new), _altered(old, new)):
        said.setdefault(words, []).append((source, about))
    for words, found in said.items():
        sources = frozenset(source for source, _ in found)
        about = frozenset(chain.from_iterable(about for _, about in found))
        text = f"{words.before}{_either([state for state in old.states if state in sources])}{words.after}"
        yield Change(words.effect, words.code, text, sources, about=about)


def _gone_and_new(old: Definition, new: Definition) -> Iterator[tuple[str, _Said, frozenset[Path]]]:
    gone = {key: way for key, way in old.by_name.items() if key not in new.by_name and way.source in new.states}
    come = {
        key: way
        for key, way in new.by_name.items()
        if key not in old.by_name and way.source in old.states and way.target in old.states
    }
    for key, way in gone.items():
        others = [each for each in new.by_target.get((way.source, way.target), ()) if _key(each) in come]
        twins = [each for each in others if replace(each, name=way.name) == way]
        if len(twins) == 1 and _key(twins[0]) in come:
            twin = come.pop(_key(twins[0]))
            words = f" to {way.target} by {_quoted(twin.name)}, before by {_quoted(way.name)}."
            said = _Said("changes", "TRANSITION_RENAMED", "Work goes from ", words)
            yield way.source, said, frozenset({_place(key), _place(_key(twin))})
            continue
        left = [_quoted(each.name) for each in new.by_target.get((way.source, way.target), ())]
        after = f" by {_quoted(way.name)}; {_either(left)} leads there." if left else f" ({_quoted(way.name)})."
        said = _Said("takes away", "TRANSITION_REMOVED", "Work in ", f" can no longer become {way.target}{after}")
        yield way.source, said, frozenset({_place(key)})
    for key, way in come.items():
        condition = f", if {way.guard.expression}" if way.guard else ""
        after = f" can now become {way.target} ({_quoted(way.name)}){condition}."
        yield way.source, _Said("adds", "TRANSITION_ADDED", "Work in ", after), frozenset({_place(key)})


def _altered(old: Definition, new: Definition) -> Iterator[tuple[str, _Said, frozenset[Path]]]:
    for key, before in old.by_name.items():
        after = new.by_name.get(key, before)
        for field in _differing(before, after, {"name", "source"}):
            way, about = _quoted(before.name), frozenset({(*_place(key), field)})
            if field == "target":
                said = _Said(
                    "changes", "TARGET", f"{way} takes work from ", f" to {after.target}, before to {before.target}."
                )
            elif field == "guard":
                code, words = _guards(before.guard, after.guard)
                said = _Said("changes", code, f"{way} from ", f" to {after.target} {words}.")
            else:
                words = f" to {after.target}: {_now(field, before, after)}."
                said = _Said("changes", f"TRANSITION_{field.upper()}", f"{way} from ", words)
            yield before.source, said, about


def _guards(before: Guard | None, after: Guard | None) -> tuple[str, str]:
    if before is None:
        return "GUARD_ADDED", f"now needs: {_condition(after)}"
    if after is None:
        return "GUARD_REMOVED", f"no longer needs: {_condition(before)}"
    if {before.engine, after.engine} == {"cel"}:
        had, has = clauses(before.expression), clauses(after.expression)
        more, less = [each for each in has if each not in had], [each for each in had if each not in has]
        if not more and not less:
            return "GUARD_REWRITTEN", f"is guarded in other words: {_condition(after)}"
        if not less:
            return "GUARD_STRICTER", f"now also needs: {' && '.join(more)}"
        if not more:
            return "GUARD_LOOSER", f"no longer needs: {' && '.join(less)}"
    return "GUARD_CHANGED", f"now needs: {_condition(after)}; before: {_condition(before)}"


def _condition(guard: Guard | None) -> str:
    if guard is None:
        return "nothing"
    return {"cel": guard.expression}.get(guard.engine, f"{guard.engine} {guard.expression}")


def _cut_off(old: Definition, new: Definition) -> Iterator[Change]:
    could, can = explore(old).leading_to(old.terminal) - old.terminal, explore(new).leading_to(new.terminal)
    lost = [state for state in old.states if state in could and state in new.states and state not in can]
    if lost:
        text = f"Work in {_either(lost)} can no longer come to an end."
        yield Change("takes away", "CUT_OFF", text, frozenset(lost), breaks=True)


def _slas(old: Definition, new: Definition) -> Iterator[Change]:
    """Say what is promised otherwise; work under way keeps the target that it was promised."""
    open_work = _open_states(old, new)
    for name in {**old.slas, **new.slas}:
        before, after = old.slas.get(name), new.slas.get(name)
        if before is None or after is None:
            about = frozenset({("slas", name)})
            if after is not None:
                text = f"SLA {name} is promised: {_promise(after)}."
                yield Change("adds", "SLA_ADDED", text, after.starts & open_work, about=about)
            else:
                text = f"SLA {name} is promised no more: where it is open it is held for good."
                yield Change("takes away", "SLA_REMOVED", text, open_work, about=about)
            continue
        for field in _differing(before, after, {"name"}):
            text = f"SLA {name}: {_now(field, before, after)}."
            yield Change("changes", f"SLA_{field.upper()}", text, open_work, about=frozenset({("slas", name, field)}))


def _promise(terms: SlaTerms) -> str:
    hours = f" of calendar {terms.calendar}" if terms.calendar else ""
    time = f"{terms.target}{hours}" if terms.target else "by the due date"
    return f"{time} from {_either(sorted(terms.starts))} to {_either(sorted(terms.stops)) or 'no end'}"


def _settings(old: Definition, new: Definition) -> Iterator[Change]:
    for field in _differing(old, new, _DERIVED | {"event_types", "slas"}):
        before, after = getattr(old, field), getattr(new, field)
        words, touches = _SETTINGS.get(field, (None, _open_states))
        text = words(before, after) if words else f"The definition's {_now(field, old, new)}."
        yield Change("changes", field.upper(), text, touches(old, new), about=frozenset({(field,)}))
    yield from _events(old.event_types, new.event_types)


def _events(old: EventTypes, new: EventTypes) -> Iterator[Change]:
    for field in _differing(old, new, {"by_transition"}):
        name = f"The event of {_EVENTS[field]}" if field in _EVENTS else f"What stands before an event's type ({field})"
        text = f"{name} is now {getattr(new, field)}, before {getattr(old, field)}."
        yield Change("changes", "EVENT_TYPE", text, about=frozenset({("event_types", field)}))
    for transition in {**old.by_transition, **new.by_transition}:
        if old.by_transition.get(transition) != new.by_transition.get(transition):
            now, before = new.event_type(transition), old.event_type(transition)
            text = f"The event of {_quoted(transition)} is now {now}, before {before}."
            yield Change("changes", "EVENT_TYPE", text, about=frozenset({("event_types", "by_transition", transition)}))


def _open_states(old: Definition, _: Definition) -> frozenset[str]:
    return frozenset(old.states) - old.terminal


def _guarded(old: Definition, new: Definition) -> frozenset[str]:
    ways = (*old.transitions, *new.transitions)
    return frozenset(way.source for way in ways if way.guard is not None and way.source in old.states)


def _nobody(_: Definition, __: Definition) -> frozenset[str]:
    return _NOWHERE


_UNAVAILABLE = {"wait": "waits until it can", "reject": "is refused"}
_SETTINGS: Mapping[str, tuple[Callable[[Any, Any], str], Callable[[Definition, Definition], frozenset[str]]]] = {
    "max_open": (
        lambda before, after: f"{_at_most(after)} may be open at once, before {_at_most(before).lower()}.",
        _nobody,
    ),
    "on_unavailable": (
        lambda before, after: (
            f"A command whose guard cannot tell {_UNAVAILABLE.get(after, after)} now, "
            f"before it {_UNAVAILABLE.get(before, before)}."
        ),
        _guarded,
    ),
    "metadata_default": (
        lambda before, after: f"New work without metadata begins with {_told(after)}, before with {_told(before)}.",
        _nobody,
    ),
}


def _at_most(limit: int | None) -> str:
    return "Any number of workflows" if limit is None else f"At most {limit} workflows"


def _differing(before: Any, after: Any, known: Iterable[str]) -> list[str]:  # noqa: ANN401 - two dataclasses of a kind
    names = (field.name for field in fields(before) if field.name not in known)
    return [name for name in names if getattr(before, name) != getattr(after, name)]


def _now(field: str, before: Any, after: Any) -> str:  # noqa: ANN401 - two dataclasses of a kind
    told = field.replace("_", " ")
    return f"{told} is now {_told(getattr(after, field))}, before {_told(getattr(before, field))}"


def _told(value: Any) -> str:  # noqa: ANN401 - whatever a clause holds
    if value is None:
        return "nothing"
    if isinstance(value, frozenset):
        return _either(sorted(value)) or "any"
    if isinstance(value, tuple):
        return "; ".join(map(str, value)) or "none"
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def _either(names: list[str]) -> str:
    return "".join(names) if len(names) < 2 else f"{', '.join(names[:-1])} or {names[-1]}"  # noqa: PLR2004 - the last


def _quoted(name: str) -> str:
    return f"`{name}`"


def _key(way: Transition) -> Key:
    return way.source, way.name


def _place(key: Key) -> Path:
    return ("transitions", *key)
