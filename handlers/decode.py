"""Bytes to a command, without ever raising: one record is readable, invalid (it can be answered) or unreadable."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple, TypeGuard
from uuid import UUID

import orjson
from pydantic import ValidationError

from contracts.commands import COMMAND_TYPES, COMMANDS, Command
from contracts.dead_letters import DeadLetterReason
from contracts.envelope import (
    HEADER_BROKER_TIME,
    HEADER_CORRELATION_ID,
    HEADER_HOPS,
    HEADER_TRACEPARENT,
)
from domain.idempotency import content_digest, content_of
from domain.instants import of_broker
from handlers.ports import Record, Unread

ID_CHARACTERS_MAX = 200
DEPTH_MAX = 32
VALUES_MAX = 20_000
INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)

_NUL = b"\\u0000"
_NESTED = frozenset({dict, list})
# Numbers that may be whole although they are not written as integers.
_WHOLE = re.compile(rb"\.0+\s*[,}\]]|\d[eE][-+]?\d+\s*[,}\]]|\d{16}")
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_LONG_NUMBER = re.compile(rb"\d{18}")
_WANTED_HEADERS = frozenset({HEADER_CORRELATION_ID, HEADER_TRACEPARENT, HEADER_HOPS, HEADER_BROKER_TIME})
_TYPES = ", ".join(sorted(COMMAND_TYPES))


class Readable(NamedTuple):
    """A command to decide."""

    record: Record
    command: Command
    command_id: str
    digest: bytes
    broker_time: datetime
    correlation_id: str | None
    traceparent: str | None
    hops: int


class Invalid(NamedTuple):
    """Not a command, but its ids can be read: it is answered with INVALID_COMMAND."""

    record: Record
    command_id: str
    workflow_id: str
    root_id: str
    problem: str
    correlation_id: str | None
    traceparent: str | None


class Unreadable(NamedTuple):
    """Nothing to answer: it goes to the dead letters."""

    record: Record
    reason: DeadLetterReason
    problem: str


Received = Readable | Invalid | Unreadable


def decode(record: Record, *, command_bytes_max: int) -> Received:
    """Read one record of the commands topic."""
    raw = record.value
    if isinstance(raw, Unread):
        return Unreadable(record, DeadLetterReason.TOO_LARGE, raw.problem)
    if not raw:
        return Unreadable(record, DeadLetterReason.EMPTY, "the record has no value")
    if len(raw) > command_bytes_max:
        return Unreadable(
            record,
            DeadLetterReason.TOO_LARGE,
            f"{len(raw)} bytes are more than the {command_bytes_max} a command may have",
        )
    headers = wanted_headers(record)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return _not_strict_json(record, raw, headers, str(error))
    if not isinstance(body, dict):
        return Unreadable(record, DeadLetterReason.NOT_A_COMMAND, "the value is not a JSON object")
    problem = _refused_by_store(raw, body)
    content = content_of(body) if problem is None else b""
    if content and not _NESTED.isdisjoint(map(type, body.values())) and _WHOLE.search(raw) is not None:
        body |= orjson.loads(content)  # a guard sees 1.0 as it will be read back from the store, as 1
        problem = problem_of(body)
    if problem is not None:
        return _invalid(record, body, headers, problem)
    try:
        command = COMMANDS.validate_python(body)
    except ValidationError as error:
        return _invalid(record, body, headers, _explain(error))
    return Readable(
        record,
        command,
        str(command.command_id),
        content_digest(content),
        _broker_time(record, headers),
        headers.get(HEADER_CORRELATION_ID),
        headers.get(HEADER_TRACEPARENT),
        _hops(headers),
    )


def ids_of(record: Record) -> Invalid | None:
    """Return whom to answer for a record that cannot be decided, by as little code as that takes; None if nobody."""
    try:
        body = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError:
        return None
    found = _invalid(record, body, wanted_headers(record), "") if isinstance(body, dict) else None
    return found if isinstance(found, Invalid) else None


def wanted_headers(record: Record) -> dict[str, str]:
    """Return the headers we look at; one that cannot be read is as if it were not there."""
    found: dict[str, str] = {}
    for name, value in record.headers:
        if name in _WANTED_HEADERS and value is not None and len(value) <= ID_CHARACTERS_MAX:
            try:
                text = value.decode()
            except UnicodeDecodeError:
                continue
            if text.isprintable():
                found[name] = text
    return found


def problem_of(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    """Say what in a JSON value neither store nor topic would take, or would take us too long; None if nothing."""
    counted = 0
    for depth, level in enumerate(levels(value), start=1):
        counted += len(level)
        if counted > VALUES_MAX:
            return f"it has more than {VALUES_MAX} keys and values"
        for item in level:
            if type(item) in _NESTED:
                if depth > DEPTH_MAX:
                    return f"it is nested deeper than {DEPTH_MAX}"
            elif (problem := _problem_of_one(item)) is not None:
                return problem
    return None


def levels(value: Any) -> Iterator[list[Any]]:  # noqa: ANN401 - any JSON value
    """Give the keys and values of a JSON value, those of one depth together."""
    level = [value]
    while level:
        yield level
        within: list[Any] = []
        for item in level:
            if type(item) in _NESTED:
                within += item
                if isinstance(item, dict):
                    within += item.values()
        level = within


def _problem_of_one(value: Any) -> str | None:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        if "\0" in value:
            return "it has a NUL character"
        return None if _HALF_PAIR.search(value) is None else "it has half of a surrogate pair"
    if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
        return f"{value!r:.40} is beyond 64 bits"
    if isinstance(value, float) and not float("-inf") < value < float("inf"):
        return f"{value} is not a JSON number"
    return None


def _refused_by_store(raw: bytes, body: dict[str, Any]) -> str | None:
    """Look closely only where the bytes could hold what must be refused; the model bounds what is not nested."""
    problem = None
    if len(raw) > VALUES_MAX or _NUL in raw or raw.count(b"{") + raw.count(b"[") > DEPTH_MAX:
        problem = problem_of(body)
    if problem is None and not _NESTED.isdisjoint(map(type, body.values())) and _LONG_NUMBER.search(raw) is not None:
        problem = problem_of(json.loads(raw))  # orjson reads a long integer as a float; the depth is bounded by now
    return problem


def _not_strict_json(record: Record, raw: bytes, headers: dict[str, str], message: str) -> Received:
    """Find out whether a tolerant reader would at least find whom to answer."""
    try:
        body = json.loads(raw, parse_int=float)  # an int of 5,000 digits would be an error, and nobody answered
    except (ValueError, RecursionError):
        return Unreadable(record, DeadLetterReason.NOT_JSON, f"not JSON: {message}")
    if not isinstance(body, dict):
        return Unreadable(record, DeadLetterReason.NOT_A_COMMAND, "the value is not a JSON object")
    return _invalid(record, body, headers, problem_of(body) or f"not strict JSON: {message}")


def _invalid(record: Record, body: dict[str, Any], headers: dict[str, str], problem: str) -> Received:
    command_id = _uuid(body.get("command_id"))
    workflow_id = body.get("workflow_id")
    root_id = body.get("root_id")
    if command_id is None or not _is_id(workflow_id):
        return Unreadable(record, DeadLetterReason.NOT_A_COMMAND, problem)
    return Invalid(
        record,
        command_id,
        workflow_id,
        root_id if _is_id(root_id) else workflow_id,
        problem,
        headers.get(HEADER_CORRELATION_ID),
        headers.get(HEADER_TRACEPARENT),
    )


def _explain(error: ValidationError) -> str:
    """Return the first faults, each with where it is."""
    parts = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False)[:3]:
        if fault["type"] in {"union_tag_invalid", "union_tag_not_found"}:
            return f"command_type must be one of {_TYPES}"
        where = ".".join(str(step) for step in fault["loc"][1:])
        problem = fault["msg"].removeprefix("Value error, ")
        parts.append(f"{where}: {problem}" if where else problem)
    return "; ".join(parts)[:1000]


def _broker_time(record: Record, headers: dict[str, str]) -> datetime:
    """Return when the broker first took the command: a forwarded one keeps its first time."""
    milliseconds = record.timestamp
    if HEADER_BROKER_TIME in headers and headers[HEADER_BROKER_TIME].isdecimal():
        milliseconds = min(milliseconds, int(headers[HEADER_BROKER_TIME]))
    return of_broker(milliseconds)


def _hops(headers: dict[str, str]) -> int:
    hops = headers.get(HEADER_HOPS, "0")
    return int(hops) if hops.isdecimal() and len(hops) == 1 else 0


def _uuid(value: Any) -> str | None:  # noqa: ANN401 - whatever was in the body
    if not isinstance(value, str):
        return None
    try:
        return str(UUID(value))
    except ValueError:
        return None


def _is_id(value: Any) -> TypeGuard[str]:  # noqa: ANN401 - whatever was in the body
    return isinstance(value, str) and 0 < len(value) <= ID_CHARACTERS_MAX and problem_of(value) is None
