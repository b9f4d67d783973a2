"""Where the time of an SLA went, state by state: its record's accounts, parted by what the history says happened.

The parts sum to what has passed, to the microsecond, since both are reckoned by `domain.sla` between the same instants.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from domain.evolve import evolve
from domain.instants import read
from domain.sla import Calendars, SlaRecord, calendar_of, overrun, parse_record, reckoned, seconds

Json = Mapping[str, Any]

ACCOUNTS = ("worked", "waiting", "person", "closed", "held", "paused")
"""Where time goes; `paused` is what a command held, which a record has among its `held`."""


class Climbed(NamedTuple):
    """A step that time took: `rung` is 0 for the warning and the breach."""

    kind: str
    rung: int
    due_at: str
    noticed_at: str


class Account(NamedTuple):
    """One run of an SLA: its record reckoned up to now, its time by state, the steps it took.

    `over_seconds` is the working time past what was promised, None where that is not breached.
    """

    name: str
    record: SlaRecord
    by_state: Mapping[str, Mapping[str, float]]
    steps: tuple[Climbed, ...]
    over_seconds: float | None

    @property
    def passed_seconds(self) -> float:
        """The time from its start to where it is reckoned."""
        return seconds(read(self.record.since) - read(self.record.started_at))


class _Stretch(NamedTuple):
    """From an instant on it was in a state, and its time went as the record says."""

    since: str
    state: str
    record: SlaRecord


@dataclass(slots=True)
class _Run:
    """One run of an SLA as its history goes on."""

    record: SlaRecord
    stretches: list[_Stretch] = field(default_factory=list)
    steps: list[Climbed] = field(default_factory=list)

    def changed(self, at: str, state: str, record: SlaRecord) -> None:
        """Take a change that counts from an instant: what was said of the time after it is void."""
        at = max(at, self.record.since)
        self.stretches = [each for each in self.stretches if each.since < at]
        self.stretches.append(_Stretch(at, state, record))
        self.record = record


def accounts(history: Iterable[Json], calendars: Calendars, now: datetime) -> list[Account]:
    """Return every run of every SLA of a workflow, in the order in which they started."""
    workflow = None
    running: dict[str, _Run] = {}
    found: list[tuple[str, _Run]] = []
    for event in history:
        workflow = evolve(workflow, event)
        records = {name: parse_record(body) for name, body in event.get("slas", {}).items()}
        for name, record in records.items():
            if name not in running or running[name].record.run != record.run:
                running[name] = _Run(record)
                found.append((name, running[name]))
        counts = event.get("effective_at")
        for name, run in running.items():
            record = records.get(name, run.record)
            # Undoing a migration opens again what it closed.
            if counts is not None and (run.record.is_open or record.is_open):
                run.changed(counts, workflow.state, record)
            run.record = record
        _climb(event, running)
    return [_account(name, run, calendars, now) for name, run in found]


def _climb(event: Json, running: Mapping[str, _Run]) -> None:
    details = event.get("details", {})
    if "step_due_at" in details:
        step = Climbed(event["event_type"], details.get("rung", 0), details["step_due_at"], event["timestamp"])
        running[details["sla"]].steps.append(step)


def _account(name: str, run: _Run, calendars: Calendars, now: datetime) -> Account:
    calendar = calendar_of(run.record, calendars)
    # A broker's clock may be ahead of the one that is asked now.
    record = reckoned(run.record, calendar, max(now, read(run.stretches[-1].since)))
    by_state: dict[str, dict[str, timedelta]] = {}
    ends = [*(each.since for each in run.stretches[1:]), record.since]
    for (since, state, then), until in zip(run.stretches, ends, strict=True):
        whole = reckoned(then._replace(since=since, spent={}, stopped_at=None), calendar, read(until))
        spent = by_state.setdefault(state, {})
        for account, length in whole.spent.items():
            part = "paused" if account == "held" and not then.held else account
            spent[part] = spent.get(part, timedelta()) + timedelta(seconds=length)
    return Account(
        name,
        record,
        {state: _in_seconds(spent) for state, spent in by_state.items() if spent},
        tuple(run.steps),
        None if record.breached_at is None else seconds(overrun(record, calendar)),
    )


def _in_seconds(spent: Mapping[str, timedelta]) -> dict[str, float]:
    return {name: seconds(spent[name]) for name in ACCOUNTS if name in spent}
