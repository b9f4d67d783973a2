"""Generated calendars and instants, for tests that hold two ways of reckoning against each other."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from contracts.calendars import CalendarDocument
from domain.calendar import Calendar
from domain.calendar_rules import check_calendar, compile_calendar
from service.calendars.public_holidays import public_holidays
from service.calendars.zones import load_zone
from tests.domain.calendar_oracle import NAMES, Document, Grid, changes

ZONES = (
    "Africa/Cairo", "Africa/Casablanca", "America/Havana", "America/New_York", "America/Sao_Paulo", "America/St_Johns",
    "America/Santiago", "Antarctica/Troll", "Asia/Beirut", "Asia/Gaza", "Asia/Kathmandu", "Asia/Kolkata",
    "Asia/Tehran", "Atlantic/Azores", "Australia/Lord_Howe", "Europe/Berlin", "Europe/Dublin", "Europe/London",
    "Pacific/Apia", "Pacific/Chatham", "Pacific/Kiritimati", "UTC",
)  # fmt: skip
PLACES = (("DE", "BY"), ("US", "CA"), ("GB", "SCT"), ("JP", None))
DAYS: tuple[str | list[str], ...] = (
    "09:00-17:00", ["08:00-12:00", "13:00-17:30"], "00:00-24:00", "22:00-06:00", "00:00-02:30", ["23:00-00:00"],
    ["00:00-00:01", "02:15-02:45", "23:59-24:00"], "01:30-03:15", [], [],
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A calendar, read by the product and by the oracle, over some days."""

    document: Document
    calendar: Calendar
    grid: Grid


def case(seed: int, days: int) -> Case:
    """Make a calendar, and look at it minute by minute: half of the time in a week in which the clocks change."""
    chance = random.Random(seed)
    zone = ZONES[seed % len(ZONES)]
    year = chance.randrange(1974, 2045)
    middle = datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=chance.randrange(365))
    if chance.random() < 0.5:
        middle = chance.choice(changes(zone, year) or (middle,))
    start = middle - timedelta(days=days // 2)
    document = _sound(chance, zone, start, days)
    return Case(document, compiled(document), Grid(document, start, days * 1440))


def compiled(document: Document) -> Calendar:
    """Compile a sound document as the product does when it is applied."""
    read = CalendarDocument.model_validate(document)
    zone = load_zone(read.time_zone)
    assert zone is not None
    places = tuple((each.country, each.region) for each in read.holidays)
    return compile_calendar(read, zone, _holidays(places))


@cache
def _holidays(places: tuple[tuple[str, str | None], ...]) -> dict[Any, str]:
    listed = [{"country": country, "region": region} for country, region in places]
    document = {"name": "h", "version": 1, "time_zone": "UTC", "week": {}, "holidays": listed}
    return public_holidays(CalendarDocument.model_validate(document))


def _sound(chance: random.Random, zone: str, start: datetime, days: int) -> Document:
    while True:
        document = _document(chance, zone, start, days)
        found = check_calendar(CalendarDocument.model_validate(document))
        if not any(finding.severity == "error" for finding in found):
            return document


def _document(chance: random.Random, zone: str, start: datetime, days: int) -> Document:
    usual = chance.choice(DAYS[:6])
    week = {name: usual if chance.random() < 0.6 else _hours(chance) for name in NAMES}
    places = chance.sample(PLACES, chance.randrange(3))
    dates = [start + timedelta(days=chance.randrange(days)) for _ in range(chance.randrange(3))]
    closing = [[], "10:00-14:00", ["00:00-24:00"], "21:00-00:00"]
    return {
        "name": "generated",
        "version": 1,
        "time_zone": zone,
        "week": week,
        "holidays": [{"country": country, "region": region} for country, region in places],
        "exceptions": {f"{each:%Y-%m-%d}": {"hours": chance.choice(closing)} for each in dates},
    }


def _hours(chance: random.Random) -> str | list[str]:
    if chance.random() < 0.5:
        return chance.choice(DAYS)
    first, second = sorted(chance.sample(range(1440), 2))
    return f"{first // 60:02}:{first % 60:02}-{second // 60:02}:{second % 60:02}"
