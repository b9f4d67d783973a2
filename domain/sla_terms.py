"""An SLA as a definition promises it, compiled, and what is wrong with the clauses that say so."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

from contracts.definitions import DefinitionDocument
from contracts.slas import SlaDocument
from domain.findings import Finding, Path
from domain.target import working_time
from domain.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the escalation ladder; `after` is working time past the due instant, `every` until it is repeated."""

    after: str
    alert: str | None = None
    priority: str | None = None
    transition: str | None = None
    every: str | None = None

    def __str__(self) -> str:
        done = (
            ("alert", self.alert),
            ("priority", self.priority),
            ("transition", self.transition),
            ("every", self.every),
        )
        return f"after {self.after} " + ", ".join(f"{what} {which}" for what, which in done if which is not None)


@dataclass(frozen=True, slots=True)
class SlaTerms:
    """A promise as declared; times are texts, since how long a day is says the calendar."""

    name: str
    starts: frozenset[str]
    stops: frozenset[str]
    holds: frozenset[str] = frozenset()
    target: str | None = None
    by_priority: Mapping[str, str] | None = None
    warning: str = "15m"
    calendar: str | None = None
    service_areas: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    impact: str | None = None
    ladder: tuple[Rung, ...] = ()
    configured: str | None = None
    configured_version: int | None = None

    def promised_to(self, workflow: Workflow) -> bool:
        """Say whether it is promised to such a workflow."""
        return (not self.service_areas or workflow.service_area in self.service_areas) and (
            not self.types or workflow.type in self.types
        )

    def target_for(self, priority: str | None) -> str | None:
        """Return the target of a priority; None where the due date counts."""
        return (self.by_priority or {}).get(priority or "", self.target)

    def rung(self, index: int) -> Rung | None:
        """Return a rung by its place, counted from 0: beyond the last it is the last again, where that repeats."""
        if index < len(self.ladder):
            return self.ladder[index]
        return self.ladder[-1] if self.ladder and self.ladder[-1].every is not None else None

    @property
    def times(self) -> Iterator[str]:
        """Every working time that its calendar must be able to tell."""
        if self.target is not None:
            yield self.target
        yield from (self.by_priority or {}).values()
        yield self.warning
        yield from (rung.after for rung in self.ladder)
        yield from (rung.every for rung in self.ladder if rung.every is not None)

    def untold(self, working_day: timedelta | None) -> str | None:
        """Say which of its times means none under a calendar's working day; None if each is told."""
        found = (working_time(text, working_day) for text in self.times)
        return next((each for each in found if isinstance(each, str)), None)


def compile_terms(declared: SlaDocument, *, initial: str, terminal: frozenset[str]) -> SlaTerms:
    """Compile a clause whose references are sound."""
    return SlaTerms(
        name=declared.name,
        starts=frozenset(declared.starts or (initial,)),
        stops=frozenset(declared.stops) | terminal,
        holds=frozenset(declared.holds),
        target=declared.target,
        by_priority=declared.by_priority,
        warning=declared.warning,
        calendar=declared.calendar,
        service_areas=frozenset(declared.service_areas),
        types=frozenset(declared.types),
        impact=declared.impact,
        ladder=tuple(
            Rung(rung.after, rung.alert, rung.priority, rung.transition, rung.every) for rung in declared.ladder
        ),
    )


def check_terms(document: DefinitionDocument) -> Iterator[Finding]:
    """Return every finding on the SLAs' references."""
    named: set[str] = set()
    for index, declared in enumerate(document.slas):
        place: Path = ("slas", index)
        if declared.name in named:
            text = f"there is an SLA {declared.name} already: rename or remove one"
            yield Finding("error", "DUPLICATE_SLA", text, (*place, "name"))
        named.add(declared.name)
        yield from _states(document, declared, place)
        yield from _ladder(document, declared, place)
        yield from check_clause(declared, place)


def check_clause(declared: SlaDocument, place: Path) -> Iterator[Finding]:
    """Return every finding on what an SLA says by itself, whatever states there are."""
    yield from _order(declared, place)
    yield from _times(declared, place)


def _states(document: DefinitionDocument, declared: SlaDocument, place: Path) -> Iterator[Finding]:
    listed = ", ".join(sorted(document.states)[:20])
    terminal = {name for name, state in document.states.items() if state and state.terminal}
    for clause in ("starts", "holds", "stops"):
        for position, state in enumerate(getattr(declared, clause)):
            path = (*place, clause, position)
            if state not in document.states:
                text = f"there is no state {state}: declare it or use one of {listed}"
                yield Finding("error", "UNKNOWN_STATE", text, path)
            elif clause == "starts" and (state in declared.stops or state in terminal):
                text = f"{state} both starts and stops it, as a terminal state does: decide which"
                yield Finding("error", "STARTS_WHERE_IT_STOPS", text, path)
            elif clause == "holds" and (state in declared.stops or state in terminal):
                text = f"{state} stops it: there is nothing left to hold, remove one of the two"
                yield Finding("error", "HOLDS_WHERE_IT_STOPS", text, path)


def _ladder(document: DefinitionDocument, declared: SlaDocument, place: Path) -> Iterator[Finding]:
    names = {transition.name for transition in document.transitions}
    for index, rung in enumerate(declared.ladder):
        if rung.transition is not None and rung.transition not in names:
            text = f"there is no transition {rung.transition}: use one of {', '.join(sorted(names)[:20]) or 'none'}"
            yield Finding("error", "UNKNOWN_TRANSITION", text, (*place, "ladder", index, "transition"))


def _order(declared: SlaDocument, place: Path) -> Iterator[Finding]:
    for index, rung in enumerate(declared.ladder[:-1]):
        if rung.every is not None:
            text = "only the last rung repeats: those after it would have no end to wait for"
            yield Finding("error", "RUNGS_NOT_IN_ORDER", text, (*place, "ladder", index, "every"))
    day = timedelta(hours=24) if declared.calendar is None else None  # how long else it is says the calendar
    for index, (lower, upper) in enumerate(pairwise(declared.ladder), start=1):
        if not in_order(lower.after, upper.after, day):
            text = f"this rung is not after the one before, {lower.after}: give it a later time"
            yield Finding("error", "RUNGS_NOT_IN_ORDER", text, (*place, "ladder", index, "after"))


def in_order(lower: str, upper: str, day: timedelta | None) -> bool:
    """Say whether a time is after another under a calendar's day; what cannot be told passes."""
    first, second = working_time(lower, day), working_time(upper, day)
    return isinstance(first, str) or isinstance(second, str) or first < second


def _times(declared: SlaDocument, place: Path) -> Iterator[Finding]:
    rungs = [(rung.after, ("ladder", index, "after")) for index, rung in enumerate(declared.ladder)]
    repeats = [(rung.every, ("ladder", index, "every")) for index, rung in enumerate(declared.ladder)]
    by_priority = [(text, ("by_priority", name)) for name, text in declared.by_priority.items()]
    targets: Sequence[tuple[str | None, Path]] = [(declared.target, ("target",)), *by_priority]
    for text, path in (*targets, (declared.warning, ("warning",)), *rungs, *repeats):
        found = None if text is None else working_time(text, timedelta(hours=8))
        if isinstance(found, str):
            yield Finding("error", "BAD_TARGET", found, (*place, *path))
        elif found is not None and text is not None and _has_days(text) and declared.calendar is None:
            problem = f"{text} is in days, and without a calendar a day is 24 hours: write hours, or name a calendar"
            yield Finding("warning", "DAYS_AROUND_THE_CLOCK", problem, (*place, *path))
    for text, path in (*targets, *repeats):
        if text is not None and working_time(text, timedelta(hours=8)) == timedelta():
            problem = "it takes no time: give it some"
            yield Finding("error", "BAD_TARGET", problem, (*place, *path))


def _has_days(text: str) -> bool:
    return re.search(r"[0-9]d", text) is not None
