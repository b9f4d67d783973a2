"""Public holidays from the `holidays` library, turned into dates when a calendar is applied.

Only here is the library asked: what a version of a calendar takes for a holiday is stored with it, so that a newer
library changes no promise that was given.
"""

import warnings
from collections.abc import Iterator, Mapping
from datetime import date
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any

from contracts.calendars import CalendarDocument, HolidaysDocument
from domain.findings import Finding, Path
from domain.zone import SINCE, UNTIL

_ENGLISH = "en_US"
# Kinds whose days are not closed days: the library lists half days without their hours, and days that are worked.
_NO_CLOSED_DAYS = frozenset({"half_day", "workday"})


def source() -> str:
    """Return where the holidays are from."""
    return f"holidays {version('holidays')}"


def check_holidays(document: CalendarDocument) -> Iterator[Finding]:
    """Find countries, regions and kinds that the library does not know, and years that it does not."""
    for index, declared in enumerate(document.holidays):
        yield from _check(declared, ("holidays", index))


def public_holidays(document: CalendarDocument) -> dict[date, str]:
    """Return the names of a sound document's holidays by date, in order of dates, from 1970 to 2099."""
    found: dict[date, list[str]] = {}
    for declared in document.holidays:
        listed, _ = _listed(declared)
        for holiday, name in listed.items():
            if SINCE.year <= holiday.year < UNTIL.year and name not in found.setdefault(holiday, []):
                found[holiday].append(name)
    return {holiday: "; ".join(found[holiday]) for holiday in sorted(found)}


def _check(declared: HolidaysDocument, path: Path) -> Iterator[Finding]:
    unknown = tuple(_unknown(declared, path))
    yield from unknown or _unknown_years(declared, (*path, "country"))


def _unknown(declared: HolidaysDocument, path: Path) -> Iterator[Finding]:
    countries = _library().list_supported_countries(include_aliases=False)
    if declared.country not in countries:
        text = f"no holidays are known of {declared.country}: use an ISO 3166 code such as DE, or exceptions"
        yield Finding("error", "UNKNOWN_COUNTRY", text, (*path, "country"))
        return
    regions = countries[declared.country]
    if declared.region is not None and declared.region not in regions:
        text = f"{declared.country} has no region {declared.region}: use one of {', '.join(regions) or 'none'}"
        yield Finding("error", "UNKNOWN_REGION", text, (*path, "region"))
    known = getattr(_library(), declared.country).supported_categories
    closed = [kind for kind in known if kind not in _NO_CLOSED_DAYS]
    for place, kind in enumerate(declared.kinds):
        if kind not in closed:
            text = f"{kind} is no kind of closed days in {declared.country}: use {', '.join(closed)}, or exceptions"
            yield Finding("error", "UNKNOWN_KIND", text, (*path, "kinds", place))


def _unknown_years(declared: HolidaysDocument, path: Path) -> Iterator[Finding]:
    last = getattr(_library(), declared.country).end_year
    _, warned = _listed(declared)
    known = [f"they are known until {last}"] if last < UNTIL.year - 1 else []
    for text in (*known, *(f"the library says: {warning}" for warning in warned)):
        message = f"some years have no holidays of {declared.country}: {text}"
        yield Finding("note", "HOLIDAYS_END", message, path)


@lru_cache(maxsize=64)
def _listed(declared: HolidaysDocument) -> tuple[Mapping[date, str], tuple[str, ...]]:
    """Return the holidays that the library knows, and its warnings about them."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        listed = _library().country_holidays(
            declared.country,
            subdiv=declared.region,
            years=range(SINCE.year, UNTIL.year),
            categories=declared.kinds,
            language=_language(getattr(_library(), declared.country)),
        )
    return listed, tuple(dict.fromkeys(str(each.message) for each in warned))


def _language(country: Any) -> str | None:  # noqa: ANN401 - the library is imported late
    """Choose names that do not depend on the machine's own language."""
    return _ENGLISH if _ENGLISH in country.supported_languages else country.default_language


def _library() -> ModuleType:
    """Import the library where it is needed: it takes a third of a second, and workers never do."""
    return import_module("holidays")
