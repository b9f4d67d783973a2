"""Whatever is put on the topics, the records beside it are decided and no partition stops."""

from base64 import b64decode
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import orjson
import pytest
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchBuilderPy

from service.app import Endpoints, Service, running
from service.broker.lenient import UNPACKED_BYTES_MAX
from service.settings import Settings
from tests.e2e.outside import (
    Headers,
    Put,
    all_decided,
    command,
    creation,
    ids_on,
    move,
    outcomes,
    producer,
    put,
    read_json,
    rows,
    send,
)
from tests.eventually import assert_eventually

pytestmark = pytest.mark.stack
PART = 1
HERE = ids_on(PART, 1, partitions=3)[0]
MIB = 1024 * 1024
KEPT = 256 * 1024
REFUSED = "INVALID_COMMAND"
NOT_A_COMMAND = "dead letter: NOT_A_COMMAND"
NOT_JSON = "dead letter: NOT_JSON"


def _with(text: str, **fields: Any) -> bytes:  # noqa: ANN401
    """Return a creation with `text` as the JSON of its context's one value."""
    return orjson.dumps(creation("w", context={"a": "?"}, **fields)).replace(
        b'"?"', text.encode("utf-8", "surrogatepass")
    )


def _without(name: str) -> bytes:
    return orjson.dumps({key: value for key, value in creation("w").items() if key != name})


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


HOSTILE: dict[str, tuple[bytes | None, str]] = {
    "not JSON": (b"{not json", NOT_JSON),
    "cut JSON": (orjson.dumps(creation("w"))[:-5], NOT_JSON),
    "bytes that are no text": (b"\xff\xfe\x00\x80" * 10, NOT_JSON),
    "UTF-16": (orjson.dumps(creation("w")).decode().encode("utf-16"), REFUSED),
    "an array": (orjson.dumps([creation("w")]), NOT_A_COMMAND),
    "a number": (b"5", NOT_A_COMMAND),
    "a text": (b'"create_workflow"', NOT_A_COMMAND),
    "null": (b"null", NOT_A_COMMAND),
    "an empty object": (b"{}", NOT_A_COMMAND),
    "an empty value": (b"", "dead letter: EMPTY"),
    "a tombstone": (None, "dead letter: EMPTY"),
    "no command id": (_without("command_id"), NOT_A_COMMAND),
    "a command id that is no UUID": (orjson.dumps(creation("w") | {"command_id": "one"}), NOT_A_COMMAND),
    "no workflow id": (_without("workflow_id"), NOT_A_COMMAND),
    "a workflow id that is a number": (orjson.dumps(creation("w") | {"workflow_id": 5}), NOT_A_COMMAND),
    "a workflow id of 201 characters": (orjson.dumps(creation("w" * 201)), NOT_A_COMMAND),
    "a NUL in the workflow id": (orjson.dumps(creation("w\0")), NOT_A_COMMAND),
    "half a surrogate pair in the workflow id": (_with("1").replace(b'"w"', rb'"\ud800"'), NOT_A_COMMAND),
    "no type": (_without("command_type"), REFUSED),
    "an unknown type": (orjson.dumps(command("w", "erase_everything")), REFUSED),
    "a wrong type": (orjson.dumps(creation("w", expected_version="many")), REFUSED),
    "both target and transition": (orjson.dumps(move("w", "ACTIVE", transition="activate")), REFUSED),
    "a NUL": (_with(r'"\u0000"'), REFUSED),
    "a NUL as a key": (_with(r'{"\u0000": 1}'), REFUSED),
    "half a surrogate pair": (_with(r'"\udfff"'), REFUSED),
    "a raw half of a surrogate pair": (_with('"\udfff"'), REFUSED),
    "depth 33": (_with(_nested(33)), REFUSED),
    **{f"depth {depth}": (_with(_nested(depth)), REFUSED) for depth in range(970, 1022, 4)},
    "depth 100,000": (_with(_nested(100_000)), NOT_JSON),
    "2 ** 63": (_with(str(2**63)), REFUSED),
    "-(2 ** 63) - 1": (_with(str(-(2**63) - 1)), REFUSED),
    "5,000 digits": (_with("9" * 5_000), REFUSED),
    "1e400": (_with("1e400"), REFUSED),
    "NaN": (_with("NaN"), REFUSED),
    "Infinity": (_with("-Infinity"), REFUSED),
    "an instant before the calendar": (_with("1", occurred_at="0001-01-01T00:00:00+14:00"), REFUSED),
    "an instant after the calendar": (_with("1", due_at="9999-12-31T23:59:59-10:00"), REFUSED),
    "submitted before the calendar": (_with("1", submitted_at="0001-01-01T00:00:00+14:00"), REFUSED),
    "expired before the calendar": (_with("1", expires_at="0001-01-01T00:00:00+14:00"), REFUSED),
    "an instant without a zone": (_with("1", occurred_at="2026-11-21T09:00:00"), REFUSED),
    "more than command_bytes_max": (_with(f'"{"x" * KEPT}"'), "dead letter: TOO_LARGE"),
    "a definition nobody knows": (
        orjson.dumps(creation(HERE, "no.such")),
        "UNKNOWN_DEFINITION",
    ),
}

# On a good command: a header that is not needed, or not readable, is as if it were not there.
HEADERS: dict[str, Headers] = {
    "a header without a value": [("traceparent", None), ("ce_id", None), ("turnstile_hops", None)],
    "a header that is not UTF-8": [("correlation_id", b"\xff\xfe"), ("traceparent", b"\x80")],
    "numbers that are none": [("turnstile_broker_time", "²".encode()), ("turnstile_hops", "²".encode())],
    "numbers beyond reason": [("turnstile_broker_time", b"9" * 190), ("turnstile_hops", b"-1")],
    "control characters": [("correlation_id", b"a\0b\nc"), ("traceparent", b"\x1b[31m")],
    "a header of 900 KB": [("correlation_id", b"x" * 900_000)],
    "100,000 headers": [("", b"")] * 100_000,
    "a content type of another world": [("content-type", b"application/x-protobuf"), ("ce_specversion", b"9.9")],
}


async def test_good_records_between_bad_ones_are_all_decided(settings: Settings, endpoints: Endpoints) -> None:
    """Every record of one partition has the outcome that belongs to it, and the good ones are carried out."""
    good = iter(ids_on(PART, 1 + len(HOSTILE) + len(HEADERS), partitions=settings.partitions))
    bad = [Put(value, b"w", PART) for value, _ in HOSTILE.values()]
    odd = [put(creation(next(good)), PART, headers) for headers in HEADERS.values()]
    records = [put(creation(next(good)), PART)]
    for hostile in [*bad, *odd]:
        records += [hostile, put(creation(next(good)), PART)] if hostile in bad else [hostile]
    expected = ["accepted"]
    for _, outcome in HOSTILE.values():
        expected += [outcome, "accepted"]
    expected += ["accepted"] * len(odd)
    async with running(settings, endpoints):
        places = await send(endpoints, settings.topics.commands, records, max_request_size=MIB)
        await all_decided(settings, endpoints)
    became = await outcomes(settings, endpoints)
    named = ["good", *(name for each in HOSTILE for name in (each, f"after {each}")), *HEADERS]
    assert dict(zip(named, expected, strict=True)) == {
        name: became[place] for name, place in zip(named, places, strict=True)
    }


async def test_forty_megabytes_of_zeros_become_one_small_dead_letter(settings: Settings, endpoints: Endpoints) -> None:
    """Its first 256 KiB, length, digest, headers and place are kept; its neighbours are decided."""
    before, after = ids_on(PART, 2, partitions=settings.partitions)
    topic = settings.topics.commands
    zeros = bytes(40_000_000)
    headers: Headers = [("sent-by", b"a test"), ("nothing", None), ("not text", b"\xff")]
    async with running(settings, endpoints):
        await send(endpoints, topic, [put(creation(before), PART)])
        await send(
            endpoints,
            topic,
            [Put(zeros, b"key \xff", PART, headers)],
            compression_type="gzip",
            max_request_size=50_000_000,
            max_batch_size=50_000_000,
        )
        await send(endpoints, topic, [put(creation(after), PART)])
        await all_decided(settings, endpoints)
    (letter,) = await read_json(endpoints, settings.topics.dead_letters)
    assert {
        "topic": topic,
        "partition": PART,
        "offset": 1,
        "reason": "TOO_LARGE",
        "message": "40000000 bytes are more than the 262144 a command may have",
        "key": b"key \xff",
        "value": zeros[:KEPT],
        "encoding": "base64",
        "value_length": len(zeros),
        "value_sha256": sha256(zeros).hexdigest(),
        "truncated": True,
        "headers": headers,
    } == _opened(letter)
    assert {"1/0": "accepted", "1/1": "dead letter: TOO_LARGE", "1/2": "accepted"} == await outcomes(
        settings, endpoints
    )


async def test_a_batch_too_large_to_be_unpacked_stops_nothing(settings: Settings, endpoints: Endpoints) -> None:
    """A few KiB may hold more than a worker has: of such a record its place is kept, its neighbours are decided."""
    before, after = ids_on(PART, 2, partitions=settings.partitions)
    topic = settings.topics.commands
    async with running(settings, endpoints):
        await send(endpoints, topic, [put(creation(before), PART)])
        await send(
            endpoints,
            topic,
            [Put(bytes(UNPACKED_BYTES_MAX), b"key", PART)],
            compression_type="zstd",
            max_request_size=2 * UNPACKED_BYTES_MAX,
            max_batch_size=2 * UNPACKED_BYTES_MAX,
        )
        await send(endpoints, topic, [put(creation(after), PART)])
        await all_decided(settings, endpoints)
    (letter,) = await read_json(endpoints, settings.topics.dead_letters)
    assert ("TOO_LARGE", topic, PART, 1, "", 0) == tuple(
        letter[name] for name in ("reason", "topic", "partition", "offset", "value", "value_length")
    )
    assert {"1/0": "accepted", "1/1": "dead letter: TOO_LARGE", "1/2": "accepted"} == await outcomes(
        settings, endpoints
    )


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        pytest.param([("large", b"x" * 1_000_000)], 0, id="one of 1 MB"),
        pytest.param([("", None)] * 300_000, KEPT // 4 // 16, id="300,000 empty ones"),
        pytest.param([("\x01" * 50, b"\0" * 50)] * 8_000, KEPT // 4 // 116, id="800 KB of control characters"),
    ],
)
async def test_headers_are_kept_as_far_as_a_topic_takes_them(
    settings: Settings, endpoints: Endpoints, headers: Headers, kept: int
) -> None:
    """A dead letter with too many headers keeps some, says so, and is published like any other."""
    (after,) = ids_on(PART, 1, partitions=settings.partitions)
    records = [Put(b"x" * KEPT, b"key", PART, headers), put(creation(after), PART)]
    async with running(settings, endpoints):
        for record in records:
            await send(
                endpoints,
                settings.topics.commands,
                [record],
                compression_type="gzip",
                max_request_size=50_000_000,
                max_batch_size=50_000_000,
            )
        await all_decided(settings, endpoints)
    (letter,) = await read_json(endpoints, settings.topics.dead_letters)
    assert (kept, True) == (len(letter["headers"]), letter["truncated"])
    assert {"1/0": "dead letter: NOT_JSON", "1/1": "accepted"} == await outcomes(settings, endpoints)


async def test_forged_ticks_neither_stop_a_partition_nor_move_its_time(
    settings: Settings, endpoints: Endpoints
) -> None:
    """A tick that cannot be believed is a dead letter; decisions go on at the database's time."""
    before, after = ids_on(PART, 2, partitions=settings.partitions)
    now = datetime.now(UTC)
    ticks: dict[str, bytes | None] = {
        "garbage": b"\xff not a tick",
        "tombstone": None,
        "a list": b"[]",
        "another partition": _tick(now, partition=0),
        "a partition beyond any": _tick(now, partition=2**63),
        "before the calendar": _tick("0001-01-01T00:00:00+14:00"),
        "after the calendar": _tick("9999-12-31T23:59:59-14:00"),
        "an hour ahead": _tick(now + timedelta(hours=1)),
        "a thousand years ahead": _tick("3026-01-01T00:00:00Z"),
    }
    # No tick of the emitter's own: the newest wins, and one of these could be passed over.
    quiet = settings.model_copy(update={"tick_seconds": 60})
    async with running(quiet, endpoints) as service:
        await send(endpoints, settings.topics.commands, [put(creation(before), PART)])
        await all_decided(settings, endpoints)
        for number, value in enumerate(ticks.values(), start=1):
            await send(endpoints, settings.topics.scheduler, [Put(value, b"key", PART)])
            await assert_eventually(number, lambda: _dead_letters(service))
        await send(endpoints, settings.topics.scheduler, [Put(_tick("0001-01-01T00:00:00Z"), None, PART)])
        await send(endpoints, settings.topics.commands, [put(creation(after), PART)])
        await all_decided(settings, endpoints)
    letters = await read_json(endpoints, settings.topics.dead_letters)
    assert [(settings.topics.scheduler, PART, "BAD_TICK", value) for value in ticks.values()] == [
        (letter["topic"], letter["partition"], letter["reason"], _bytes(letter, "value")) for letter in letters
    ]
    decided = [
        row["created_at"] for row in await rows(endpoints, "select created_at from workflow order by created_at")
    ]
    assert [True, True] == [now - timedelta(minutes=1) < at < now + timedelta(minutes=1) for at in decided]


def _tick(time: object, partition: int = PART) -> bytes:
    return orjson.dumps({"partition": partition, "time": time, "commands_end_offset": 1, "emitter": "nobody"})


async def _dead_letters(service: Service) -> int:
    return int(service.telemetry.registry.get_sample_value("turnstile_dead_letters_total") or 0)


def _bytes(letter: dict[str, Any], name: str) -> bytes | None:
    return b64decode(letter[name]) if name in letter else None


def _opened(letter: dict[str, Any]) -> dict[str, Any]:
    """Return a dead letter with its bytes as they were, without the broker's time."""
    plain = {name: item for name, item in letter.items() if name != "broker_time"}
    headers = [(name, None if value is None else b64decode(value)) for name, value in letter["headers"]]
    return plain | {"key": _bytes(letter, "key"), "value": _bytes(letter, "value"), "headers": headers}


class _NotText(str):
    """A header's name that goes out as bytes that are no UTF-8, as C clients can send it."""

    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        return b"\xff\xfe"


async def test_a_header_whose_name_is_no_text_stops_nothing(settings: Settings, endpoints: Endpoints) -> None:
    """The command that came with it is decided like its neighbours, in the same batch and in others."""
    before, first, odd, last, after = ids_on(PART, 5, partitions=settings.partitions)
    topic = settings.topics.commands
    headers = {odd: [(_NotText("name"), b"value"), ("correlation_id", b"kept")]}
    async with running(settings, endpoints):
        await send(endpoints, topic, [put(creation(before), PART)])
        async with producer(endpoints) as opened:
            batch = opened.create_batch()
            builder = _DefaultRecordBatchBuilderPy(2, DefaultRecordBatch.CODEC_GZIP, 0, -1, -1, -1, MIB)
            for offset, name in enumerate((first, odd, last)):
                record = put(creation(name))
                builder.append(offset, None, record.key, record.value, headers.get(name, []))
            batch._builder, batch._relative_offset = builder, 3  # noqa: SLF001 - no client of ours would write it
            await (await opened.send_batch(batch, topic, partition=PART))
        await send(endpoints, topic, [put(creation(after), PART)])
        await all_decided(settings, endpoints)
    assert {f"{PART}/{offset}": "accepted" for offset in range(5)} == await outcomes(settings, endpoints)
    replies = {reply["workflow_id"]: reply for reply in await read_json(endpoints, settings.topics.replies)}
    assert "kept" == replies[odd]["correlation_id"]
