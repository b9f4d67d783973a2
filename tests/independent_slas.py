"""What a promise in working time comes to over an event log, by plain dates and clock times.

It shares no code with the core: each opening interval of each local date is turned into two instants, and what a stay
in a state overlaps with them is added up.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tests.independent_fold import Step

Accounts = dict[str, float]


class Hours(NamedTuple):
    """Opening hours: by weekday from Monday as texts like 09:00-13:00, dates that are closed, and the zone."""

    zone: str
    week: tuple[tuple[str, ...], ...]
    closed: frozenset[date]


class Promise(NamedTuple):
    """So many seconds of opening time from entering a start state to entering a stop state."""

    seconds: int
    starts: Collection[str]
    holds: Collection[str]
    stops: Collection[str]
    accounts: Mapping[str, str]
    hours: Hours


@dataclass
class Run:
    """One run of a promise; `spent` up to where it was told to end, in seconds by account."""

    number: int
    started_at: datetime
    stopped_at: datetime | None = None
    spent: Accounts = field(default_factory=dict)

    def over(self, promise: Promise) -> float | None:
        """Return by how much the promise was broken, None where it was not."""
        used = sum(self.spent.get(name, 0) for name in ("worked", "waiting", "person"))
        return used - promise.seconds if used >= promise.seconds else None


def runs(steps: Sequence[Step], promise: Promise, until: datetime) -> list[Run]:
    """Return the runs of a case, the last one reckoned up to an instant if it is open."""
    found: list[Run] = []
    current: Run | None = None
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        state, entered_at = step.to_state, step.occurred_at
        if current is not None and state in promise.stops:
            current.stopped_at, current = entered_at, None
        elif current is None and state in promise.starts:
            current = Run(len(found) + 1, entered_at)
            found.append(current)
        left_at = until if following is None else following.occurred_at
        if current is not None:
            _stay(current, state, entered_at, left_at, promise)
    return found


def _stay(run: Run, state: str, start: datetime, end: datetime, promise: Promise) -> None:
    total = (end - start).total_seconds()
    if state in promise.holds:
        _add(run.spent, "held", total)
        return
    opened = open_seconds(promise.hours, start, end)
    _add(run.spent, promise.accounts.get(state, "worked"), opened)
    _add(run.spent, "closed", total - opened)


def open_seconds(hours: Hours, start: datetime, end: datetime) -> float:
    """Return the opening time between two instants."""
    zone = ZoneInfo(hours.zone)
    day, last = start.astimezone(zone).date(), end.astimezone(zone).date()
    found = 0.0
    while day <= last:
        for opens, closes in _opening(hours, day):
            found += max(0.0, (min(end, closes) - max(start, opens)).total_seconds())
        day += timedelta(days=1)
    return found


@cache
def _opening(hours: Hours, day: date) -> list[tuple[datetime, datetime]]:
    zone = ZoneInfo(hours.zone)
    if day in hours.closed:
        return []
    pairs = [text.split("-") for text in hours.week[day.weekday()]]
    return [
        (
            datetime.combine(day, time.fromisoformat(opens), zone).astimezone(UTC),
            datetime.combine(day, time.fromisoformat(closes), zone).astimezone(UTC),
        )
        for opens, closes in pairs
    ]


def _add(spent: Accounts, name: str, seconds: float) -> None:
    if seconds:
        spent[name] = spent.get(name, 0) + seconds
