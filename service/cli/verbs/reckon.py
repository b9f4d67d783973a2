"""`calendars due|worked`: what a calendar means, with the hours that were counted."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from domain.calendar import Calendar, due_at, openings, worked
from domain.target import working_time
from domain.zone import SINCE, UNTIL, Zone, instants_of, on_the_wall
from service.cli.exits import RefusedError, UnreadableError
from service.cli.output import OUT, say_fields, say_json, say_table
from service.cli.verbs.calendars import (
    VersionOption,
    calendars,
    differing,
    say_dates,
    stored_calendar,
    usable_calendar,
)
from service.cli.verbs.options import AsJson, is_file, read_text
from service.cli.verbs.wording import length_of

SubjectArgument = Annotated[
    str, typer.Argument(metavar="NAME|FILE", help="A stored calendar, or a calendar's YAML.", show_default=False)
]
FromOption = Annotated[
    str,
    typer.Option("--from", help="An instant; without an offset, as the calendar's clocks show it.", show_default=False),
]
ToOption = Annotated[str, typer.Option("--to", help="An instant, likewise.", show_default=False)]
_DAY = timedelta(days=1)
TargetOption = Annotated[str, typer.Option(help="Working time: 4h, 1h 30m or 2d.", show_default=False)]


@dataclass(frozen=True)
class Reckoned:
    """What was counted between two instants; `end` names the second one."""

    calendar: Calendar
    since: datetime
    until: datetime
    end: str
    working: timedelta


@calendars.command()
def due(
    subject: SubjectArgument,
    start: FromOption,
    target: TargetOption,
    *,
    version: VersionOption = None,
    as_json: AsJson = False,
) -> None:
    """Say when a target is used up, and which hours were counted. Exits 1 if it never is."""
    calendar = _calendar(subject, version)
    since = _instant(calendar.zone, start, "--from")
    working = working_time(target, calendar.working_day)
    if isinstance(working, str):
        raise UnreadableError(working)
    until = due_at(calendar, since, working)
    if until is None:
        raise RefusedError(f"{target} from {start} is not due before 2100: {calendar.name} is not open for so long")
    _say(Reckoned(calendar, since, until, "due", working), as_json=as_json)


@calendars.command("worked")
def worked_(
    subject: SubjectArgument,
    start: FromOption,
    end: ToOption,
    *,
    version: VersionOption = None,
    as_json: AsJson = False,
) -> None:
    """Say how much working time lies between two instants. Each hour counted is shown."""
    calendar = _calendar(subject, version)
    since, until = _instant(calendar.zone, start, "--from"), _instant(calendar.zone, end, "--to")
    if until < since:
        raise UnreadableError("--to is before --from: exchange them")
    _say(Reckoned(calendar, since, until, "to", worked(calendar, since, until)), as_json=as_json)


def _say(told: Reckoned, *, as_json: bool) -> None:
    calendar, zone = told.calendar, told.calendar.zone
    counted = [(on_the_wall(zone, start), on_the_wall(zone, end)) for start, end in _counted(told)]
    since, until = on_the_wall(zone, told.since), on_the_wall(zone, told.until)
    dates = differing(calendar, since.date(), until.date())
    if as_json:
        spans = [{"from": start, "to": end, "seconds": _seconds(end - start)} for start, end in counted]
        head: dict[str, Any] = {
            "calendar": told.calendar.name,
            "version": told.calendar.version,
            "time_zone": zone.name,
        }
        ends = {"from": since, told.end: until, "seconds": _seconds(told.working)}
        say_json(head | ends | {"counted": spans, "dates": [each._asdict() for each in dates]})
        return
    say_fields({"from": _shown(since), told.end: _shown(until), "working time": length_of(_seconds(told.working))})
    if counted:
        OUT.print()
        rows = ((_shown(start), _shown(end), length_of(_seconds(end - start))) for start, end in counted)
        say_table(("counted from", "to", "working time"), rows)
    if dates:
        OUT.print()
        say_dates(dates)


def _counted(told: Reckoned) -> list[tuple[datetime, datetime]]:
    return list(openings(told.calendar, told.since, told.until))


def _calendar(subject: str, version: int | None) -> Calendar:
    if is_file(subject):
        _, calendar = usable_calendar(read_text(subject), subject)
        return calendar
    return stored_calendar(subject, version).compiled()


def _instant(zone: Zone, text: str, option: str) -> datetime:
    """Read an instant; raises UnreadableError where it is none, or two."""
    try:
        given = datetime.fromisoformat(text)
    except ValueError as error:
        raise UnreadableError(f"{option} {text} is no instant: write 2026-11-20T16:30, or with +01:00") from error
    found = instants_of(zone, given) if given.tzinfo is None else (given,)
    wall = given.replace(tzinfo=UTC)
    if not found and SINCE + _DAY <= wall < UNTIL - _DAY:  # nearer to its ends no zone is known
        raise UnreadableError(f"{option} {text} does not exist in {zone.name}: its clocks are put forward over it")
    if len(found) > 1:
        offsets = " or ".join(on_the_wall(zone, instant).isoformat()[-6:] for instant in found)
        raise UnreadableError(f"{option} {text} happens twice in {zone.name}: add {offsets}")
    if not found or not SINCE <= found[0] < UNTIL:
        raise UnreadableError(f"{option} {text} is outside what calendars know: 1970 to 2099")
    return found[0]


def _shown(instant: datetime) -> str:
    return f"{instant:%a} {instant.isoformat(sep=' ', timespec='auto' if instant.microsecond else 'seconds')}"


def _seconds(length: timedelta) -> float | int:
    seconds = length.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds
