"""A journal row as the records it publishes: topic, key, value and CloudEvents headers."""

from base64 import b64decode
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from contracts.envelope import (
    CONTENT_TYPE,
    HEADER_CAUSATION_ID,
    HEADER_CONTENT_TYPE,
    HEADER_CORRELATION_ID,
    HEADER_ID,
    HEADER_SOURCE,
    HEADER_SPEC_VERSION,
    HEADER_SUBJECT,
    HEADER_TIME,
    HEADER_TRACEPARENT,
    HEADER_TYPE,
    SOURCE,
    SPEC_VERSION,
)
from contracts.topics import Topics
from handlers.ports import JournalRow
from handlers.written import REPLY_TYPE

_FIXED = [
    (HEADER_SPEC_VERSION, SPEC_VERSION.encode()),
    (HEADER_SOURCE, SOURCE.encode()),
    (HEADER_CONTENT_TYPE, CONTENT_TYPE.encode()),
]
_REPLY_TYPE = (HEADER_TYPE, REPLY_TYPE.encode())


class OutRecord(NamedTuple):
    """One record to publish; `partition` is given where it is not the row's own."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    partition: int | None = None


def own_records(topics: Topics, part: int, rows: Iterable[tuple[int, JournalRow]]) -> list[OutRecord]:
    """Return what rows publish in their own partition, in order."""
    events, replies, dead_letters = topics.events, topics.replies, topics.dead_letters
    records = []
    for _, row in rows:
        key = None if row.key is None else row.key.encode()
        if row.kind == "event" and row.event is not None:
            records.append(OutRecord(events, key, row.event, _event_headers(row, row.event)))
        elif row.kind == "dead_letter" and row.event is not None:
            records.append(_dead_letter(dead_letters, part, row, row.event))
        if row.reply is not None:
            records.append(OutRecord(replies, key, row.reply, _reply_headers(row, row.reply, part)))
    return records


def forwarded_records(topics: Topics, rows: Iterable[tuple[int, JournalRow]]) -> list[OutRecord]:
    """Return the commands that rows send to other partitions, as they came."""
    return [
        _forwarded(topics.commands, orjson.loads(row.event)) for _, row in rows if row.kind == "forward" and row.event
    ]


def _event_headers(row: JournalRow, body: bytes) -> list[tuple[str, bytes]]:
    event = orjson.loads(body)
    headers = [
        (HEADER_ID, event["event_id"].encode()),
        (HEADER_TYPE, row.type.encode()),
        (HEADER_SUBJECT, event["workflow_id"].encode()),
        (HEADER_TIME, event["timestamp"].encode()),
        (HEADER_CORRELATION_ID, event["correlation_id"].encode()),
        (HEADER_CAUSATION_ID, event["causation_id"].encode()),
        *_FIXED,
    ]
    if row.traceparent is not None:
        headers.append((HEADER_TRACEPARENT, row.traceparent.encode()))
    return headers


def _reply_headers(row: JournalRow, body: bytes, part: int) -> list[tuple[str, bytes]]:
    reply = orjson.loads(body)
    command_id = reply["command_id"].encode()
    headers = [
        (HEADER_ID, b"%d/%d" % (part, row.record_offset)),
        _REPLY_TYPE,
        (HEADER_SUBJECT, reply["workflow_id"].encode()),
        (HEADER_TIME, reply["decided_at"].encode()),
        (HEADER_CORRELATION_ID, reply["correlation_id"].encode()),
        (HEADER_CAUSATION_ID, command_id),
        *_FIXED,
    ]
    if row.traceparent is not None:
        headers.append((HEADER_TRACEPARENT, row.traceparent.encode()))
    return headers


def _dead_letter(topic: str, part: int, row: JournalRow, body: bytes) -> OutRecord:
    letter = orjson.loads(body)
    key = b64decode(letter["key"]) if "key" in letter else None
    name = f"{letter['topic']}/{letter['partition']}/{letter['offset']}".encode()
    headers = [
        (HEADER_ID, name),
        (HEADER_TYPE, row.type.encode()),
        (HEADER_SUBJECT, b"%d/%d" % (part, row.record_offset)),
        *_FIXED,
    ]
    return OutRecord(topic, key, body, headers)


def _forwarded(topic: str, document: dict[str, Any]) -> OutRecord:
    headers = [(name, b"" if value is None else b64decode(value)) for name, value in document["headers"]]
    return OutRecord(topic, document["key"].encode(), b64decode(document["value"]), headers, partition=document["part"])
