"""Calendars as YAML text: findings with their places, texts that mean harm, and the example of the docs."""

import re
import time
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from domain.calendar import Calendar, due_at, worked
from domain.target import working_time
from domain.zone import SINCE, UNTIL, instants_of, on_the_wall
from service.calendars.files import ParsedCalendar, compile_stored, read_calendar
from service.calendars.zones import load_zone, zone_names
from tests.service.test_definition_files import HOSTILE

DOCS = Path(__file__).parents[2] / "docs"
SOUND = """\
name: shop.office
version: 1
time_zone: Europe/Berlin
week:
  monday: "09:00-17:00"
  tuesday: ["09:00-12:00", "13:00-18:00"]
holidays:
  - {country: DE, region: BY}
exceptions:
  2026-12-24: {hours: "09:00-12:00", note: Christmas Eve}
  2026-12-31: {hours: []}
"""


def places(text: str) -> list[tuple[str, int | None, int | None]]:
    """Return code, line and column of each finding."""
    return [(finding.code, finding.line, finding.column) for finding in read_calendar(text).findings]


def test_a_sound_text_compiles() -> None:
    """Both days have eight hours, so a working day is clear."""
    parsed = read_calendar(SOUND)
    assert parsed.findings == ()
    assert parsed.calendar is not None
    assert timedelta(hours=8) == parsed.calendar.working_day
    assert "Epiphany" == parsed.holidays[date(2027, 1, 6)]


def test_the_digest_is_of_what_is_said() -> None:
    """Comments and layout do not change it; a value does."""
    assert read_calendar("# the same\n" + SOUND).digest == read_calendar(SOUND).digest
    assert read_calendar(SOUND.replace("09:00", "09:01")).digest != read_calendar(SOUND).digest


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("Europe/Berlin", "Europe/Berln", ("UNKNOWN_TIME_ZONE", 3, 12)),
        ("Europe/Berlin", "../../etc/passwd", ("BAD_VALUE", 3, 12)),
        ("Europe/Berlin", "posixrules", ("UNKNOWN_TIME_ZONE", 3, 12)),
        ('"09:00-17:00"', '"9:00-17:00"', ("BAD_VALUE", 5, 11)),
        ('"09:00-17:00"', '"09:00-24:01"', ("BAD_VALUE", 5, 11)),
        ('"09:00-17:00"', '"24:00-06:00"', ("BAD_VALUE", 5, 11)),
        ('"09:00-17:00"', "540", ("BAD_VALUE", 5, 11)),
        ('"09:00-17:00"', '"09:00-09:00"', ("EMPTY_HOURS", 5, 11)),
        ('"09:00-17:00"', '"00:00-00:00"', ("EMPTY_HOURS", 5, 11)),
        ('"13:00-18:00"', '"11:59-17:00"', ("OVERLAPPING_HOURS", 6, 28)),
        ('"09:00-17:00"', '"22:00-09:01"', ("OVERLAPPING_HOURS", 6, 13)),
        ("  monday:", '  sunday: "20:00-09:01"\n  monday:', ("OVERLAPPING_HOURS", 6, 11)),
        ("  monday:", "  someday:", ("UNKNOWN_CLAUSE", 5, 3)),
        ("  monday:", "  Monday:", ("UNKNOWN_CLAUSE", 5, 3)),
        ("week:", "working_day: 1d\nweek:", ("BAD_WORKING_DAY", 4, 14)),
        ("week:", "working_day: 0h\nweek:", ("BAD_WORKING_DAY", 4, 14)),
        ("week:", "working_day: 999999h\nweek:", ("BAD_WORKING_DAY", 4, 14)),
        ("week:", "working_day: 8\nweek:", ("BAD_VALUE", 4, 14)),
        ("country: DE", "country: XX", ("UNKNOWN_COUNTRY", 8, 15)),
        ("country: DE", "country: de", ("BAD_VALUE", 8, 15)),
        ("region: BY", "region: Bayern", ("UNKNOWN_REGION", 8, 27)),
        ("region: BY", "kinds: [public, bank]", ("UNKNOWN_KIND", 8, 35)),
        ("{country: DE, region: BY}", "{country: DK, kinds: [half_day]}", ("UNKNOWN_KIND", 8, 27)),
        ("2026-12-31", "2026-02-30", ("BAD_DATE", 11, 3)),
        ("2026-12-31", "1969-12-31", ("BAD_DATE", 11, 3)),
        ("2026-12-31", "2100-01-01", ("BAD_DATE", 11, 3)),
        ("2026-12-31", "New Year", ("BAD_VALUE", 11, 13)),
        ("2026-12-31", "2026-12-24", ("YAML_DUPLICATE_KEY", 11, 3)),
        ('"09:00-12:00", note', '"22:00-06:00", note', ("OVER_MIDNIGHT", 10, 23)),
        ('"09:00-12:00", note', '["09:00-12:00", "10:00-11:00"], note', ("OVERLAPPING_HOURS", 10, 39)),
        ("{hours: []}", "{}", ("MISSING_CLAUSE", 11, 15)),
        ("version: 1\n", "", ("MISSING_CLAUSE", 1, 1)),
        ("version: 1", "version: 0", ("BAD_VALUE", 2, 10)),
        ("time_zone:", "timezone:", ("UNKNOWN_CLAUSE", 3, 1)),
    ],
)
def test_findings_point_into_the_text(before: str, after: str, expected: tuple[str, int, int]) -> None:
    """A wrong name is found at the name, a wrong value at the value; nothing of it is used."""
    assert expected in places(SOUND.replace(before, after, 1))
    assert read_calendar(SOUND.replace(before, after, 1)).calendar is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SOUND.replace('"09:00-17:00"', '"09:00-14:00"'), ("note", "DAYS_DIFFER")),
        ("name: n\nversion: 1\ntime_zone: UTC\nweek: {}\n", ("warning", "NEVER_OPEN")),
        (SOUND.replace("DE, region: BY", "LK"), ("note", "HOLIDAYS_END")),
        (SOUND.replace("DE, region: BY", "IN"), ("note", "HOLIDAYS_END")),
    ],
)
def test_what_is_only_to_be_known_does_not_stop_a_calendar(text: str, expected: tuple[str, str]) -> None:
    """Days in targets that are unclear, no hours at all, years whose holidays nobody knows."""
    parsed = read_calendar(text)
    assert [expected] == [(finding.severity, finding.code) for finding in parsed.findings]
    assert parsed.calendar is not None


@pytest.mark.parametrize("case", ["aliases that double", "a python object", "deep keys", "nothing", "text"])
def test_a_hostile_text_is_refused_in_bounded_time(case: str) -> None:
    """Calendars are read by the reader of definitions: never an exception, never more than a few seconds."""
    text, code = HOSTILE[case]
    start = time.process_time()
    parsed = read_calendar(text)
    assert code in {finding.code for finding in parsed.findings}
    assert isinstance(parsed, ParsedCalendar)
    assert parsed.calendar is None
    assert time.process_time() - start < 5


def test_a_calendar_is_bounded() -> None:
    """More exceptions, intervals or holidays than anyone needs are refused before they cost anything."""
    days = "".join(f"  {1970 + n // 300}-{n % 300 // 25 + 1:02}-{n % 25 + 1:02}: {{hours: []}}\n" for n in range(4001))
    many = SOUND.replace("exceptions:\n", f"exceptions:\n{days}").replace("  2026-12-24", "  2099-12-24")
    assert [("BAD_VALUE", 10, 3)] == places(many)
    assert [("BAD_VALUE", 5, 11)] == places(SOUND.replace('"09:00-17:00"', str(["09:00-09:01"] * 25)))
    assert [("BAD_VALUE", 8, 3)] == places(SOUND.replace("DE, region: BY}", "DE}" + "\n  - {country: DE}" * 10))


def test_what_is_stored_keeps_its_holidays() -> None:
    """A library that knows others later does not change a version that was applied."""
    document = {"name": "n", "version": 1, "time_zone": "UTC", "week": {"friday": "00:00-24:00"}}
    known = {**document, "holidays": [{"country": "DE"}]}
    new_year = datetime.fromisoformat("2027-01-01T00:00Z")
    for holidays, hours in (({date(2027, 1, 1): "New Year's Day"}, 0), ({}, 24)):
        stored = compile_stored(known, holidays)
        assert isinstance(stored, Calendar)
        assert timedelta(hours=hours) == worked(stored, new_year, new_year + timedelta(days=1))


def test_every_zone_is_read() -> None:
    """From 1970 to 2099, each change later than the one before; another name is none."""
    assert {"UTC", "Europe/Berlin", "Asia/Kathmandu"} <= zone_names()
    assert None is load_zone("Mars/Olympus")
    for name in ("Africa/Casablanca", "America/Cambridge_Bay", "Europe/Berlin"):
        zone = load_zone(name)
        assert zone is not None
        assert list(zone.since) == sorted(set(zone.since))
        assert (0, True) == (zone.since[0], zone.since[-1] < (UNTIL - SINCE) // timedelta(microseconds=1))
        assert all(was != now for was, now in zip(zone.offset, zone.offset[1:], strict=False))


def test_the_docs_example_says_what_it_does() -> None:
    """The calendar of docs/calendars.md is sound, and each due instant in its table is the product's."""
    text = (DOCS / "calendars.md").read_text("utf-8")
    example = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert example is not None
    calendar = read_calendar(example.group(1)).calendar
    assert calendar is not None
    rows = re.findall(r"^\| \w{3} ([0-9-]+ [0-9:]+) \| `([^`]+)` \| \w{3} ([0-9-]+ [0-9:]+) \|", text, re.MULTILINE)
    assert len(rows) > 4
    for start, target, expected in rows:
        (since,) = instants_of(calendar.zone, datetime.fromisoformat(start))
        working = working_time(target, calendar.working_day)
        assert isinstance(working, timedelta)
        found = due_at(calendar, since, working)
        assert found is not None
        assert expected == f"{on_the_wall(calendar.zone, found):%Y-%m-%d %H:%M}", (start, target)


def test_the_docs_list_every_finding() -> None:
    """Codes that a calendar alone can have are explained."""
    text = (DOCS / "calendars.md").read_text("utf-8")
    source = "".join(
        path.read_text("utf-8")
        for folder, name in (("domain", "calendar_rules.py"), ("service/calendars", "*.py"))
        for path in (DOCS.parent / folder).glob(name)
    )
    codes = set(re.findall(r'"(?:error|warning|note)", "([A-Z_]+)"', source))
    assert len(codes) > 10
    assert set() == {code for code in codes if f"`{code}`" not in text}
