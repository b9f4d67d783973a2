"""Working time as arithmetic: open or closed, time worked between two instants, the instant a target is used up.

A calendar is open while a clock on the wall of its zone shows working hours of the date it shows; time is what elapses.
So a repeated hour counts twice, a missing one not at all. All answers are look-ups in two running totals: over the
local dates, and over the stretches between two changes of the zone's offset. From 2100 on it is closed.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cache
from itertools import accumulate

from domain.zone import END, UTC_ZONE, Zone, instant_of, micros

DAY = 86_400_000_000
# Clocks west of Greenwich still show this date when 1970 begins, those in the east the last one when it ends.
FIRST = date(1969, 12, 31)
DAYS = (date(2100, 1, 2) - FIRST).days

Span = tuple[datetime, datetime]
# Microseconds of a date, half-open, in order, none touching the next.
Hours = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Calendar:
    """A calendar compiled; days are counted from `FIRST`, times are in microseconds.

    `dates` has the days that differ from their weekday, `notes` why; `working_day` is what `1d` means, if that is
    clear. `by_day[d]` is the open time before day d on the wall; `stretches` follow the zone's.
    """

    name: str
    version: int
    zone: Zone = field(repr=False)
    week: tuple[Hours, ...]
    dates: Mapping[int, Hours] = field(repr=False)
    notes: Mapping[int, str] = field(repr=False)
    working_day: timedelta | None
    by_day: Sequence[int] = field(repr=False)
    stretches: "Stretches" = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stretches:
    """For each stretch of one offset: the wall's time is `shift` ahead; the open time before it starts is `before`.

    The open time before an instant is `origin` plus the open time before what the wall shows. `before` has one more:
    the open time of all.
    """

    shift: tuple[int, ...]
    until: tuple[int, ...]
    before: tuple[int, ...]
    origin: tuple[int, ...]


def build(
    name: str,
    version: int,
    zone: Zone,
    week: tuple[Hours, ...],
    dates: Mapping[int, Hours],
    *,
    notes: Mapping[int, str],
    working_day: timedelta | None,
) -> Calendar:
    """Build a calendar from the hours of seven weekdays, Monday first, and of the dates that differ."""
    monday = FIRST.weekday()
    open_times = [_length(week[(monday + day) % 7]) for day in range(7)]
    by_date = (open_times * (DAYS // 7 + 1))[:DAYS]
    for day, hours in dates.items():
        by_date[day] = _length(hours)
    by_day = array("q", accumulate(by_date, initial=0))
    bare = Calendar(name, version, zone, week, dates, notes, working_day, by_day, Stretches((), (), (), ()))
    shift = tuple(offset + DAY for offset in zone.offset)
    until = (*zone.since[1:], END)
    starts = [_before(bare, since + ahead) for since, ahead in zip(zone.since, shift, strict=True)]
    ends = [_before(bare, end + ahead) for end, ahead in zip(until, shift, strict=True)]
    before = tuple(accumulate((end - start for start, end in zip(starts, ends, strict=True)), initial=0))
    origin = tuple(total - start for total, start in zip(before, starts, strict=False))
    return replace(bare, stretches=Stretches(shift, until, before, origin))


@cache
def always() -> Calendar:
    """Return what holds where no calendar is named: open at any time."""
    whole: Hours = ((0, DAY),)
    return build("always", 1, UTC_ZONE, (whole,) * 7, {}, notes={}, working_day=timedelta(days=1))


def is_open(calendar: Calendar, instant: datetime) -> bool:
    """Say whether an instant is working time; closing time itself is not."""
    at = micros(instant)
    if not 0 <= at < END:
        return False
    return _is_open(calendar, at + calendar.stretches.shift[_stretch(calendar, at)])


def worked(calendar: Calendar, since: datetime, until: datetime) -> timedelta:
    """Return the working time from one instant to a later one; zero where the second is not later."""
    if until <= since:
        return timedelta()
    return timedelta(microseconds=_total(calendar, until) - _total(calendar, since))


def due_at(calendar: Calendar, instant: datetime, working: timedelta) -> datetime | None:
    """Return when so much working time after an instant is used up: the first such instant, so closing stays closing.

    Nothing or less is used up at once, open or not. None: not before 2100.
    """
    if working <= timedelta():
        return instant
    return _used_up(calendar, _total(calendar, instant) + working // timedelta(microseconds=1))


def opens_at(calendar: Calendar, instant: datetime) -> datetime | None:
    """Return the first open instant from this one on, itself while open. None: not before 2100."""
    first = timedelta(microseconds=1)
    passed = _used_up(calendar, _total(calendar, instant) + 1)
    return None if passed is None else passed - first


def closes_at(calendar: Calendar, instant: datetime) -> datetime | None:
    """Return the first closed instant from this one on, itself while closed. None: not before 2100."""
    if not is_open(calendar, instant):
        return instant
    stretches = calendar.stretches
    at = micros(instant)
    for place in range(_stretch(calendar, at), len(stretches.shift)):
        shift, until = stretches.shift[place], stretches.until[place]
        if not _is_open(calendar, at + shift):
            return instant_of(at)
        closing = _closing(calendar, at + shift) - shift
        if closing < until:
            return instant_of(closing)
        at = until
    return None


def openings(calendar: Calendar, since: datetime, until: datetime) -> Iterator[Span]:
    """Give the open spans between two instants, in order."""
    start = opens_at(calendar, since)
    while start is not None and start < until:
        end = closes_at(calendar, start)
        yield start, (until if end is None or end > until else end)
        start = None if end is None else opens_at(calendar, end)


def remaining(calendar: Calendar, target: timedelta, ran: Sequence[Span]) -> timedelta:
    """Return what is left of a target after the spans in which it ran, negative where it is overrun.

    A promise that was held goes on with `due_at(calendar, resumed_at, remaining(...))`; so neither closed hours inside
    a hold nor a new target (the spans stay) can move or lose it.
    """
    return target - sum((worked(calendar, since, until) for since, until in ran), timedelta())


def hours_of(calendar: Calendar, day: int) -> Hours:
    """Return the hours of a local date, counted from `FIRST`."""
    special = calendar.dates.get(day)
    return calendar.week[(FIRST.weekday() + day) % 7] if special is None else special


def _total(calendar: Calendar, instant: datetime) -> int:
    """Return the open time from 1970 to an instant."""
    at = min(max(micros(instant), 0), END)
    place = _stretch(calendar, at)
    return calendar.stretches.origin[place] + _before(calendar, at + calendar.stretches.shift[place])


def _used_up(calendar: Calendar, total: int) -> datetime | None:
    """Return the first instant before which so much open time lies, one microsecond at least."""
    stretches = calendar.stretches
    if total > stretches.before[-1]:
        return None
    place = bisect_left(stretches.before, total) - 1
    on_wall = total - stretches.origin[place]
    day = bisect_left(calendar.by_day, on_wall) - 1
    rest = on_wall - calendar.by_day[day]
    for start, end in hours_of(calendar, day):
        if rest <= end - start:
            return instant_of(day * DAY + start + rest - stretches.shift[place])
        rest -= end - start
    raise AssertionError(f"{calendar.name}: the hours of day {day} are not what the totals say")


def _stretch(calendar: Calendar, at: int) -> int:
    return bisect_right(calendar.zone.since, at) - 1


def _before(calendar: Calendar, wall: int) -> int:
    """Return the open time before a moment on the wall, as if its clock had never been changed."""
    day, time = divmod(wall, DAY)
    total = calendar.by_day[day]
    for start, end in hours_of(calendar, day):
        if time <= start:
            break
        total += min(time, end) - start
    return total


def _is_open(calendar: Calendar, wall: int) -> bool:
    day, time = divmod(wall, DAY)
    return any(start <= time < end for start, end in hours_of(calendar, day))


def _closing(calendar: Calendar, wall: int) -> int:
    """Return where the hours end that an open moment on the wall is in; whole days are passed over by their totals."""
    day, time = divmod(wall, DAY)
    end = next(end for start, end in hours_of(calendar, day) if start <= time < end)
    if end < DAY:
        return day * DAY + end
    closed = _closed_before(calendar, day + 1)
    rest = range(day + 1, DAYS + 1)
    day += bisect_right(rest, closed, key=lambda later: _closed_before(calendar, later))
    hours = hours_of(calendar, day)
    return day * DAY + (hours[0][1] if hours and hours[0][0] == 0 else 0)


def _closed_before(calendar: Calendar, day: int) -> int:
    return day * DAY - calendar.by_day[day]


def _length(hours: Hours) -> int:
    return sum(end - start for start, end in hours)


def merged(intervals: Sequence[tuple[int, int]]) -> Hours:
    """Return intervals of a date in order, those that touch or overlap as one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)


def day_of(local_date: date) -> int:
    """Return a local date's number, counted from `FIRST`."""
    return (local_date - FIRST).days
