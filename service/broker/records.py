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
_ELSEWHERE = frozenset({"forward", "follow_up"})
_REPLY_TYPE = (HEADER_TYPE, REPLY_TYPE.encode())


class OutRecord(NamedTuple):
    """One record to publish; `partition` is given where it is not the row's own."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    partition: int | None = None


def own_topics(topics: Topics) -> tuple[str, ...]:
    """Return the topics that rows publish to in their own partition."""
    return topics.events, topics.replies, topics.alerts, topics.dead_letters


def own_records(topics: Topics, part: int, rows: Iterable[tuple[int, JournalRow]]) -> list[OutRecord]:
    """Return what rows publish in their own partition, in order."""
    events, replies, dead_letters = topics.events, topics.replies, topics.dead_letters
    records = []
    for _, row in rows:
        key = None if row.key is None else row.key.encode()
        tail: list[tuple[str, bytes]] | None = None
        if row.kind == "event" and row.event is not None:
            event = orjson.loads(row.event)
            tail = _tail(event, event["timestamp"], event.get("causation_id"), row.traceparent)
            head = [(HEADER_ID, event["event_id"].encode()), (HEADER_TYPE, row.type.encode())]
            records.append(OutRecord(events, key, row.event, head + tail))
        elif row.kind == "alert" and row.event is not None:
            alert = orjson.loads(row.event)
            head = [(HEADER_ID, alert["alert_id"].encode()), (HEADER_TYPE, row.type.encode())]
            records.append(
                OutRecord(
                    topics.alerts,
                    key,
                    row.event,
                    head + _tail(alert, alert["timestamp"], alert["event_id"], row.traceparent),
                )
            )
        elif row.kind == "dead_letter" and row.event is not None:
            records.append(_dead_letter(dead_letters, part, row, row.event))
        if row.reply is not None:
            if tail is None:
                reply = orjson.loads(row.reply)
                tail = _tail(reply, reply["decided_at"], reply["command_id"], row.traceparent)
            head = [(HEADER_ID, b"%d/%d" % (part, row.record_offset)), _REPLY_TYPE]
            records.append(OutRecord(replies, key, row.reply, head + tail))
    return records


def forwarded_records(topics: Topics, rows: Iterable[tuple[int, JournalRow]]) -> list[OutRecord]:
    """Return the commands that rows send: to other partitions as they came, and the service's own."""
    return [
        _forwarded(topics.commands, orjson.loads(row.event))
        for _, row in rows
        if row.kind in _ELSEWHERE and row.event is not None
    ]


def _tail(body: dict[str, Any], time: str, cause: str | None, traceparent: str | None) -> list[tuple[str, bytes]]:
    """Return the headers that an event and its command's reply have in common: they are of one moment and one cause."""
    headers = [
        (HEADER_SUBJECT, body["workflow_id"].encode()),
        (HEADER_TIME, time.encode()),
        *_FIXED,
    ]
    if "correlation_id" in body:
        headers.append((HEADER_CORRELATION_ID, body["correlation_id"].encode()))
    if cause is not None:
        headers.append((HEADER_CAUSATION_ID, cause.encode()))
    if traceparent is not None:
        headers.append((HEADER_TRACEPARENT, traceparent.encode()))
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
