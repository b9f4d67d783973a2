"""A calendar compiled from its document, and everything that is wrong with one.

Hours belong to the local date on which a clock shows them: the part of `22:00-06:00` after midnight is the next
date's, and is closed if that date is a holiday or an exception says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from itertools import pairwise

from contracts.calendars import CalendarDocument, ExceptionDocument, WeekDocument
from domain.calendar import DAY, Calendar, Hours, build, day_of, merged
from domain.findings import Finding, Path
from domain.shape import read_shape
from domain.target import working_time
from domain.zone import SINCE, UNTIL, Zone

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MINUTE = DAY // 1440
_Declared = str | tuple[str, ...]


def read_calendar_document(document: object) -> CalendarDocument | tuple[Finding, ...]:
    """Read a document's shape, or say where it is wrong."""
    return read_shape(CalendarDocument, document)


def check_calendar(document: CalendarDocument) -> tuple[Finding, ...]:
    """Return every finding on what a document says, but for the names of zones, countries, regions and kinds."""
    return (*_week(document), *_working_day(document), *_exceptions(document))


def compile_calendar(document: CalendarDocument, zone: Zone, holidays: Mapping[date, str]) -> Calendar:
    """Compile a document without errors; `holidays` are the names of those it takes, by date."""
    dates: dict[int, Hours] = {day_of(holiday): () for holiday in holidays}
    notes = {day_of(holiday): name for holiday, name in holidays.items()}
    for text, exception in document.exceptions.items():
        day = day_of(date.fromisoformat(text))
        dates[day] = merged(
            [(start * _MINUTE, end * _MINUTE) for start, end in map(_minutes, _listed(exception.hours))]
        )
        notes[day] = exception.note or "exception"
    return build(
        document.name,
        document.version,
        zone,
        _by_date(document.week),
        dates,
        notes=notes,
        working_day=_day_length(document),
    )


def _by_date(week: WeekDocument) -> tuple[Hours, ...]:
    """Cut each weekday's hours at midnight: what lies beyond is the next one's."""
    found: list[list[tuple[int, int]]] = [[] for _ in WEEKDAYS]
    for weekday, (_, declared) in enumerate(_declared(week)):
        for text in declared:
            start, end = _minutes(text)
            found[weekday].append((start * _MINUTE, min(end * _MINUTE, DAY)))
            if end * _MINUTE > DAY:
                found[(weekday + 1) % 7].append((0, end * _MINUTE - DAY))
    return tuple(merged(hours) for hours in found)


def _day_length(document: CalendarDocument) -> timedelta | None:
    """Return what a working day is: as declared, or the length of every day that has hours."""
    if document.working_day is not None:
        declared = working_time(document.working_day, None)
        return None if isinstance(declared, str) else declared
    lengths = {
        sum(end - start for start, end in map(_minutes, declared))
        for _, declared in _declared(document.week)
        if declared
    }
    return timedelta(minutes=lengths.pop()) if len(lengths) == 1 else None


def _week(document: CalendarDocument) -> Iterator[Finding]:
    placed: list[tuple[int, int, Path]] = []
    for weekday, name in enumerate(WEEKDAYS):
        for text, path in _paths(getattr(document.week, name), ("week", name)):
            start, end = _minutes(text)
            if start == end:
                yield _empty(text, path)
            placed.append((weekday * 1440 + start, weekday * 1440 + end, path))
    if not placed and not any(exception.hours for exception in document.exceptions.values()):
        text = "this calendar is never open: no target under it is ever due"
        yield Finding("warning", "NEVER_OPEN", text, ("week",))
    # Sunday night reaches into Monday morning.
    placed += [(start - 7 * 1440, end - 7 * 1440, path) for start, end, path in placed if end > 7 * 1440]
    yield from _overlaps(placed)


def _overlaps(placed: Sequence[tuple[int, int, Path]]) -> Iterator[Finding]:
    for (_, end, _), (start, _, path) in pairwise(sorted(placed, key=lambda each: each[:2])):
        if start < end:
            text = "these hours overlap others: each hour is given once, so correct one of the two"
            yield Finding("error", "OVERLAPPING_HOURS", text, path)


def _working_day(document: CalendarDocument) -> Iterator[Finding]:
    if document.working_day is not None:
        declared = working_time(document.working_day, None)
        if isinstance(declared, str) or not timedelta() < declared <= timedelta(days=1):
            text = "a working day is a time in hours and minutes, 24h at most, such as 8h or 7h 30m"
            yield Finding("error", "BAD_WORKING_DAY", text, ("working_day",))
    elif _day_length(document) is None and any(declared for _, declared in _declared(document.week)):
        text = "the days differ in length: targets in days are refused, unless working_day says what a day means"
        yield Finding("note", "DAYS_DIFFER", text, ("week",))


def _exceptions(document: CalendarDocument) -> Iterator[Finding]:
    for text, exception in document.exceptions.items():
        path: Path = ("exceptions", text)
        try:
            local_date = date.fromisoformat(text)
        except ValueError:
            yield Finding("error", "BAD_DATE", f"there is no date {text}: correct it", path)
            continue
        if not SINCE.date() <= local_date < UNTIL.date():
            yield Finding("error", "BAD_DATE", f"calendars know 1970 to 2099: {text} is outside, remove it", path)
        yield from _exception_hours(exception, (*path, "hours"))


def _exception_hours(exception: ExceptionDocument, path: Path) -> Iterator[Finding]:
    placed: list[tuple[int, int, Path]] = []
    for text, place in _paths(exception.hours, path):
        start, end = _minutes(text)
        if start == end:
            yield _empty(text, place)
        elif end > 1440:  # noqa: PLR2004 - minutes of a day
            message = (
                f"{text} is over midnight, but an exception is one date's: end it at 24:00, give the next date its own"
            )
            yield Finding("error", "OVER_MIDNIGHT", message, place)
        placed.append((start, end, place))
    yield from _overlaps(placed)


def _empty(text: str, path: Path) -> Finding:
    message = f"{text} is empty, or a whole day: write 00:00-24:00 for the day, or remove it"
    return Finding("error", "EMPTY_HOURS", message, path)


def _declared(week: WeekDocument) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name in WEEKDAYS:
        yield name, _listed(getattr(week, name))


def _listed(hours: _Declared) -> tuple[str, ...]:
    return (hours,) if isinstance(hours, str) else hours


def _paths(hours: _Declared, path: Path) -> list[tuple[str, Path]]:
    if isinstance(hours, str):
        return [(hours, path)]
    return [(text, (*path, index)) for index, text in enumerate(hours)]


def _minutes(interval: str) -> tuple[int, int]:
    """Return an interval's minutes of the day it starts on; one that ends on the next date ends after 1440."""
    start, end = (int(text[:2]) * 60 + int(text[3:]) for text in interval.split("-"))
    return start, end + 1440 if end < start else end
