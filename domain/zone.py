"""A time zone as data: what a clock on the wall shows, from one change of its offset to the next.

The arithmetic needs no file and no library; `service.calendars.zones` makes a zone from the time zone database.
"""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

# What is known of zones and holidays lies between; outside, every calendar is closed.
SINCE = datetime(1970, 1, 1, tzinfo=UTC)
UNTIL = datetime(2100, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
END = (UNTIL - SINCE) // _MICROSECOND


@dataclass(frozen=True, slots=True)
class Zone:
    """From `since[i]` on a clock shows UTC plus `offset[i]`; microseconds, the first since 1970. `since[0]` is 0."""

    name: str
    since: tuple[int, ...]
    offset: tuple[int, ...]


UTC_ZONE = Zone("UTC", (0,), (0,))


def micros(instant: datetime) -> int:
    """Return the microseconds from 1970 to an aware instant."""
    return (instant - SINCE) // _MICROSECOND


def instant_of(microseconds: int) -> datetime:
    """Return the instant, in UTC, so many microseconds after the start of 1970."""
    return SINCE + timedelta(microseconds=microseconds)


def on_the_wall(zone: Zone, instant: datetime) -> datetime:
    """Return the same instant with the offset that the zone has then."""
    place = max(bisect_right(zone.since, micros(instant)) - 1, 0)
    return instant.astimezone(timezone(timedelta(microseconds=zone.offset[place])))


def instants_of(zone: Zone, shown: datetime) -> tuple[datetime, ...]:
    """Return when a clock shows a date and time: once, twice where an hour is repeated, never where one is missing."""
    wall = micros(shown.replace(tzinfo=UTC))
    untils = (*zone.since[1:], END)
    return tuple(
        instant_of(wall - offset)
        for since, until, offset in zip(zone.since, untils, zone.offset, strict=True)
        if since <= wall - offset < until
    )
