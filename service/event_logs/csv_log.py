"""CSV logs: one event a row, the header names the columns; by default those that XES tools write."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from typing import IO

from service.event_logs.event import UNBROKEN_BYTES_MAX, RawEvent, UnreadableLogError, Value


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column says what, and what separates them. The resource's column may be absent."""

    case: str = "case:concept:name"
    activity: str = "concept:name"
    occurred_at: str = "time:timestamp"
    resource: str = "org:resource"
    delimiter: str = ","


XES_COLUMNS = Columns()


def raw_events(stream: IO[bytes], file: str, columns: Columns = XES_COLUMNS) -> Iterator[RawEvent]:
    """Yield a row at a time in file order; raises UnreadableLogError."""
    with TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        rows = csv.reader(_lines(text, file), delimiter=columns.delimiter, strict=True)
        try:
            header = next(rows, [])
            _check(header, f"{file}, line 1", columns)
            for row in rows:
                if row:
                    yield _event(row, header, f"line {rows.line_num}", file, columns)
        except csv.Error as error:
            where = f"{file}, line {rows.line_num}"
            raise UnreadableLogError(where, f"broken CSV ({error})", "check the quoting and the delimiter") from None
        except UnicodeDecodeError as error:
            where = f"{file}, after line {rows.line_num}"
            problem = f"not UTF-8 (byte {error.object[error.start]:#04x}: {error.reason})"
            raise UnreadableLogError(where, problem, "convert the file to UTF-8") from None


def _lines(text: TextIOWrapper, file: str) -> Iterator[str]:
    number = 0
    while line := text.readline(UNBROKEN_BYTES_MAX):
        number += 1
        if len(line) == UNBROKEN_BYTES_MAX:
            problem = f"the line is longer than {UNBROKEN_BYTES_MAX} characters"
            raise UnreadableLogError(f"{file}, line {number}", problem, "check that the file is a table")
        yield line


def _event(row: list[str], header: list[str], place: str, file: str, columns: Columns) -> RawEvent:
    if len(row) != len(header):
        problem = f"{len(row)} values under {len(header)} columns"
        raise UnreadableLogError(f"{file}, {place}", problem, "check the quoting and whether the file is whole")
    values = dict(zip(header, row, strict=True))
    standard = (columns.case, columns.activity, columns.occurred_at, columns.resource)
    case, activity, occurred_at, resource = (values.pop(name, None) for name in standard)
    attributes: dict[str, Value] = {key: value for key, value in values.items() if value}
    return RawEvent(place, case, activity, occurred_at, resource, attributes)


def _check(header: list[str], where: str, columns: Columns) -> None:
    if not header:
        raise UnreadableLogError(where, "the file is empty", "write a header and a row per event")
    for option, name in (("case", columns.case), ("activity", columns.activity), ("timestamp", columns.occurred_at)):
        if name not in header:
            there = ", ".join(header)[:500]
            remedy = f"say which column holds it by --{option}; there are: {there}"
            raise UnreadableLogError(where, f"no column {name!r}", remedy)
    for name in (columns.case, columns.activity, columns.occurred_at, columns.resource):
        if header.count(name) > 1:
            raise UnreadableLogError(where, f"two columns are called {name!r}", "rename one of them")
