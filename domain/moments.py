"""A workflow as it was at a moment, and what is different between two: its history, folded up to there."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from domain.canonical import canonical
from domain.evolve import fold
from domain.instants import written
from domain.workflow import Workflow

Json = Mapping[str, Any]
Moment = int | datetime  # a version, or an aware instant: the time of decisions


class Then(NamedTuple):
    """A workflow as of a moment, which is after so many of its events."""

    workflow: Workflow
    events: int


class NoSuchMoment(NamedTuple):
    """Why a workflow was not there at a moment, as the end of a sentence about it."""

    reason: str


def as_of(history: Sequence[Json], moment: Moment) -> Then | NoSuchMoment:
    """Return a workflow as a version left it, or as its last event up to an instant did; `history` is all of it."""
    if not history:
        return NoSuchMoment("has no events")
    if isinstance(moment, datetime):
        at = written(moment)
        events = max((place for place, event in enumerate(history, start=1) if event["timestamp"] <= at), default=0)
        refused = f"did not exist at {at}: it was created at {history[0]['timestamp']}"
    else:
        last = history[-1]["version"]
        if moment > last:
            return NoSuchMoment(f"has no version {moment} yet: it is at version {last}")
        events = sum(event["version"] <= moment for event in history)
        refused = f"has no version {moment}: its first is 1"
    workflow = fold(history[:events])
    return NoSuchMoment(refused) if workflow is None else Then(workflow, events)


def differences(before: Workflow, after: Workflow) -> tuple[dict[str, Any], ...]:
    """Return each field that differs: its `path` into JSON objects, and `before` and `after` where it had a value."""
    return tuple(_different((), _known(before), _known(after)))


def _known(workflow: Workflow) -> Json:
    return {field: value for field, value in workflow._asdict().items() if value is not None}


def _different(path: tuple[str, ...], before: Json, after: Json) -> Iterator[dict[str, Any]]:
    for key in {**before, **after}:
        here = (*path, key)
        if key not in after:
            yield {"path": here, "before": before[key]}
        elif key not in before:
            yield {"path": here, "after": after[key]}
        elif isinstance(before[key], Mapping) and isinstance(after[key], Mapping):
            yield from _different(here, before[key], after[key])
        elif canonical([before[key]]) != canonical([after[key]]):  # 1 is not true
            yield {"path": here, "before": before[key], "after": after[key]}
