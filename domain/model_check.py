"""A machine explored before it runs: what no command reaches, what never ends, what two transitions make ambiguous.

The graph is walked once; each class of fault is one function over it in `CHECKS`. Guards are opaque: each may open at
any time, but for `domain.stances`. Time and memory grow with the number of transitions.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple

from domain.definition import Definition, Transition
from domain.findings import Finding, Path
from domain.stances import NEVER, Stance, stance

CREATE = "create_workflow"
FINDINGS_MAX = 100  # of one class; the rest are counted
_STEPS_SHOWN = 12

Places = Mapping[tuple[str, str], Path]


@dataclass(frozen=True, slots=True)
class Explored:
    """What commands can make of a workflow.

    `reached` has each state that a sequence of commands leads to, with the last transition of a shortest one (None
    for the initial state), nearest first. `ways` are all transitions, each with what its guard comes to.
    """

    definition: Definition
    reached: Mapping[str, Transition | None]
    ways: tuple[tuple[Transition, Stance], ...]

    def leading_to(self, states: Iterable[str], *, retrying: bool = True) -> frozenset[str]:
        """Return the states with a way to one of some states, these included; one without retries unless `retrying`."""
        entering: dict[str, list[str]] = {}
        for transition, met in self.ways:
            if met != NEVER and (retrying or not transition.retry):
                entering.setdefault(transition.target, []).append(transition.source)
        found = set(states)
        waiting = deque(found)
        while waiting:
            for source in entering.get(waiting.popleft(), ()):
                if source not in found:
                    found.add(source)
                    waiting.append(source)
        return frozenset(found)

    def way_to(self, state: str) -> tuple[Transition, ...]:
        """Return a shortest sequence of transitions from the initial state to a reached one."""
        way: list[Transition] = []
        last = self.reached[state]
        while last is not None:
            way.append(last)
            last = self.reached[last.source]
        return tuple(reversed(way))


class Fault(NamedTuple):
    """What a check found; `state` is where a shortest sequence leads to show it, None if none does."""

    severity: Literal["error", "warning", "note"]
    code: str
    text: str
    path: Path
    state: str | None


def explore(definition: Definition) -> Explored:
    """Walk a definition from its initial state."""
    ways = tuple(_with_stances(definition.transitions))
    leaving: dict[str, list[Transition]] = {}
    for transition, met in ways:
        if met != NEVER:
            leaving.setdefault(transition.source, []).append(transition)
    reached: dict[str, Transition | None] = {definition.initial: None}
    waiting = deque([definition.initial])
    while waiting:
        for transition in leaving.get(waiting.popleft(), ()):
            if transition.target not in reached:
                reached[transition.target] = transition
                waiting.append(transition.target)
    return Explored(definition, reached, ways)


def check_model(definition: Definition, document: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Return what the checks find, each with a shortest command sequence; `document` is what was compiled."""
    explored, places = explore(definition), _places(document)
    return tuple(finding for check in CHECKS for finding in _findings(check(explored, places), explored))


def _with_stances(transitions: Iterable[Transition]) -> Iterator[tuple[Transition, Stance]]:
    known: dict[str, Stance] = {}  # a guard that many sources share is read once
    for transition in transitions:
        key = "" if transition.guard is None else f"{transition.guard.engine} {transition.guard.expression}"
        if key not in known:
            known[key] = stance(transition.guard)
        yield transition, known[key]


def _unreachable(explored: Explored, _: Places) -> Iterator[Fault]:
    """Find states that no sequence of commands leads to; a migration still might."""
    entering: dict[str, Transition] = {}
    for transition, _met in explored.ways:
        known = entering.get(transition.target)
        if transition.source == transition.target:
            continue
        if known is None or (known.source not in explored.reached and transition.source in explored.reached):
            entering[transition.target] = transition
    for state in explored.definition.states:
        if state in explored.reached:
            continue
        way, nearest = entering.get(state), None
        if way is None:
            reason = "no transition leads to it"
        elif way.source in explored.reached:
            reason, nearest = f"{way.name} would lead to it from {way.source}, but its guard is false", way.source
        else:
            reason = f"{way.name} would lead to it from {way.source}, which is never reached either"
        text = f"no command brings work to {state}: {reason}; add a transition or remove the state"
        yield Fault("warning", "UNREACHABLE_STATE", text, ("states", state), nearest)


def _dead_ends(explored: Explored, _: Places) -> Iterator[Fault]:
    """Find states that work comes to and never ends from, though the definition has an end."""
    if not explored.definition.terminal:
        return
    finishing = explored.leading_to(explored.definition.terminal)
    for state in explored.reached:
        if state not in finishing:
            text = f"no way leads from {state} to a terminal state: add a transition, or terminal: true"
            yield Fault("error", "DEAD_END", text, ("states", state), state)


def _retries_run_out(explored: Explored, _: Places) -> Iterator[Fault]:
    """Find states that work only leaves for good by retries, of which there are so many and no more."""
    definition = explored.definition
    if definition.max_retries is None or not definition.terminal:
        return
    finishing = explored.leading_to(definition.terminal)
    lasting = explored.leading_to(definition.terminal, retrying=False)
    for state in explored.reached:
        if state in finishing and state not in lasting:
            text = (
                f"work in {state} comes to a terminal state by a retry alone, of which max_retries allows "
                f"{definition.max_retries}: after them nothing ends it; add another way if it should"
            )
            yield Fault("note", "RETRIES_RUN_OUT", text, ("states", state), state)


def _never_taken(explored: Explored, places: Places) -> Iterator[Fault]:
    """Find transitions whose guard is false, said once for all their sources, or whose source is never reached."""
    said: set[Path] = set()
    for transition, met in explored.ways:
        source, path = transition.source, places[transition.source, transition.name]
        if met != NEVER and source not in explored.reached:
            text = f"{transition.name} can never be taken from {source}: no command brings work there"
            yield Fault("note", "NEVER_TAKEN", text, path, None)
        elif met == NEVER and path[:2] not in said:
            said.add(path[:2])
            text = f"{transition.name} can never be taken: its guard is false"
            state = source if source in explored.reached else None
            yield Fault("warning", "NEVER_TAKEN", text, (*path[:2], "guard"), state)


def _ambiguous(explored: Explored, places: Places) -> Iterator[Fault]:
    """Find pairs of transitions between the same states that one command may find open.

    Of those that lead the same way only the first of each stance is kept: any but one's opposite may be open with it.
    """
    first: dict[tuple[str, str], dict[Stance, Transition]] = {}
    for transition, met in explored.ways:
        source, target = transition.source, transition.target
        if met == NEVER or source not in explored.reached:
            continue
        others = first.setdefault((source, target), {})
        other = next((each for stance_, each in islice(others.items(), 2) if not stance_.excludes(met)), None)
        others.setdefault(met, transition)
        if other is not None:
            text = (
                f"{other.name} and {transition.name} both lead from {source} to {target} and may be open at once: "
                "a command that gives only the target state is refused; it must name the transition"
            )
            yield Fault("warning", "AMBIGUOUS_TARGET", text, places[source, transition.name], source)


def _slas(explored: Explored, _: Places) -> Iterator[Fault]:
    """Find SLAs that no command starts, or that nothing ends once they run."""
    for index, terms in enumerate(explored.definition.slas.values()):
        starting = [state for state in explored.reached if state in terms.starts]
        if not starting:
            text = f"SLA {terms.name} never starts: no command brings work to {', '.join(sorted(terms.starts))}"
            yield Fault("warning", "SLA_NEVER_STARTS", text, ("slas", index, "starts"), None)
        ending = explored.leading_to(terms.stops)
        endless = [state for state in starting if state not in ending]
        if endless:
            text = (
                f"SLA {terms.name} is started by {endless[0]} and can never stop: no way leads to a state that stops it"
            )
            yield Fault("warning", "SLA_NEVER_STOPS", text, ("slas", index), endless[0])


CHECKS: tuple[Callable[[Explored, Places], Iterator[Fault]], ...] = (
    _unreachable,
    _dead_ends,
    _retries_run_out,
    _never_taken,
    _ambiguous,
    _slas,
)


def _findings(faults: Iterator[Fault], explored: Explored) -> Iterator[Finding]:
    """Give each fault its command sequence, and count those beyond the limit, whose sequences nobody would read."""
    for fault in islice(faults, FINDINGS_MAX):
        way = () if fault.state is None else explored.way_to(fault.state)
        commands = () if fault.state is None else (CREATE, *(transition.name for transition in way))
        shown = f"; {_shown(explored.definition.initial, way)}" if commands else ""
        yield Finding(fault.severity, fault.code, fault.text + shown, fault.path, commands=commands)
    rest = list(faults)
    if rest:
        text = f"{len(rest)} more of the same kind: correct those above first"
        yield Finding(rest[0].severity, rest[0].code, text, rest[0].path)


def _shown(initial: str, way: tuple[Transition, ...]) -> str:
    """Write a sequence with the states it passes; of a long one its beginning and its end."""
    steps = [f"{CREATE} -> {initial}", *(f"{transition.name} -> {transition.target}" for transition in way)]
    left_out = len(steps) - _STEPS_SHOWN
    if left_out > 0:
        half = _STEPS_SHOWN // 2
        steps[half:-half] = [f"({left_out} more)"]
    return "; ".join(steps)


def _places(document: Mapping[str, Any]) -> Places:
    """Return where each transition's source stands in the document, by source and name."""
    places: dict[tuple[str, str], Path] = {}
    for index, declared in enumerate(document.get("transitions", ())):
        sources = declared["from"]
        if isinstance(sources, str):
            places[sources, declared["name"]] = ("transitions", index, "from")
        else:
            for position, source in enumerate(sources):
                places[source, declared["name"]] = ("transitions", index, "from", position)
    return places
