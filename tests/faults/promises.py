"""Holds promises in time against what a run left: each step once, in order and none missing, the highest told of.

One pass over the journal, whose rows come in the order of their partition; what is kept of a run of an SLA is how far
it got. A rung that told somebody once is one that always has to.
"""

from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from domain.evolve import SLA
from domain.instants import read
from domain.sla import AT_RISK, BREACHED, FIRST_RUNG
from tests.faults.published import Kind, Violation

Row = Mapping[str, Any]
Event = Mapping[str, Any]

SLACK = timedelta(seconds=15)
"""How much a timer may be late when everything is stopped: the grace, a tick's period, and a batch of timers."""
_NUMBERS = {"SLA_AT_RISK": AT_RISK, "SLA_BREACHED": BREACHED}


class RunOf(NamedTuple):
    """One run of an SLA of a workflow."""

    workflow_id: str
    sla: str
    run: int


class Rung(NamedTuple):
    """A rung of a ladder, as its definition's version has it."""

    definition: str
    version: int
    sla: str
    number: int


@dataclass(slots=True)
class Progress:
    """How far a run got: the next step that is due to be taken, what it ended as, and its last record."""

    record: Mapping[str, Any]
    next_step: int = AT_RISK
    met: bool = False


@dataclass(slots=True)
class Together:
    """The steps that one decision took, as `{sla: {number: event}}`, and whom they told."""

    cause: tuple[str, str | None, str] | None = None
    steps: dict[str, dict[int, Event]] = field(default_factory=dict)
    met: set[str] = field(default_factory=set)
    alerts: list[Row] = field(default_factory=list)


class Promises:
    """The SLAs of a run, as the journal tells of them row by row."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._runs: dict[RunOf, Progress] = {}
        self._open: dict[tuple[str, str], RunOf] = {}
        self._together = Together()
        self._telling: set[Rung] = set()
        self._passed_over: dict[Rung, str] = {}
        self._sent: Counter[tuple[int, bytes]] = Counter()
        self._asked: set[tuple[int, bytes]] = set()
        self._tick_times: dict[int, Any] = {}

    def follow_up(self, part: int, value: bytes) -> None:
        """Take a record of the commands topic that the service sent itself."""
        self._sent[part, _digest(value)] += 1

    def row(self, row: Row) -> Iterator[Violation]:
        """Take a row of the journal."""
        if row["kind"] == "event":
            yield from self._event(orjson.loads(row["event"]))
        elif row["kind"] == "alert":
            yield from self._alert(orjson.loads(row["event"]))
        elif row["kind"] == "follow_up":
            document = orjson.loads(row["event"])
            value = b64decode(document["value"])
            asked = (document["part"], _digest(value))
            self.counts["follow-ups"] += 1
            if asked in self._asked:
                yield Violation(Kind.DECIDED_TWICE, row["workflow_id"], f"it is asked for twice: {value!r:.200}")
            if not self._sent[asked]:
                yield Violation(Kind.LOST, row["workflow_id"], f"the commands topic holds no {value!r:.200}")
            self._asked.add(asked)

    def partition(self, row: Row) -> None:
        """Take a partition's row: how late it was for it."""
        self._tick_times[row["part"]] = row["tick_time"]

    def workflow(self, row: Row) -> Iterator[Violation]:
        """Take a workflow's row: nothing of it may be long overdue."""
        tick_time = self._tick_times.get(row["part"])
        if tick_time is None:
            return
        for name, record in (orjson.loads(row["body"]).get("slas") or {}).items():
            if "next_at" in record and read(record["next_at"]) < _instant(tick_time) - SLACK:
                what = f"step {record.get('step', AT_RISK)} of {name} was due at {record['next_at']}"
                yield Violation(Kind.OVERDUE, row["workflow_id"], f"{what}, its partition is at {tick_time}")

    def tables(self, slas: Iterable[Row], timers: Iterable[Row]) -> Iterator[Violation]:
        """Hold the tables that are derived from the workflows against what the events say."""
        left = {of: progress.record for of, progress in self._runs.items()}
        for row in slas:
            of = RunOf(row["workflow_id"], row["name"], row["run"])
            record = left.pop(of, None)
            shown = (row["status"], row["is_open"])
            if record is None or (record["status"], "stopped_at" not in record) != shown:
                yield Violation(Kind.NOT_THE_FOLD, str(tuple(of)), f"its row says {shown}, its events {record}")
        for of in left:
            yield Violation(Kind.NOT_THE_FOLD, str(tuple(of)), "it has no row")
        due = {
            key: read(record["next_at"])
            for key, of in self._open.items()
            if "next_at" in (record := self._runs[of].record)
        }
        for row in timers:
            key = (row["workflow_id"], row["name"])
            if due.pop(key, None) != _instant(row["due_at"]):
                yield Violation(Kind.NOT_THE_FOLD, str(key), f"its timer is set to {row['due_at']}")
        for key in due:
            yield Violation(Kind.NOT_THE_FOLD, str(key), "it has no timer")

    def close(self) -> Iterator[Violation]:
        """Say what is missing at the end of the journal."""
        yield from self._told()
        for of, progress in self._runs.items():
            step = progress.record.get("step", AT_RISK)
            if progress.next_step != step:
                yield Violation(Kind.STEP_MISSING, str(tuple(of)), f"it is at step {step}, after {progress.next_step}")
        for rung, where in self._passed_over.items():
            if rung in self._telling:
                yield Violation(Kind.WRONG_ALERT, where, f"nobody heard of {tuple(rung)}, which tells")
        for part, _ in self._sent.keys() - self._asked:
            yield Violation(Kind.INVENTED, f"partition {part}", "a command in the service's name that no row asks for")

    def _event(self, event: Event) -> Iterator[Violation]:
        cause = (event["workflow_id"], event.get("command_id"), event["timestamp"])
        if cause != self._together.cause or self._together.alerts:
            yield from self._told()
            self._together = Together(cause)
        step = _step(event)
        told = event["details"]["sla"] if step is not None or event["event_type"] == "SLA_MET" else None
        for name, record in event.get("slas", {}).items():
            of = RunOf(event["workflow_id"], name, record["run"])
            self.counts["SLAs"] += of not in self._runs
            progress = self._runs.setdefault(of, Progress(record))
            progress.record = record
            self._open[event["workflow_id"], name] = of
            if name == told:
                yield from self._taken(of, progress, step, event)
            elif record.get("step", AT_RISK) == AT_RISK:
                progress.next_step = AT_RISK  # before its due instant; a warning may have been taken back

    def _taken(self, of: RunOf, progress: Progress, step: int | None, event: Event) -> Iterator[Violation]:
        """Take a step of a run, or its good end."""
        where = f"{of.workflow_id}, {of.sla}, run {of.run}"
        if step is None:
            self.counts["met"] += 1
            self._together.met.add(of.sla)
            progress.met = True
            if progress.next_step > BREACHED:
                yield Violation(Kind.MET_AND_BREACHED, where, "it was met after it had breached")
            return
        self.counts["breaches" if step == BREACHED else "rungs" if step > BREACHED else "warnings"] += 1
        self._together.steps.setdefault(of.sla, {})[step] = event
        if progress.met:
            yield Violation(Kind.MET_AND_BREACHED, where, f"step {step} comes after it was met")
        if step < progress.next_step:
            yield Violation(Kind.STEP_TWICE, where, f"step {step} comes after step {progress.next_step - 1}")
        elif step > progress.next_step:
            yield Violation(Kind.STEP_MISSING, where, f"step {step} comes where {progress.next_step} was to come")
        if read(event["timestamp"]) < read(event["details"]["step_due_at"]):
            yield Violation(Kind.TOO_EARLY, where, f"step {step} at {event['timestamp']}: {event['details']}")
        progress.next_step = max(progress.next_step, step + 1)
        if step == AT_RISK and progress.record.get("step", AT_RISK) == AT_RISK:
            progress.next_step = AT_RISK  # the change that came with it moved the due instant away

    def _alert(self, alert: Row) -> Iterator[Violation]:
        self.counts["alerts told"] += 1
        self._together.alerts.append(alert)
        if alert.get("rung") is not None:
            self._telling.add(_rung(alert["sla"], alert["rung"], self._event_of(alert)))
        if self._event_of(alert).get("event_id") is None:
            yield Violation(Kind.WRONG_ALERT, alert["workflow_id"], f"of no step that was just taken: {alert}")

    def _event_of(self, alert: Row) -> Event:
        steps = self._together.steps.get(alert["sla"], {})
        return next((event for event in steps.values() if event["event_id"] == alert["event_id"]), {})

    def _told(self) -> Iterator[Violation]:
        """Look at whom a decision told of the steps that it took together."""
        together = self._together
        for name, steps in together.steps.items():
            numbers = [
                next((number for number, event in steps.items() if event["event_id"] == alert["event_id"]), -1)
                for alert in together.alerts
                if alert["sla"] == name
            ]
            where = f"{next(iter(steps.values()))['workflow_id']}, {name}"
            if len(numbers) > 1 or (numbers and name in together.met):
                yield Violation(Kind.WRONG_ALERT, where, f"steps {list(steps)} told of {numbers}")
            if name in together.met:
                continue
            loudest = max(numbers, default=-1)
            unheard = [number for number in steps if number > loudest]
            if any(number < FIRST_RUNG for number in unheard):
                yield Violation(Kind.WRONG_ALERT, where, f"steps {list(steps)} told of {numbers}")
            for number in unheard:
                if number >= FIRST_RUNG:
                    self._passed_over[_rung(name, number - FIRST_RUNG + 1, steps[number])] = where
        self._together = Together()


def _step(event: Event) -> int | None:
    """Return the number of the step that an event tells of, if it does."""
    if event.get("category") != SLA or "step_due_at" not in event.get("details", {}):
        return None
    return _NUMBERS.get(event["event_type"], FIRST_RUNG - 1 + int(event["details"].get("rung", 0)))


def _rung(sla: str, number: int, event: Event) -> Rung:
    return Rung(event.get("definition", ""), event.get("definition_version", 0), sla, number)


def _instant(shown: datetime | str) -> datetime:
    """Return a column's instant, as the database or a file of evidence gives it."""
    return read(shown) if isinstance(shown, str) else shown


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=12).digest()
