"""Calendars as stored: immutable once applied, their public holidays with them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import orjson

from domain.calendar import Calendar
from domain.canonical import canonical
from domain.definition import Definition, compile_document
from domain.sla_config import SlaConfig
from domain.sla_terms import SlaTerms, in_order
from service.calendars.files import ParsedCalendar, compile_stored
from service.calendars.public_holidays import source as holidays_source
from service.slas.files import compile_stored as compile_sla
from service.store.pool import Connection, faults_of
from service.store.versions import Stored, UnreadableVersionError, is_applied

_STORED = "select name, version, digest, applied_at, applied_by, source, body, holidays, holidays_from from calendar"

_PROMISING = "select body from definition where body::jsonb @> $1::jsonb"

_CONFIGURED = """
    select body from (select distinct on (name) body from sla_config order by name, version desc) newest
     where body::jsonb @> $1::jsonb
    """


class CalendarError(Exception):
    """An SLA cannot be reckoned: its calendar is not stored, or does not say how long a day is."""


@dataclass(frozen=True, slots=True)
class StoredCalendar(Stored):
    """A calendar's version; `holidays` are names by date, from the library `holidays_from`."""

    body: str
    holidays: str
    holidays_from: str

    def compiled(self) -> Calendar:
        """Compile it as it was applied; about 10 ms, and 0.1 s for a zone's first use."""
        holidays = {date.fromisoformat(day): name for day, name in orjson.loads(self.holidays).items()}
        found = compile_stored(orjson.loads(self.body), holidays)
        if not isinstance(found, Calendar):
            raise UnreadableVersionError(f"calendar {self.name} version {self.version}", found)
        return found


async def apply_calendar(
    connection: Connection, parsed: ParsedCalendar, calendar: Calendar, source: str, *, applied_by: str | None
) -> bool:
    """Store a version; returns False where the same is stored already.

    Raises VersionTakenError, and CalendarError where an SLA that is under it would no longer know how long a day is.
    """
    name, version = calendar.name, calendar.version
    with faults_of():
        async with connection.transaction():
            if await is_applied(connection, "calendar", name, version, parsed.digest):
                return False
            for terms in await _promised_under(connection, name):
                check_times(terms, calendar)
            await connection.execute(
                """
                insert into calendar (name, version, body, holidays, holidays_from, source, digest, applied_by)
                values ($1, $2, $3, $4, $5, $6, $7, $8)
                """,
                name,
                version,
                parsed.canonical.decode(),
                canonical({day.isoformat(): told for day, told in parsed.holidays.items()}).decode(),
                holidays_source(),
                source,
                parsed.digest,
                applied_by,
            )
    return True


async def _promised_under(connection: Connection, name: str) -> list[SlaTerms]:
    """Return the terms of what may start under a calendar: by any version of a definition, by the newest configured."""
    stored = await connection.fetch(_PROMISING, canonical({"slas": [{"calendar": name}]}).decode())
    definitions = [compile_document(orjson.loads(row["body"])) for row in stored]
    stored = await connection.fetch(_CONFIGURED, canonical({"sla": {"calendar": name}}).decode())
    configs = [compile_sla(orjson.loads(row["body"])) for row in stored]
    promised = [terms for each in definitions if isinstance(each, Definition) for terms in each.slas.values()]
    promised += [each.terms for each in configs if isinstance(each, SlaConfig) and not each.retired]
    return [terms for terms in promised if terms.calendar == name]


def check_times(terms: SlaTerms, calendar: Calendar) -> None:
    """Raise CalendarError where a calendar cannot tell one of an SLA's times, or puts its rungs out of order."""
    under = f"SLA {terms.name}, calendar {calendar.name} version {calendar.version}"
    untold = terms.untold(calendar.working_day)
    if untold is not None:
        raise CalendarError(f"{under}: {untold}")
    for lower, upper in pairwise(terms.ladder):
        if not in_order(lower.after, upper.after, calendar.working_day):
            raise CalendarError(f"{under}: the rung after {upper.after} is not after the one before, {lower.after}")


async def check_promise(connection: Connection, terms: SlaTerms) -> None:
    """Raise CalendarError where an SLA's calendar is not stored, or its newest version cannot tell its times."""
    if terms.calendar is None:
        return
    version = await newest_calendar(connection, terms.calendar)
    stored = None if version is None else await load_calendar(connection, terms.calendar, version)
    if stored is None:
        raise CalendarError(
            f"SLA {terms.name}: there is no calendar {terms.calendar}; apply it first with `turnstile calendars apply`"
        )
    check_times(terms, stored.compiled())


async def newest_calendar(connection: Connection, name: str) -> int | None:
    """Return a calendar's newest version, None where there is none."""
    with faults_of():
        version: int | None = await connection.fetchval("select max(version) from calendar where name = $1", name)
    return version


async def load_calendar(connection: Connection, name: str, version: int) -> StoredCalendar | None:
    """Return one version."""
    with faults_of():
        row = await connection.fetchrow(f"{_STORED} where name = $1 and version = $2", name, version)
    return None if row is None else StoredCalendar(**dict(row))


async def calendars_of(
    connection: Connection, wanted: Iterable[tuple[str, int]]
) -> dict[tuple[str, int | None], Calendar]:
    """Return versions compiled; raises LookupError where one is not there."""
    found: dict[tuple[str, int | None], Calendar] = {}
    for name, version in wanted:
        stored = await load_calendar(connection, name, version)
        if stored is None:
            raise LookupError(f"there is no calendar {name} version {version}")
        found[name, version] = stored.compiled()
    return found


async def every_calendar(connection: Connection) -> dict[tuple[str, int | None], Calendar]:
    """Return every version compiled, and under no version the newest of each."""
    found: dict[tuple[str, int | None], Calendar] = {}
    for stored in await list_calendars(connection):  # the newest first
        compiled = stored.compiled()
        found[stored.name, stored.version] = compiled
        found.setdefault((stored.name, None), compiled)
    return found


async def list_calendars(connection: Connection, name: str | None = None) -> Sequence[StoredCalendar]:
    """Return every version, newest first."""
    with faults_of():
        rows = await connection.fetch(
            f"{_STORED} where $1::text is null or name = $1 order by name, version desc",
            name,
        )
    return [StoredCalendar(**dict(row)) for row in rows]
