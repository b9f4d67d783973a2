"""Instants as the history writes them: RFC 3339 in UTC with six digits of a second."""

from datetime import UTC, datetime

import orjson

_MILLISECONDS_MAX = 253_402_300_799_999  # the end of year 9999


def of_broker(milliseconds: int) -> datetime:
    """Return a record's timestamp as an instant; one outside the calendar, as a producer may write, at its end."""
    return datetime.fromtimestamp(min(max(milliseconds, 0), _MILLISECONDS_MAX) / 1000, UTC)


def written(instant: datetime) -> str:
    """Return an aware instant as text, e.g. 2026-11-21T09:30:00.000000Z; text order is time order."""
    text = orjson.dumps(instant.astimezone(UTC), option=orjson.OPT_UTC_Z)[1:-1].decode()  # a sixth of isoformat's time
    return text if instant.microsecond else f"{text[:-1]}.000000Z"


def read(text: str) -> datetime:
    """Return the aware instant that `written` wrote."""
    return datetime.fromisoformat(text)
