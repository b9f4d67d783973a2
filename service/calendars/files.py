"""A calendar's YAML text read, checked and compiled, each finding with its line and column.

Nothing here raises on what an author wrote: bad text is findings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from hashlib import sha256

from contracts.calendars import CalendarDocument
from domain.calendar import Calendar
from domain.calendar_rules import check_calendar, compile_calendar, read_calendar_document
from domain.canonical import canonical
from domain.findings import Finding
from service.calendars.public_holidays import check_holidays, public_holidays
from service.calendars.zones import load_zone, zone_names
from service.definitions.files import ordered, placed
from service.definitions.yaml_tree import read_tree


@dataclass(frozen=True, slots=True)
class ParsedCalendar:
    """What a text came to: `calendar` is there if no finding is an error, `canonical` if the text is YAML.

    `holidays` are those that the library of this build knows; `digest` is of the document alone, SHA-256 in hex.
    """

    calendar: Calendar | None
    holidays: dict[date, str]
    findings: tuple[Finding, ...]
    canonical: bytes
    digest: str


def read_calendar(text: str) -> ParsedCalendar:
    """Read a calendar from YAML text; findings are ordered by their place."""
    tree = read_tree(text)
    if tree.findings:
        return ParsedCalendar(None, {}, ordered(tree.findings), b"", "")
    body = canonical(tree.document)
    digest = sha256(body).hexdigest()
    document = read_calendar_document(tree.document)
    found = _findings(document) if isinstance(document, CalendarDocument) else document
    findings = ordered([placed(finding, tree) for finding in found])
    if not isinstance(document, CalendarDocument) or any(finding.severity == "error" for finding in findings):
        return ParsedCalendar(None, {}, findings, body, digest)
    holidays = public_holidays(document)
    return ParsedCalendar(_compiled(document, holidays), holidays, findings, body, digest)


def compile_stored(document: object, holidays: dict[date, str]) -> Calendar | tuple[Finding, ...]:
    """Compile a document that was applied, with the holidays that were stored with it."""
    read = read_calendar_document(document)
    return _compiled(read, holidays) if isinstance(read, CalendarDocument) else read


def _compiled(document: CalendarDocument, holidays: dict[date, str]) -> Calendar:
    zone = load_zone(document.time_zone)
    if zone is None:
        raise LookupError(f"calendar {document.name}: this build knows no time zone {document.time_zone}")
    return compile_calendar(document, zone, holidays)


def _findings(document: CalendarDocument) -> Iterator[Finding]:
    yield from check_calendar(document)
    yield from check_holidays(document)
    if document.time_zone not in zone_names():
        near = get_close_matches(document.time_zone, sorted(zone_names()), n=3, cutoff=0.5)
        text = f"there is no time zone {document.time_zone}: use an IANA name such as {' or '.join(near) or 'UTC'}"
        yield Finding("error", "UNKNOWN_TIME_ZONE", text, ("time_zone",))
