"""A run's sources as files, so that the checker reads them one line at a time, and a violation can be looked at later.

One file for each partition of a topic and for each table, a JSON line a record; bytes are written as Latin-1 text.
`python -m tests.faults.evidence FOLDER` checks a folder again.
"""

import asyncio
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from contracts.topics import Topics
from handlers.ports import Guards
from service.app import Endpoints
from service.definitions.files import read_definition
from service.predicates.engines import Engines
from service.settings import Settings
from service.store.pool import SCHEMA
from tests.e2e.outside import READ_SECONDS_MAX, committed, end_offsets
from tests.faults.history import Findings, History, Record, Sent, check
from tests.faults.published import Kind
from tests.faults.replay import Replay
from tests.faults.sender import Sender

TOPICS = ("commands", "events", "replies", "dead_letters", "alerts")
TABLES = {
    "journal": """
        select part, seq, kind, key, workflow_id, command_id::text, event, reply, record_offset,
               extract(epoch from decided_at)::float8 as decided_at
          from journal order by part, seq
    """,
    "workflows": "select part, workflow_id, definition, state, version, is_open, body from workflow",
    "partitions": """
        select part, next_offset, next_seq, published_seq, incarnation::text, tick_time from partition order by part
    """,
    "definitions": "select source from definition order by name, version",
    "counters": "select definition, open from open_count",
    "slas": "select workflow_id, name, run, status, is_open from sla",
    "timers": "select workflow_id, name, due_at from timer",
}
BYTES = ("event", "reply")


async def gather(settings: Settings, endpoints: Endpoints, sender: Sender, folder: Path) -> None:
    """Write down all that a run left."""
    folder.mkdir(parents=True)  # noqa: ASYNC240 - quick
    _write(folder / "log", sender.log)
    _write(folder / "answers", sender.answers.items())
    for topic in TOPICS:
        await _topic(settings.topics, endpoints, topic, folder)
    connection = await asyncpg.connect(endpoints.database_url, server_settings={"search_path": SCHEMA})
    try:
        async with connection.transaction(isolation="repeatable_read"):
            for table, query in TABLES.items():
                with (folder / table).open("wb") as out:
                    async for row in connection.cursor(query, prefetch=2000):
                        out.write(orjson.dumps({name: _text(value) for name, value in row.items()}) + b"\n")
    finally:
        await connection.close()


def opened(folder: Path) -> History:
    """Read a folder as the checker takes it: each source lazily, in its order."""
    return History(
        log=(Sent(*line) for line in _lines(folder / "log")),
        answers=dict(_lines(folder / "answers")),
        commands=_records(folder, "commands"),
        journal=_rows(folder, "journal"),
        events=_records(folder, "events"),
        replies=_records(folder, "replies"),
        dead_letters=_records(folder, "dead_letters"),
        alerts=_records(folder, "alerts"),
        workflows=_rows(folder, "workflows"),
        partitions=_rows(folder, "partitions"),
        counters=_rows(folder, "counters"),
        slas=_rows(folder, "slas"),
        timers=_rows(folder, "timers"),
    )


def journal_of(folder: Path) -> Iterator[dict[str, Any]]:
    """Return the journal's rows of a folder."""
    return _rows(folder, "journal")


async def judge(folder: Path, *, repeats: bool = False, guards: Guards | None = None) -> Findings:
    """Check a folder, and decide its commands again, by the definitions in it and CEL unless `guards` are given."""
    findings = check(opened(folder), repeats=repeats)
    replay = Replay(
        {row["part"]: UUID(row["incarnation"]) for row in _rows(folder, "partitions")},
        [parsed for row in _rows(folder, "definitions") if (parsed := read_definition(row["source"]).definition)],
        guards or Engines(),
    )
    if not findings.kinds & {Kind.GAP, Kind.OUT_OF_TURN, Kind.BROKEN_CHAIN, Kind.LOST_RECORD}:
        findings.violations.extend(await replay.again(_rows(folder, "journal"), _records(folder, "commands")))
        findings.counts.update(replay.counts)
    return findings


async def _topic(topics: Topics, endpoints: Endpoints, topic: str, folder: Path) -> None:
    name = getattr(topics, topic)
    ends = await end_offsets(endpoints, name)
    files = {part: (folder / f"{topic}-{part:04}").open("wb") for part in ends}
    try:
        async for record in committed(endpoints, name, ends, seconds_max=10 * READ_SECONDS_MAX):
            headers = [(key, _text(value)) for key, value in record.headers]
            line = (
                record.topic,
                record.partition,
                record.offset,
                record.timestamp,
                _text(record.key),
                _text(record.value),
                headers,
            )
            files[record.partition].write(orjson.dumps(line) + b"\n")
    finally:
        for file in files.values():
            file.close()


def _records(folder: Path, topic: str) -> Iterator[Record]:
    for path in sorted(folder.glob(f"{topic}-*")):
        for name, part, offset, timestamp, key, value, headers in _lines(path):
            pairs = [(header, _bytes(text)) for header, text in headers]
            yield Record(name, part, offset, timestamp, _bytes(key), _bytes(value), pairs)


def _rows(folder: Path, table: str) -> Iterator[dict[str, Any]]:
    for row in _lines(folder / table):
        for column in BYTES:
            if column in row:
                row[column] = _bytes(row[column])
        yield row


def _lines(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        for line in file:
            yield orjson.loads(line)


def _write(path: Path, lines: Iterable[Iterable[Any]]) -> None:
    with path.open("wb") as out:
        out.writelines(orjson.dumps(list(line)) + b"\n" for line in lines)


def _text(value: Any) -> Any:  # noqa: ANN401 - any column
    return value.decode("latin-1") if isinstance(value, bytes | bytearray) else value


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("latin-1")


if __name__ == "__main__":
    found = asyncio.run(judge(Path(sys.argv[1]), repeats="repeats" in sys.argv[2:]))
    sys.stdout.write("".join(f"{violation}\n" for violation in found.violations) + f"{dict(found.counts)}\n")
    sys.exit(bool(found.violations))
