"""What working time means, by example; bugs that others had; and laws that hold for any calendar."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.calendar import Calendar, always, closes_at, due_at, is_open, openings, opens_at, remaining, worked
from domain.target import working_time
from domain.zone import UNTIL, instants_of, on_the_wall
from tests.domain.calendar_cases import ZONES, case, compiled

HOUR = timedelta(hours=1)
OFFICE = dict.fromkeys(("monday", "tuesday", "wednesday", "thursday", "friday"), "09:00-17:00")


def calendar(week: dict[str, Any], zone: str = "Europe/Berlin", **more: object) -> Calendar:
    """Compile a calendar."""
    return compiled({"name": "c", "version": 1, "time_zone": zone, "week": week, **more})


def at(kept: Calendar, shown: str) -> datetime:
    """Return the one instant at which a clock in the calendar's zone shows this."""
    (instant,) = instants_of(kept.zone, datetime.fromisoformat(shown))
    return instant


def due(kept: Calendar, shown: str, target: str) -> str:
    """Say when a target is due, as a clock in the calendar's zone shows it."""
    working = working_time(target, kept.working_day)
    assert isinstance(working, timedelta), working
    found = due_at(kept, at(kept, shown), working)
    assert found is not None
    return f"{on_the_wall(kept.zone, found):%Y-%m-%d %H:%M}"


def daily(hours: str | list[str]) -> dict[str, str | list[str]]:
    """Give the same hours to every day of the week."""
    return dict.fromkeys((*OFFICE, "saturday", "sunday"), hours)


@pytest.mark.parametrize(
    ("start", "target", "expected"),
    [
        ("2026-11-16 10:00", "1d", "2026-11-17 10:00"),
        ("2026-11-16 10:00", "2d", "2026-11-18 10:00"),
        ("2026-11-19 10:00", "2d", "2026-11-23 10:00"),
        ("2026-11-16 10:00", "24h", "2026-11-19 10:00"),
    ],
)
def test_one_day_is_a_working_day(start: str, target: str, expected: str) -> None:
    """A day is not read as 24 business hours, which would be three days of eight."""
    assert expected == due(calendar(OFFICE), start, target)


def test_a_day_without_a_calendar_is_24_hours() -> None:
    """No calendar means any time."""
    assert working_time("1d", always().working_day) == 24 * HOUR
    start = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert start + 24 * HOUR == due_at(always(), start, 24 * HOUR)


def test_a_day_is_refused_where_days_differ() -> None:
    """Until the calendar says what a working day is; hours are never unclear."""
    shorter = OFFICE | {"friday": "09:00-14:00"}
    refused = working_time("2d", calendar(shorter).working_day)
    assert isinstance(refused, str)
    assert "working_day" in refused
    assert working_time("4h", calendar(shorter).working_day) == 4 * HOUR
    assert working_time("2d 1h", calendar(shorter, working_day="7h 30m").working_day) == 16 * HOUR


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4h", 4 * HOUR),
        ("90m", 1.5 * HOUR),
        ("1h30m", 1.5 * HOUR),
        ("1d 2h 3m 4s", timedelta(hours=10, minutes=3, seconds=4)),
        ("0s", timedelta()),
    ],
)
def test_targets_are_read(text: str, expected: timedelta) -> None:
    """Days, hours, minutes, seconds, in this order."""
    assert expected == working_time(text, 8 * HOUR)


@pytest.mark.parametrize(
    "text",
    ["", "4", "h", "4 h", "30m1h", "1h1h", "1w", "PT4H", "1h  30m", "4h ", "٤h", "1000000h"],
)
def test_what_is_no_target_is_refused(text: str) -> None:
    """Nothing is guessed."""
    refused = working_time(text, 8 * HOUR)
    assert isinstance(refused, str)
    assert "as in 2d, 4h or 1h 30m" in refused


def test_a_timer_made_before_opening_starts_at_opening() -> None:
    """At night, at the weekend, and on a holiday."""
    kept = calendar(OFFICE, holidays=[{"country": "DE", "region": "BY"}])
    assert "2026-11-16 10:00" == due(kept, "2026-11-16 06:00", "1h")
    assert "2026-11-16 10:00" == due(kept, "2026-11-13 17:00", "1h")
    assert "2027-01-07 10:00" == due(kept, "2027-01-06 12:00", "1h")


def test_a_due_instant_at_closing_stays_at_closing() -> None:
    """It is not the next opening; a moment more is."""
    kept = calendar(OFFICE)
    assert "2026-11-13 17:00" == due(kept, "2026-11-13 15:00", "2h")
    assert "2026-11-16 09:01" == due(kept, "2026-11-13 15:00", "2h 1m")


def test_a_target_of_zero_is_due_at_once() -> None:
    """Even at night; so is what was overrun before a hold."""
    night = at(calendar(OFFICE), "2026-11-13 23:00")
    assert night == due_at(calendar(OFFICE), night, timedelta())
    assert night == due_at(calendar(OFFICE), night, -HOUR)


def test_a_hold_over_a_night_moves_the_due_instant_by_its_working_time_alone() -> None:
    """Held at 16:00 and resumed at 10:00: one hour before closing and one after opening, not a day."""
    kept = calendar(OFFICE)
    target = 8 * HOUR
    left = remaining(kept, target, [(at(kept, "2026-11-16 12:00"), at(kept, "2026-11-16 16:00"))])
    assert 4 * HOUR == left
    assert at(kept, "2026-11-17 12:00") == due_at(kept, at(kept, "2026-11-16 12:00"), target)
    assert at(kept, "2026-11-17 14:00") == due_at(kept, at(kept, "2026-11-17 10:00"), left)


def test_a_hold_while_closed_moves_nothing() -> None:
    """Held after closing, resumed before opening."""
    kept = calendar(OFFICE)
    left = remaining(kept, 8 * HOUR, [(at(kept, "2026-11-16 12:00"), at(kept, "2026-11-16 18:00"))])
    assert at(kept, "2026-11-17 12:00") == due_at(kept, at(kept, "2026-11-17 07:00"), left)


def test_a_new_target_keeps_what_was_held() -> None:
    """A priority that changes after two holds counts the same spans against the new target."""
    kept = calendar(OFFICE)
    ran = [
        (at(kept, "2026-11-16 09:00"), at(kept, "2026-11-16 10:00")),
        (at(kept, "2026-11-16 15:00"), at(kept, "2026-11-16 16:30")),
        (at(kept, "2026-11-17 09:00"), at(kept, "2026-11-17 09:15")),
    ]
    assert timedelta(minutes=75) == remaining(kept, 4 * HOUR, ran)
    assert -timedelta(minutes=45) == remaining(kept, 2 * HOUR, ran)


def test_a_whole_day_has_24_hours_and_no_gap_at_midnight() -> None:
    """From 00:00 to 24:00 on every day is open throughout, also over midnight."""
    kept = calendar(daily("00:00-24:00"), "UTC")
    start = at(kept, "2026-11-16 23:00")
    assert start + 48 * HOUR == due_at(kept, start, 48 * HOUR)
    assert closes_at(kept, start) is None
    assert [(start, start + 100 * HOUR)] == list(openings(kept, start, start + 100 * HOUR))
    alone = calendar({"monday": "00:00-24:00"}, "UTC")
    assert at(alone, "2026-11-17 00:00") == closes_at(alone, at(alone, "2026-11-16 12:00"))
    assert at(alone, "2026-11-16 00:00") == opens_at(alone, at(alone, "2026-11-15 12:00"))


def test_hours_over_midnight_go_on_the_next_date() -> None:
    """The last night of the week ends on a date that has no hours of its own."""
    kept = calendar(dict.fromkeys(OFFICE, "22:00-06:00"))
    assert "2026-11-14 06:00" == due(kept, "2026-11-13 12:00", "1d")
    assert "2026-11-16 22:30" == due(kept, "2026-11-14 05:30", "1h")
    assert at(kept, "2026-11-14 06:00") == closes_at(kept, at(kept, "2026-11-13 23:00"))


def test_sunday_night_reaches_into_monday() -> None:
    """The week goes round."""
    kept = calendar({"sunday": "20:00-04:00"})
    assert "2026-11-16 04:00" == due(kept, "2026-11-15 20:00", "8h")


def test_holidays_count_by_local_date() -> None:
    """A night shift into a holiday ends at midnight; the holiday's own night ends on the date after."""
    kept = calendar(daily("22:00-06:00"), holidays=[{"country": "DE"}])
    spans = openings(kept, at(kept, "2026-09-30 12:00"), at(kept, "2026-10-05 12:00"))
    shown = [tuple(f"{on_the_wall(kept.zone, edge):%d %H:%M}" for edge in span) for span in spans]
    assert [
        ("30 22:00", "01 06:00"), ("01 22:00", "02 06:00"), ("02 22:00", "03 00:00"),
        ("04 00:00", "04 06:00"), ("04 22:00", "05 06:00"),
    ] == shown  # fmt: skip


def test_a_holiday_is_that_of_its_region() -> None:
    """Epiphany is one in Bavaria and none in Berlin; a date is local, whatever UTC says."""
    bavaria = calendar(daily("00:00-24:00"), holidays=[{"country": "DE", "region": "BY"}])
    berlin = calendar(daily("00:00-24:00"), holidays=[{"country": "DE", "region": "BE"}])
    day = datetime(2027, 1, 5, 23, tzinfo=UTC)
    edges = [day - HOUR, day, day + 23 * HOUR, day + 24 * HOUR]
    assert [True, False, False, True] == [is_open(bavaria, edge) for edge in edges]
    assert [True] * 4 == [is_open(berlin, edge) for edge in edges]


def test_an_exception_says_all_of_its_date() -> None:
    """It opens a holiday, closes a working day, and replaces what a night before would have left."""
    kept = calendar(
        OFFICE | {"wednesday": "22:00-06:00", "thursday": []},
        holidays=[{"country": "DE"}],
        exceptions={
            "2026-12-25": {"hours": "10:00-12:00", "note": "emergencies"},
            "2026-11-16": {"hours": []},
            "2026-11-19": {"hours": ["05:00-05:30"]},
        },
    )
    assert "2026-12-25 11:00" == due(kept, "2026-12-25 00:00", "1h")
    assert "2026-11-17 10:00" == due(kept, "2026-11-16 09:00", "1h")
    assert 2.5 * HOUR == worked(kept, at(kept, "2026-11-18 12:00"), at(kept, "2026-11-20 08:00"))


def test_the_repeated_hour_counts_twice() -> None:
    """On 25 October 2026 Berlin's clocks show 02:00 to 03:00 twice."""
    kept = calendar(daily("00:00-04:00"))
    assert 5 * HOUR == worked(kept, at(kept, "2026-10-25 00:00"), at(kept, "2026-10-25 12:00"))
    assert "2026-10-25 03:30" == due(kept, "2026-10-25 00:00", "4h 30m")
    half = calendar(daily("02:15-02:45"))
    spans = list(openings(half, at(half, "2026-10-25 00:00"), at(half, "2026-10-25 12:00")))
    assert [timedelta(minutes=30)] * 2 == [stop - start for start, stop in spans]
    assert HOUR == spans[1][0] - spans[0][0]


def test_the_missing_hour_does_not_count() -> None:
    """On 29 March 2026 Berlin's clocks go from 02:00 to 03:00."""
    kept = calendar(daily("00:00-04:00"))
    assert 3 * HOUR == worked(kept, at(kept, "2026-03-29 00:00"), at(kept, "2026-03-29 12:00"))
    assert "2026-03-29 03:30" == due(kept, "2026-03-29 00:00", "2h 30m")
    assert "2026-03-30 02:30" == due(calendar(daily("02:00-03:00")), "2026-03-28 12:00", "30m")
    assert () == instants_of(kept.zone, datetime.fromisoformat("2026-03-29 02:30"))
    assert 2 == len(instants_of(kept.zone, datetime.fromisoformat("2026-10-25 02:30")))


def test_a_date_that_was_left_out_has_no_hours() -> None:
    """Samoa had no 30 December 2011."""
    kept = calendar(daily("09:00-17:00"), "Pacific/Apia")
    assert "2011-12-31 10:00" == due(kept, "2011-12-29 16:00", "2h")


def test_a_calendar_that_never_opens_is_never_due() -> None:
    """Nor does it take long to say so; nor is what lies beyond 2099 due."""
    closed = calendar({})
    start = datetime(2026, 11, 16, tzinfo=UTC)
    assert (None, None, start) == (due_at(closed, start, HOUR), opens_at(closed, start), closes_at(closed, start))
    assert [] == list(openings(closed, start, UNTIL))
    assert None is due_at(calendar(OFFICE), start, timedelta(days=10_000))
    assert (False, None) == (is_open(always(), UNTIL), due_at(always(), UNTIL, HOUR))


def test_ten_years_of_work_end_on_the_last_of_their_days() -> None:
    """522 weeks of forty hours, by a calendar without holidays."""
    kept = calendar(OFFICE, "UTC")
    start = at(kept, "2026-11-16 09:00")
    assert at(kept, "2036-11-14 17:00") == due_at(kept, start, 522 * 40 * HOUR)


CASES = {zone: case(number, 1).calendar for number, zone in enumerate(ZONES)}
OPENING = [kept for kept in CASES.values() if kept.stretches.before[-1]]
CALENDARS = st.sampled_from(OPENING)
LATEST = datetime(2080, 1, 1, tzinfo=UTC)
INSTANTS = st.datetimes(datetime(1975, 1, 1), LATEST.replace(tzinfo=None), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis takes naive bounds
# What is left after the latest instant until calendars end: more than that is never due.
TARGETS = st.timedeltas(timedelta(), min(worked(kept, LATEST, UNTIL) for kept in OPENING))


@given(CALENDARS, INSTANTS, TARGETS)
def test_what_is_worked_until_due_is_the_target(kept: Calendar, start: datetime, target: timedelta) -> None:
    """And not a microsecond before."""
    found = due_at(kept, start, target)
    assert found is not None
    assert target == worked(kept, start, found)
    if target:
        assert target - timedelta(microseconds=1) == worked(kept, start, found - timedelta(microseconds=1))


@given(CALENDARS, st.lists(INSTANTS, min_size=3, max_size=3))
def test_work_adds_up_over_any_split(kept: Calendar, instants: list[datetime]) -> None:
    """Nothing is lost or counted twice where a span is cut."""
    first, middle, last = sorted(instants)
    assert worked(kept, first, last) == worked(kept, first, middle) + worked(kept, middle, last)
    assert timedelta() <= worked(kept, first, last) <= last - first


@given(CALENDARS, st.tuples(INSTANTS, INSTANTS), st.tuples(TARGETS, TARGETS))
def test_more_work_or_a_later_start_is_never_due_sooner(
    kept: Calendar, starts: tuple[datetime, datetime], targets: tuple[timedelta, timedelta]
) -> None:
    """A due instant rises with both."""
    sooner, later = (due_at(kept, start, min(targets)) for start in sorted(starts))
    longer = due_at(kept, min(starts), max(targets))
    assert sooner is not None
    assert later is not None
    assert longer is not None
    assert sooner <= later
    assert sooner <= longer


@given(CALENDARS, INSTANTS)
def test_openings_and_closings_take_turns(kept: Calendar, start: datetime) -> None:
    """What opens is open, what closes is not, and nothing is worked before the one or missed before the other."""
    opening = opens_at(kept, start)
    assert opening is not None
    closing = closes_at(kept, opening)
    assert is_open(kept, opening)
    assert timedelta() == worked(kept, start, opening)
    if closing is not None:
        assert not is_open(kept, closing)
        assert closing - opening == worked(kept, opening, closing)
