"""The event logs that tests read: real ones from $TURNSTILE_EVENT_LOGS, else small ones generated here."""

import atexit
import csv
import gzip
import io
import os
import random
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import quoteattr

SETTING = "TURNSTILE_EVENT_LOGS"
CASES = 60
COLUMNS = (
    "case:channel",
    "case:concept:name",
    "concept:name",
    "lifecycle:transition",
    "org:resource",
    "time:timestamp",
)

_STEPS = {
    "new": ("Register request", "Register request", "Check (urgent)"),
    "Register request": ("Register request", "Check: documents", "Decide"),
    "Check (urgent)": ("Decide", "Check: documents"),
    "Check: documents": ("Check: documents", "Decide", "Register request"),
    "Decide": ("Notify applicant é", "Check: documents"),
    "Notify applicant é": ("Notify applicant é",),
}
_OFFSETS = (timezone(timedelta(hours=2)), timezone(timedelta(hours=-5, minutes=-30)), UTC)
_SUFFIXES = (".xes.gz", ".csv.gz")


class Line(NamedTuple):
    """One event of a generated log."""

    case: str
    activity: str
    at: datetime
    resource: str


def real() -> bool:
    """Return whether real logs are at hand."""
    return bool(os.environ.get(SETTING))


@cache
def event_logs() -> dict[str, Path]:
    """Return logs by name, at least one of each format, and say where they come from."""
    if real():
        folder = Path(os.environ[SETTING])
        return {path.name.split(".")[0]: path for path in sorted(folder.iterdir()) if path.name.endswith(_SUFFIXES)}
    print(f"{SETTING} is not set: reading generated event logs")  # noqa: T201 - the reader of a test run wants to know
    folder = Path(tempfile.mkdtemp(prefix="turnstile-event-logs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return {
        "tickets": write_xes(folder / "tickets.xes.gz", generated(seed=1)),
        "permits": write_csv(folder / "permits.csv.gz", generated(seed=2)),
    }


def generated(*, seed: int, cases: int = CASES) -> list[Line]:
    """Return cases that overlap, with self-loops, instants shared within and between cases, and several offsets."""
    chance = random.Random(seed)
    start = datetime(2024, 3, 30, 22, tzinfo=UTC)
    lines: list[Line] = []
    for number in range(1, cases + 1):
        activity = "new"
        at = start + timedelta(minutes=chance.randrange(240))
        for _ in range(chance.randrange(1, 9)):
            activity = chance.choice(_STEPS[activity])
            at += timedelta(seconds=chance.choice((0, 60, 60, 3600.25)))
            resource = chance.choice(("Ann <a&b>", "Bob", ""))
            lines.append(Line(f"Case {number}", activity, at.astimezone(chance.choice(_OFFSETS)), resource))
    return lines


def write_xes(path: Path, lines: Sequence[Line]) -> Path:
    """Write a gzipped XES log: a trace per case in order of first appearance, nested attributes, a global default."""
    traces: dict[str, list[Line]] = {}
    for line in lines:
        traces.setdefault(line.case, []).append(line)
    text = "".join(_trace(case, events) for case, events in traces.items())
    document = f"""<?xml version="1.0" encoding="utf-8"?>
<log xes.version="1849-2016" xes.features="nested-attributes" xmlns="http://www.xes-standard.org/">
<extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
<global scope="event"><string key="lifecycle:transition" value="complete"/></global>
<string key="origin" value="generated"><string key="by" value="a test"/></string>
{text}</log>
"""
    path.write_bytes(gzip.compress(document.encode(), mtime=0))
    return path


def write_csv(path: Path, lines: Sequence[Line]) -> Path:
    """Write a gzipped CSV log, its rows in order of time, so that cases interleave."""
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(COLUMNS)
    for case, activity, at, resource in sorted(lines, key=lambda line: line.at):
        rows.writerow(("Desk", case, activity, "complete", resource, at.isoformat(sep=" ", timespec="microseconds")))
    path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
    return path


def _trace(case: str, events: Sequence[Line]) -> str:
    return (
        f"<trace>{_string('concept:name', case)}"
        f'<string key="channel" value="Desk"><string key="concept:name" value="nested, not the case"/></string>'
        f"{''.join(map(_event, events))}</trace>\n"
    )


def _event(line: Line) -> str:
    resource = _string("org:resource", line.resource) if line.resource else ""
    return (
        f"<event>{_string('concept:name', line.activity)}{resource}"
        f'<date key="time:timestamp" value="{line.at.isoformat()}"/>'
        '<int key="cost" value="42"/><float key="share" value="0.5"/><boolean key="paid" value="true"/>'
        '<list key="tags"><values><string key="tag" value="a"/></values></list></event>'
    )


def _string(key: str, value: str) -> str:
    return f'<string key="{key}" value={quoteattr(value)}/>'
