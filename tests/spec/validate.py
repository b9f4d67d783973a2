"""Holds a recorded run against `spec/`: its events in one order must be steps of Ownership.tla, one after another."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.spec.steps import Event
from tests.spec.tlc import Checked, check
from tests.spec.trace import linearize

CALLS_MAX = 1000
_CONFIG = """\
SPECIFICATION SpecRecorded
CHECK_DEADLOCK FALSE
CONSTANTS
    Workers <- RunWorkers
    Parts <- RunParts
    Traces <- RunTraces
    EpochChecked = TRUE
    TurnChecked = TRUE
    ProducerFenced = TRUE
    CursorAfterFence = TRUE
    AllSent = TRUE
INVARIANTS
    PublishedOnceInOrder
    NotDone
"""
_LINE = ",\n    "


@dataclass(frozen=True, slots=True)
class Validated:
    """What came of a run: nothing found means that every event is a step of the protocol."""

    findings: Sequence[str]
    events: Sequence[Event]

    @property
    def counts(self) -> Mapping[str, int]:
        """Return how often each step was taken."""
        return Counter(event.step for event in self.events)


def validate(paths: Iterable[Path], *, calls_max: int = CALLS_MAX) -> Validated:
    """Hold the beginning of a run against the protocol, as far as `calls_max` calls go; takes seconds.

    The store and the topics must have been new when the recording began.
    """
    order = linearize(paths, calls_max=calls_max)
    findings = order.findings or accepted(order.events)
    return Validated(findings, order.events)


def accepted(events: Sequence[Event]) -> Sequence[str]:
    """Return nothing if each event is a step of the protocol after those before it, else the one that is not."""
    if not events:
        return ["there is no event in this trace"]
    checked = _check([events])
    if checked.violated == "NotDone":
        return []
    if checked.violated is not None:
        return [f"{checked.violated} is violated"]
    taken = checked.depth - 1  # the first state is before the first event
    return [f"event {taken + 1} of {len(events)} is no step of the protocol: {events[taken]}"]


def first_accepted(traces: Sequence[Sequence[Event]]) -> int | None:
    """Return the place of a trace that is accepted, None if not one is; quicker than asking for each."""
    checked = _check(traces)
    if checked.violated is None and checked.distinct_states > len(traces):
        return None
    return int(re.findall(r"run = (\d+)", checked.said)[-1]) - 1


def _check(traces: Sequence[Sequence[Event]]) -> Checked:
    return check("Run", _CONFIG, beside={"Run": _module(traces)}, heap_mb=1000)


def _module(traces: Sequence[Sequence[Event]]) -> str:
    workers = ", ".join(sorted({f'"{event.worker}"' for events in traces for event in events}))
    parts = ", ".join(sorted({str(event.part) for events in traces for event in events}))
    written = (f"<<{_LINE.join(map(_literal, events))}>>" for events in traces)
    return f"""\
---- MODULE Run ----
EXTENDS Recorded
RunWorkers == {{{workers}}}
RunParts == {{{parts}}}
RunTraces == <<
{_LINE.join(written)}>>
====
"""


def _literal(event: Event) -> str:
    said = "".join(f", {name} |-> {value}" for name, value in event.said.items())
    return f'[step |-> "{event.step}", worker |-> "{event.worker}", part |-> {event.part}{said}]'
