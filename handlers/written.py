"""The rows a turn leaves: how events, replies, dead letters and forwarded commands are written down."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from itertools import chain
from typing import Any, NamedTuple

import orjson

from contracts.dead_letters import HEADER_BYTES_MAX, VALUE_BYTES_MAX, DeadLetterReason
from contracts.envelope import HEADER_BROKER_TIME, HEADER_DEPTH, HEADER_HOPS, HEADER_ORIGIN
from contracts.rejections import Code
from domain.canonical import canonical
from domain.decision import Accepted
from domain.instants import of_broker, written
from domain.rejections import Refusal, refusal
from domain.workflow import dump
from handlers.decode import VALUES_MAX, Invalid, Readable, Unreadable, levels, wanted_headers
from handlers.ports import JournalRow, Record

REPLY_TYPE = "turnstile.reply"
DEAD_LETTER_TYPE = "turnstile.dead_letter"
FORWARD_TYPE = "turnstile.forward"
ALERT_TYPE = "turnstile.alert"
FOLLOW_UP_TYPE = "turnstile.follow_up"
HOPS_MAX = 2
HEADER_FRAME_BYTES = 16  # what a header costs as JSON beside its text: a million empty ones are not for free


class Answer(NamedTuple):
    """What a command's last row keeps of it: the id it binds, what it said, and its reply."""

    command_id: str | None
    digest: bytes | None
    reply: bytes | None


NO_ANSWER = Answer(None, None, None)


def accepted_rows(received: Readable, decision: Accepted, now: str, prefix: str) -> list[JournalRow]:
    """Return one row per event, the command's reply on the last."""
    workflow = decision.workflow
    change, last = decision.events[0], decision.events[-1]
    reply = _reply(received, workflow.workflow_id, workflow.root_id, now)
    reply["outcome"] = "accepted"
    reply["events"] = [event["event_id"] for event in decision.events]
    reply["state"] = workflow.state
    reply["version"] = workflow.version
    for field in ("from_state", "to_state"):
        if field in change:
            reply[field] = change[field]
    offset, traceparent = received.record.offset, received.traceparent
    rows = [event_row(event, prefix, offset, traceparent) for event in decision.events[:-1]]
    answer = Answer(received.command_id, received.digest, canonical(reply))
    rows.append(event_row(last, prefix, offset, traceparent, answer))
    return rows


def event_row(
    event: Mapping[str, Any],
    prefix: str,
    record_offset: int,
    traceparent: str | None = None,
    answer: Answer = NO_ANSWER,
) -> JournalRow:
    """Return the row of an event, with the answer to the command it is of, if it has one."""
    return JournalRow(
        kind="event",
        key=event["root_id"],
        workflow_id=event["workflow_id"],
        type=f"{prefix}.{event['event_type']}",
        record_offset=record_offset,
        sequence=event["sequence"],
        command_id=answer.command_id,
        digest=answer.digest,
        event=canonical(event),
        reply=answer.reply,
        traceparent=traceparent,
    )


def consequence_rows(decision: Accepted, part: int, record_offset: int, traceparent: str | None) -> list[JournalRow]:
    """Return the rows of whom a change tells and what the service asks itself because of it."""
    workflow = decision.workflow
    rows = [("alert", ALERT_TYPE, alert) for alert in decision.alerts]
    for command in decision.follow_ups:
        document = {
            "part": part,
            "key": workflow.root_id,
            "value": b64encode(canonical(command)).decode(),
            "headers": [[HEADER_DEPTH, b64encode(b"1").decode()]],
        }
        rows.append(("follow_up", FOLLOW_UP_TYPE, document))
    return [
        JournalRow(
            kind=kind,
            key=workflow.root_id,
            workflow_id=workflow.workflow_id,
            type=type_,
            record_offset=record_offset,
            event=canonical(body),
            traceparent=traceparent,
        )
        for kind, type_, body in rows
    ]


def refused_row(
    received: Readable,
    refusal: Refusal,
    *,
    root_id: str,
    state: str | None,
    version: int | None,
    now: str,
    binds: bool,
) -> JournalRow:
    """Return the row of a refused command; `binds` keeps its id from being decided again."""
    command = received.command
    reply = _reply(received, command.workflow_id, root_id, now)
    reply["outcome"] = "rejected"
    reply["rejection"] = refusal.written()
    if state is not None:
        reply["state"] = state
        reply["version"] = version
    return _reply_row(
        received,
        command.workflow_id,
        root_id,
        canonical(reply),
        command_id=received.command_id if binds else None,
        digest=received.digest if binds else None,
    )


def repeated_row(received: Readable, root_id: str, stored_reply: bytes) -> JournalRow:
    """Return the row that answers a repeat with the first one's reply."""
    reply = orjson.loads(stored_reply)
    reply["duplicate"] = True
    if received.correlation_id is not None:
        reply["correlation_id"] = received.correlation_id
    return _reply_row(received, received.command.workflow_id, root_id, canonical(reply))


def answer_unbound(
    received: Readable | Invalid, problem: str, now: str, code: Code = Code.INVALID_COMMAND
) -> JournalRow:
    """Return the row that answers a record that is no command, or none we can store or decide; it binds no id."""
    if isinstance(received, Readable):
        command_id, workflow_id = received.command_id, received.command.workflow_id
        root_id = received.command.root_id or workflow_id
    else:
        command_id, workflow_id, root_id = received.command_id, received.workflow_id, received.root_id
    reply: dict[str, Any] = {
        "command_id": command_id,
        "workflow_id": workflow_id,
        "root_id": root_id,
        "decided_at": now,
        "correlation_id": received.correlation_id or command_id,
        "outcome": "rejected",
        "rejection": refusal(code, problem).written(),
    }
    return _reply_row(received, workflow_id, root_id, canonical(reply))


def unread_row(received: Invalid | Unreadable, now: str) -> JournalRow:
    """Return the row of a record that is no command: an answer to whoever sent it, a dead letter if nobody can tell."""
    if isinstance(received, Invalid):
        return answer_unbound(received, received.problem, now)
    return dead_letter(received.record, received.reason, received.problem)


def dead_letter(record: Record, reason: DeadLetterReason, problem: str) -> JournalRow:
    """Return the row that keeps `record` out of the way."""
    value = record.value or b""
    headers, cut = kept_headers(record)
    key = record.key[:1024] if record.key is not None else None
    letter = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "broker_time": written(of_broker(record.timestamp)),
        "reason": reason,
        "message": problem,
        "key": None if key is None else b64encode(key).decode(),
        "value": b64encode(value[:VALUE_BYTES_MAX]).decode() if record.value is not None else None,
        "encoding": "base64",
        "value_length": len(value),
        "value_sha256": sha256(value).hexdigest(),
        "truncated": len(value) > VALUE_BYTES_MAX or cut or key != record.key,
        "headers": headers,
    }
    return JournalRow(
        kind="dead_letter",
        key=None,
        workflow_id=None,
        type=DEAD_LETTER_TYPE,
        record_offset=record.offset,
        event=canonical({name: item for name, item in letter.items() if item is not None}),
    )


def forward_row(received: Readable, part: int, root_id: str, *, hops: int) -> JournalRow:
    """Return the row that sends a command to its root's partition, with its bytes, first broker time and origin.

    `hops` is how often it will have been forwarded then.
    """
    record = received.record
    headers, _ = kept_headers(record)
    ours = {HEADER_HOPS, HEADER_BROKER_TIME, HEADER_ORIGIN}
    stamped = {
        HEADER_HOPS: str(hops),
        HEADER_BROKER_TIME: str(int(received.broker_time.timestamp() * 1000)),
        HEADER_ORIGIN: f"{record.partition}/{record.offset}",
    }
    document = {
        "part": part,
        "key": root_id,
        "value": b64encode(record.value or b"").decode(),
        "headers": [pair for pair in headers if pair[0] not in ours]
        + [[name, b64encode(value.encode()).decode()] for name, value in stamped.items()],
    }
    return JournalRow(
        kind="forward",
        key=root_id,
        workflow_id=received.command.workflow_id,
        type=FORWARD_TYPE,
        record_offset=record.offset,
        event=canonical(document),
    )


def _reply(received: Readable, workflow_id: str, root_id: str, now: str) -> dict[str, Any]:
    command_id = received.command_id
    return {
        "command_id": command_id,
        "workflow_id": workflow_id,
        "root_id": root_id,
        "decided_at": now,
        "correlation_id": received.correlation_id or command_id,
    }


def _reply_row(
    received: Readable | Invalid,
    workflow_id: str,
    root_id: str,
    reply: bytes,
    command_id: str | None = None,
    digest: bytes | None = None,
) -> JournalRow:
    return JournalRow(
        kind="reply",
        key=root_id,
        workflow_id=workflow_id,
        type=REPLY_TYPE,
        record_offset=received.record.offset,
        command_id=command_id,
        digest=digest,
        reply=reply,
        traceparent=received.traceparent,
    )


def kept_headers(record: Record) -> tuple[list[list[str | None]], bool]:
    """Return the headers as text names and base64 values, up to 64 KiB, and whether some were left out.

    Those that we look at come first: whatever a producer adds, a forwarded command keeps its own conversation.
    """
    looked_at = wanted_headers(record)
    ours = (header for header in record.headers if header[0] in looked_at)
    others = (header for header in record.headers if header[0] not in looked_at)
    kept: list[list[str | None]] = []
    size = 0
    for name, value in chain(ours, others):
        size += len(name) + len(value or b"") + HEADER_FRAME_BYTES
        if size > HEADER_BYTES_MAX:
            return kept, True
        kept.append([storable(name), None if value is None else b64encode(value).decode()])
    return kept, False


def storable(text: str) -> str:
    """Return a text as neither store nor topic refuses it."""
    return text.replace("\0", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode()


def too_large(decision: Accepted, rows: list[JournalRow], bytes_max: int) -> Refusal | None:
    """Refuse a change whose event no topic would take, or whose workflow grows too large."""
    if sizes_exceed(rows, bytes_max):
        return refusal(Code.INVALID_COMMAND, "its event would be larger than a topic takes; send less")
    workflow = decision.workflow
    if "metadata" not in decision.events[0]:
        return None
    most = None
    if sum(map(len, levels(workflow.metadata))) > VALUES_MAX:
        most = f"{VALUES_MAX} keys and values of metadata"
    elif len(dump(workflow)) > bytes_max:
        most = f"{bytes_max} bytes"
    if most is None:
        return None
    return refusal(Code.INVALID_COMMAND, f"{workflow.workflow_id} would be larger than {most}; remove metadata")


def sizes_exceed(rows: list[JournalRow], message_bytes_max: int) -> bool:
    """Say whether a row is larger than a topic takes."""
    return any(len(row.event or b"") > message_bytes_max or len(row.reply or b"") > message_bytes_max for row in rows)


def without_values(refusal: Refusal) -> Refusal:
    """Return a refusal small enough for any topic: its clause, without the values it saw and what is allowed."""
    why: Mapping[str, Any] | None = None
    if refusal.why is not None:
        why = {"clause": str(refusal.why.get("clause"))[:1000]}
    return Refusal(refusal.code, refusal.message[:1000], why)
