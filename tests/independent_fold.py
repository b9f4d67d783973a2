"""What an event log says should have happened, read with the standard library alone.

It shares no code with the importer, the core or the exporter: what they made is compared with this. As a script it
prints a log's figures: `python tests/independent_fold.py FILE`.
"""

import csv
import gzip
import io
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

XES = "{http://www.xes-standard.org/}"
DIFFERENCES_MAX = 50


class Happened(NamedTuple):
    """One line of the file: whose, what, when."""

    case: str
    activity: str
    at: datetime


class Step(NamedTuple):
    """One version of one workflow; a creation comes from nowhere."""

    version: int
    from_state: str | None
    to_state: str
    occurred_at: datetime


class Deviation(NamedTuple):
    """An event that the stricter definition forbids, with the state the case was in."""

    case: str
    from_state: str
    to_state: str
    occurred_at: datetime


class Expected(NamedTuple):
    """Every case's steps, and the events that were refused, in the order in which they happened."""

    steps: Mapping[str, list[Step]]
    refused: list[Deviation]


def expected(path: Path, allowed: Iterable[tuple[str, str]] | None = None, *, initial: str = "new") -> Expected:
    """Fold a log: all of it is accepted, or only the moves in `allowed`; a refused event leaves the state."""
    moves = None if allowed is None else frozenset(allowed)
    steps: dict[str, list[Step]] = defaultdict(list)
    refused: list[Deviation] = []
    for event in sorted(happened(path), key=lambda event: event.at):
        history = steps[event.case]
        if not history:
            history.append(Step(1, None, initial, event.at))
        state = history[-1].to_state
        if moves is None or (state, event.activity) in moves:
            history.append(Step(len(history) + 1, state, event.activity, event.at))
        else:
            refused.append(Deviation(event.case, state, event.activity, event.at))
    return Expected(dict(steps), refused)


def happened(path: Path) -> Iterator[Happened]:
    """Yield the lines of a .xes.gz or .csv.gz file."""
    with gzip.open(path, "rb") as stream:
        if path.name.endswith(".csv.gz"):
            for row in csv.DictReader(io.TextIOWrapper(stream, "utf-8", newline="")):
                yield Happened(row["case:concept:name"], row["concept:name"].strip(), _at(row["time:timestamp"]))
            return
        for trace in ET.parse(stream).getroot().iter(f"{XES}trace"):  # noqa: S314 - a second opinion, by another parser, on files of our own
            case = _text(trace, "concept:name")
            for event in trace.iter(f"{XES}event"):
                yield Happened(case, _text(event, "concept:name").strip(), _at(_text(event, "time:timestamp")))


def differing_workflows(want: Expected, rows: Iterable[Mapping[str, Any]], *, log: str) -> list[str]:
    """Compare the store's workflow rows (workflow_id, state, version); empty if they are what the file says."""
    left = {f"{log}:{case}": steps[-1] for case, steps in want.steps.items()}
    found: list[str] = []
    for row in rows:
        last = left.pop(row["workflow_id"], None)
        if last is None:
            found.append(f"{row['workflow_id']}: a row too many")
        elif (last.to_state, last.version) != (row["state"], row["version"]):
            was = f"{row['state']} at version {row['version']}"
            found.append(f"{row['workflow_id']}: {was}, expected {last.to_state} at {last.version}")
    return _bounded(found + [f"{workflow}: no row" for workflow in left])


def differing_events(want: Expected, events: Iterable[Mapping[str, Any]], *, log: str) -> list[str]:
    """Compare events in the order they were read, of the topic or of the store's history.

    Each has event_id, workflow_id, sequence, version, from_state (absent at creation), to_state and occurred_at.
    Every step has to be there once, in its workflow's order, and nothing else.
    """
    next_step = {f"{log}:{case}": iter(enumerate(steps, 1)) for case, steps in want.steps.items()}
    ids: set[str] = set()
    found: list[str] = []
    for event in events:
        workflow = event["workflow_id"]
        if str(event["event_id"]) in ids:
            found.append(f"{workflow}: event {event['event_id']} twice")
        ids.add(str(event["event_id"]))
        sequence, step = next(next_step.get(workflow, iter(())), (None, None))
        read = Step(event["version"], event.get("from_state"), event["to_state"], _at(event["occurred_at"]))
        if (sequence, step) != (event["sequence"], read):
            found.append(f"{workflow}: event {event['sequence']} is {read}, expected {sequence}: {step}")
    for workflow, steps in next_step.items():
        found += [f"{workflow}: no event {sequence}: {step}" for sequence, step in steps]
    return _bounded(found)


def differing_refusals(want: Expected, replies: Iterable[Mapping[str, Any]], *, log: str) -> list[str]:
    """Compare rejections (workflow_id, asks: the state asked for), counted: the same event may be refused twice."""
    left: dict[tuple[str, str], int] = defaultdict(int)
    for deviation in want.refused:
        left[f"{log}:{deviation.case}", deviation.to_state] += 1
    for reply in replies:
        left[reply["workflow_id"], reply["asks"]] -= 1
    return _bounded(
        [
            f"{workflow}: {abs(number)} refusals of {asked} too {'few' if number > 0 else 'many'}"
            for (workflow, asked), number in left.items()
            if number
        ]
    )


def _text(element: ET.Element, key: str) -> str:
    return next(child.attrib["value"] for child in element if child.get("key") == key)


def _at(instant: str | datetime) -> datetime:
    read = instant if isinstance(instant, datetime) else datetime.fromisoformat(instant)
    return read.astimezone(UTC)


def _bounded(found: list[str]) -> list[str]:
    rest = len(found) - DIFFERENCES_MAX
    return found if rest <= 0 else [*found[:DIFFERENCES_MAX], f"and {rest} more"]


def _figures(path: Path) -> str:
    steps = expected(path).steps
    versions = sum(map(len, steps.values()))
    return f"{path.name}: {len(steps)} workflows, {versions - len(steps)} transitions, {versions} versions\n"


if __name__ == "__main__":
    sys.stdout.writelines(_figures(Path(name)) for name in sys.argv[1:])
