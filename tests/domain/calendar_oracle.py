"""Working time found by looking at the clock every minute: slow, plain, and apart from the product.

It reads the document itself, the time zone database and the library of holidays; it shares no code with
`domain.calendar`. Zones have changed by whole minutes since 1973, so a minute of UTC is all open or all closed.
"""

import warnings
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

import holidays

MINUTE = timedelta(minutes=1)
NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
Document = dict[str, Any]


@cache
def zone(name: str) -> ZoneInfo:
    """Read a zone from the database that the product reads."""
    with files("tzdata").joinpath(f"zoneinfo/{name}").open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@cache
def library(country: str, region: str | None) -> Any:  # noqa: ANN401 - the library's own mapping
    """Give the holidays of a place."""
    return holidays.country_holidays(country, subdiv=region)


def is_holiday(document: Document, shown: date) -> bool:
    """Ask the library about one date."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return any(shown in library(each["country"], each.get("region")) for each in document.get("holidays", ()))


def minutes_on(document: Document, shown: date) -> frozenset[int]:
    """Say in which minutes of a date the document has work done."""
    exception = document.get("exceptions", {}).get(f"{shown:%Y-%m-%d}")
    week = document["week"]
    hours: list[tuple[int, int]] = []
    if exception is not None:
        hours = _tonight(exception["hours"])
    elif not is_holiday(document, shown):
        hours += _tonight(week.get(NAMES[shown.weekday()], []))
        hours += _last_night(week.get(NAMES[shown.weekday() - 1], []))
    return frozenset(minute for start, end in hours for minute in range(start, end))


def _tonight(hours: str | list[str]) -> list[tuple[int, int]]:
    return [(start, end if start < end else 1440) for start, end in _minutes(hours)]


def _last_night(hours: str | list[str]) -> list[tuple[int, int]]:
    return [(0, end) for start, end in _minutes(hours) if end < start]


def _minutes(hours: str | list[str]) -> list[tuple[int, int]]:
    listed = [hours] if isinstance(hours, str) else hours
    return [(int(text[0:2]) * 60 + int(text[3:5]), int(text[6:8]) * 60 + int(text[9:11])) for text in listed]


@dataclass
class Grid:
    """The minutes from `start` on, each open or closed; every answer is counted from them."""

    document: Document
    start: datetime
    minutes: int
    open: list[bool] = field(init=False)
    before: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """Look at every minute once."""
        minutes_of = cache(lambda shown: minutes_on(self.document, shown))
        info = zone(self.document["time_zone"])
        shown = [(self.start + number * MINUTE).astimezone(info) for number in range(self.minutes)]
        self.open = [wall.hour * 60 + wall.minute in minutes_of(wall.date()) for wall in shown]
        self.before = [0]
        for each in self.open:
            self.before.append(self.before[-1] + each)

    def is_open(self, instant: datetime) -> bool:
        """Say whether the minute of an instant is open."""
        return self.open[(instant - self.start) // MINUTE]

    def worked(self, since: datetime, until: datetime) -> timedelta:
        """Add the open minutes and what is left of seconds at both ends."""
        return self._until(until) - self._until(since)

    def due(self, instant: datetime, working: timedelta) -> datetime | None:
        """Go minute by minute until the working time is used up; None if the grid ends before."""
        if working <= timedelta():
            return instant
        wanted = self._until(instant) + working
        number = bisect_left(self.before, wanted, key=lambda count: count * MINUTE)
        if number > self.minutes:
            return None
        return self.start + number * MINUTE - (self.before[number] * MINUTE - wanted)

    def opens(self, instant: datetime) -> datetime | None:
        """Return the first open instant from this one on; None if the grid ends before."""
        return self._first(instant, wanted=True)

    def closes(self, instant: datetime) -> datetime | None:
        """Return the first closed instant from this one on; None if the grid ends before."""
        return self._first(instant, wanted=False)

    def _first(self, instant: datetime, *, wanted: bool) -> datetime | None:
        number = (instant - self.start) // MINUTE
        if self.open[number] is wanted:
            return instant
        later = (at for at in range(number, self.minutes) if self.open[at] is wanted)
        found = next(later, None)
        return None if found is None else self.start + found * MINUTE

    def _until(self, instant: datetime) -> timedelta:
        number, seconds = divmod(instant - self.start, MINUTE)
        return self.before[number] * MINUTE + (seconds if number < self.minutes and self.open[number] else timedelta())


@cache
def changes(name: str, year: int) -> tuple[datetime, ...]:
    """Find the days of a year in which a zone changes its clocks."""
    first = datetime(year, 1, 1, tzinfo=UTC)
    days = [first + timedelta(days=number) for number in range(366)]
    offsets = [day.astimezone(zone(name)).utcoffset() for day in days]
    return tuple(day for day, was, now in zip(days, offsets, offsets[1:], strict=False) if was != now)
