"""What the service really writes passes the AsyncAPI document: the rows of a turn, as the records they publish."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest

from contracts.asyncapi import document
from contracts.examples import PAYLOADS
from contracts.rejections import Code
from contracts.topics import Topics
from domain.decide import decide
from domain.decision import Accepted, Circumstances, Facts
from domain.definition import Definition, compile_document
from domain.rejections import refusal
from handlers.decode import Readable, decode
from handlers.ports import JournalRow
from handlers.written import accepted_rows, refused_row, repeated_row, unread_row
from service.broker.records import OutRecord, own_records

NOW = "2026-11-21T09:30:00.000000Z"
TOPICS = Topics()
DOCUMENT = document(TOPICS)
DEFINITION = {
    "name": "shop.order",
    "version": 1,
    "states": {"draft": {"initial": True}, "approved": {"terminal": True}},
    "transitions": [{"name": "approve", "from": "draft", "to": "approved"}],
}


@dataclass
class Came:
    """A record as it came."""

    value: bytes | None
    key: bytes | None = b"order-1042"
    headers: Sequence[tuple[str, bytes | None]] = (("ce_id", b"7"), ("odd", None), ("traceparent", b"00-1-2-01"))
    topic: str = "turnstile.commands"
    partition: int = 3
    offset: int = 17
    timestamp: int = 1_795_253_400_000


def _rows(came: Came) -> list[JournalRow]:
    """Take a record to the rows that answer it; a command is accepted, refused and repeated."""
    received = decode(came, command_bytes_max=1024)
    return _answers(received) if isinstance(received, Readable) else [unread_row(received, NOW)]


def _answers(received: Readable) -> list[JournalRow]:
    definition = compile_document(DEFINITION)
    assert isinstance(definition, Definition)
    decision = decide(
        received.command,
        None,
        definition,
        facts=Facts(),
        circumstances=Circumstances(NOW, UUID(int=1), received.command_id, "c-1"),
    )
    assert isinstance(decision, Accepted)
    accepted = accepted_rows(received, decision, NOW, "shop")
    no = refusal(Code.GUARD_DENIED, "no", clause="a < 1", values={"a": 1}, allowed=({"transition": "approve",
                 "target_state": "approved", "guarded": False},))  # fmt: skip
    refused = refused_row(received, no, root_id="order-1042", state="draft", version=1, now=NOW, binds=True)
    assert refused.reply is not None
    return [*accepted, refused, repeated_row(received, "order-1042", refused.reply)]


def _message(record: OutRecord) -> dict[str, Any]:
    (channel,) = (each for each in DOCUMENT["channels"].values() if each["address"] == record.topic)
    (name,) = channel["messages"]
    found: dict[str, Any] = DOCUMENT["components"]["messages"][name]
    return found


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        (Came(json.dumps(PAYLOADS["create_workflow"]).encode()), ["events", "replies", "replies", "replies"]),
        (Came(json.dumps(PAYLOADS["create_workflow"] | {"definition": 1}).encode(), headers=()), ["replies"]),
        (Came(None), ["dead-letters"]),
        (Came(b"\xff\xfe", key=None), ["dead-letters"]),
        (Came(b"[1]", key=b"\xff"), ["dead-letters"]),
        (Came(b" " * 2000), ["dead-letters"]),
    ],
    ids=["a command", "an invalid command", "no value", "not text", "an array", "too large"],
)
def test_every_record_written_is_as_described(came: Came, expected: list[str]) -> None:
    """Payload and headers of each record pass the schemas of its topic's one message."""
    records = own_records(TOPICS, came.partition, enumerate(_rows(came)))
    assert expected == [record.topic.removeprefix("turnstile.") for record in records]
    for record in records:
        message = _message(record)
        headers = {name: value.decode() for name, value in record.headers}
        for part, written in (("payload", json.loads(record.value)), ("headers", headers)):
            schema = message[part] | {"components": DOCUMENT["components"]}
            jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(written)
