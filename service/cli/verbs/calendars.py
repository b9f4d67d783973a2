"""`calendars`: working time checked, applied, listed and shown; `reckon.py` has the verbs that reckon with it."""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Annotated, NamedTuple

import orjson
import typer

from domain.calendar import FIRST, Calendar, day_of, hours_of
from service.calendars.files import ParsedCalendar, read_calendar
from service.cli.exits import Exit
from service.cli.main import app, run
from service.cli.output import say_json, say_table
from service.cli.surroundings import settings
from service.cli.verbs.options import AsJson, read_text
from service.cli.verbs.reach import asking, changing
from service.cli.verbs.versions import say_applied, say_checked, say_on_the_way, say_source, told, wanted
from service.store.calendars import StoredCalendar, apply_calendar, list_calendars

calendars = typer.Typer(no_args_is_help=True, help="Check, apply, list and show calendars, and reckon with them.")
app.add_typer(calendars, name="calendars")

FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="A calendar's YAML; - reads standard input.", show_default=False)
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The calendar's name.", show_default=False)]
VersionOption = Annotated[int | None, typer.Option("--version", help="A version.", show_default="latest")]


@calendars.command()
def check(file: FileArgument, *, as_json: AsJson = False) -> None:
    """Say what is wrong with a calendar, and where. Exits 1 if there is an error."""
    parsed = read_calendar(read_text(file))
    say_checked(parsed.findings, file, parsed.calendar, as_json=as_json)


@calendars.command()
def apply(
    file: FileArgument,
    *,
    by: Annotated[str | None, typer.Option(help="Who applies it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Store a calendar's version with its holidays. Exits 1 if it has an error or the version is taken."""
    text = read_text(file)
    parsed, found = usable_calendar(text, file)

    async def work() -> bool:
        async with changing(settings()) as opened:
            return await apply_calendar(opened, parsed, found, text, applied_by=by)

    applied = run(work())
    say_applied(found.name, found.version, parsed.digest, applied=applied, as_json=as_json)


@calendars.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List the versions in the store."""
    found = run(_stored(None))
    if as_json:
        for each in found:
            say_json(_json(each))
        return
    say_table(
        ("calendar", "version", "holidays from", "applied", "by"),
        ((c.name, c.version, c.holidays_from, f"{c.applied_at:%Y-%m-%d %H:%M:%S}", c.applied_by) for c in found),
    )


@calendars.command()
def show(
    name: NameArgument,
    *,
    version: VersionOption = None,
    year: Annotated[
        int | None, typer.Option(help="List the year's holidays and exceptions instead.", min=1970, max=2099)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a calendar as it was applied, or a year's exceptions. Exits 1 if there is none."""
    found = stored_calendar(name, version)
    if year is not None:
        dates = differing(found.compiled(), date(year, 1, 1), date(year, 12, 31))
        if as_json:
            say_json({**_json(found), "year": year, "dates": [each._asdict() for each in dates]})
        else:
            say_dates(dates)
    elif as_json:
        say_json({**_json(found), "source": found.source, "holidays": orjson.loads(found.holidays)})
    else:
        say_source(found.source)


class Differing(NamedTuple):
    """A date whose hours are not its weekday's, and why; no hours: closed."""

    date: date
    hours: tuple[str, ...]
    note: str


def differing(calendar: Calendar, first: date, last: date) -> list[Differing]:
    """Return the holidays and exceptions between two local dates, both included."""
    days = (day for day in range(day_of(first), day_of(last) + 1) if day in calendar.dates)
    return [
        Differing(
            FIRST + timedelta(days=day),
            tuple(f"{_clock(start)}-{_clock(end)}" for start, end in hours_of(calendar, day)),
            calendar.notes[day],
        )
        for day in days
    ]


def say_dates(dates: Iterable[Differing]) -> None:
    """Print dates with their hours and notes."""
    rows = ((f"{each.date:%a %Y-%m-%d}", " ".join(each.hours) or "closed", each.note) for each in dates)
    say_table(("date", "hours", "note"), rows)


def stored_calendar(name: str, version: int | None) -> StoredCalendar:
    """Return a version, the latest by default; raises RefusedError."""
    return wanted(run(_stored(name)), "calendar", name, version)


def usable_calendar(text: str, name: str) -> tuple[ParsedCalendar, Calendar]:
    """Read a calendar that is to be used and say its findings on stderr; raises Exit if one is an error."""
    parsed = read_calendar(text)
    say_on_the_way(parsed.findings, name, usable=parsed.calendar is not None)
    if parsed.calendar is None:
        raise typer.Exit(Exit.REFUSED)
    return parsed, parsed.calendar


async def _stored(name: str | None) -> Sequence[StoredCalendar]:
    async with asking(settings()) as opened:
        return await list_calendars(opened, name)


def _json(each: StoredCalendar) -> dict[str, object]:
    return told(each, "holidays_from")


def _clock(microseconds: int) -> str:
    minutes = microseconds // 60_000_000
    return f"{minutes // 60:02}:{minutes % 60:02}"
