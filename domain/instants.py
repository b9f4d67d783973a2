"""Instants as the history writes them: RFC 3339 in UTC with six digits of a second."""

from datetime import UTC, datetime


def written(instant: datetime) -> str:
    """Return an aware instant as text, e.g. 2026-11-21T09:30:00.000000Z; text order is time order."""
    return f"{instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def read(text: str) -> datetime:
    """Return the aware instant that `written` wrote."""
    return datetime.fromisoformat(text)
