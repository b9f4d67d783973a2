"""One event of a log, and the one tree of errors of an import. Here a logged event is judged, once for every format.

EventLogError             says where, what is wrong and what to do
├── UnreadableLogError    the file: not there, not gzip, broken XML, not UTF-8, a column missing, no event
├── UnusableEventError    one event: no case, no activity, an unreadable instant, a name that a workflow cannot have
└── BrokerNotReadyError   nobody answers at the bootstrap servers, or the topics are not there
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

Value = str | int | float | bool

NAME_LENGTH_MAX = 200
ATTRIBUTES_MAX = 64
ATTRIBUTE_LENGTH_MAX = 500
UNBROKEN_BYTES_MAX = 2**20
"""How far a file may go on without an XML element or the end of a line: its readers need quadratic time, or memory."""

_NOT_IN_NAMES = ("Cc", "Cs")


class EventLogError(Exception):
    """An import that cannot go on: `where` (file and place), `problem`, and the `remedy`."""

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        super().__init__(f"{where}: {problem}; {remedy}")
        self.where = where
        self.problem = problem
        self.remedy = remedy


class UnreadableLogError(EventLogError):
    """The file is not a log."""


class UnusableEventError(EventLogError):
    """One event of the log cannot become a command."""


class BrokerNotReadyError(EventLogError):
    """There is no broker to send to, or it lacks the topics."""


class RawEvent(NamedTuple):
    """An event as its format gives it: `place` in words, None for what is absent."""

    place: str
    case: str | None
    activity: str | None
    occurred_at: str | None
    resource: str | None
    attributes: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """What happened in a case, and when (UTC). `index` is the event's position in the file, from 0.

    `attributes` holds the rest as plain JSON values, those of the case under `case:`; bounded in number and size.
    """

    case: str
    activity: str
    occurred_at: datetime
    resource: str | None
    index: int
    attributes: Mapping[str, Value]


def logged(raw: RawEvent, *, path: Path, index: int) -> LoggedEvent:
    """Judge a raw event; raises UnusableEventError.

    An instant without an offset is read as UTC; blanks around an activity are no part of it, since states have none.
    """
    where = f"{path.name}, {raw.place}"
    return LoggedEvent(
        case=_name(raw.case, "case", where),
        activity=_name((raw.activity or "").strip(), "activity", where),
        occurred_at=_instant(raw.occurred_at, where),
        resource=_name(raw.resource, "resource", where) if raw.resource else None,
        index=index,
        attributes=_bounded(raw.attributes),
    )


def in_order(events: list[LoggedEvent]) -> list[LoggedEvent]:
    """Return events as they happened: by instant over all cases, ties in file order."""
    return sorted(events, key=lambda event: (event.occurred_at, event.index))


def nameable(text: str) -> bool:
    """Say whether a workflow, state or person can be called so: there is no control character, and it is Unicode."""
    return not any(unicodedata.category(character) in _NOT_IN_NAMES for character in text)


def _name(text: str | None, what: str, where: str) -> str:
    if not text:
        raise UnusableEventError(where, f"the event has no {what}", f"give it a {what} or take it out of the log")
    if len(text) > NAME_LENGTH_MAX:
        raise UnusableEventError(where, f"its {what} has {len(text)} characters", f"shorten it to {NAME_LENGTH_MAX}")
    if not nameable(text):
        raise UnusableEventError(where, f"its {what} {text!r} holds a control character", "take the character out")
    return text


def _instant(text: str | None, where: str) -> datetime:
    if not text:
        raise UnusableEventError(where, "the event has no timestamp", "give it one or take it out of the log")
    try:
        instant = datetime.fromisoformat(text.strip())
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        remedy = "write instants as ISO 8601, for example 2012-10-09T14:50:17+02:00"
        raise UnusableEventError(where, f"the timestamp {text[:100]!r} is unreadable", remedy) from None


def _bounded(attributes: Mapping[str, Value]) -> dict[str, Value]:
    """Keep what a command may carry; a long text is cut, a text with NUL or a nameless value left out."""
    kept: dict[str, Value] = {}
    for key, value in attributes.items():
        if len(kept) == ATTRIBUTES_MAX:
            break
        if not 0 < len(key) <= NAME_LENGTH_MAX or "\0" in key or (isinstance(value, str) and "\0" in value):
            continue
        kept[key] = value[:ATTRIBUTE_LENGTH_MAX] if isinstance(value, str) else value
    return kept
