"""Whatever comes in comes to something: readable, invalid with somebody to answer, or unreadable. Nothing raises."""

import json
import struct
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.commands import CreateWorkflow
from contracts.dead_letters import DeadLetterReason
from domain.idempotency import content_digest, content_of
from handlers.decode import VALUES_MAX, Invalid, Readable, Received, Unreadable, decode
from handlers.ports import Unread
from handlers.written import answer_unbound, forward_row, unread_row
from tests.fakes.machines import create, identified, move
from tests.fakes.ports import CommandRecord

BYTES_MAX = 4096
BODY = create("w", "c")
NO_INTEGER = "Input should be a valid integer, unable to parse string as an integer"
BEYOND = "estimated_seconds: Input should be less than 9223372036854776000"
ONE_TARGET = "give exactly one of target_state and transition"
TOO_MANY = "it has more than 20000 keys and values"
TYPES_LISTED = (
    "command_type must be one of create_workflow, extend_sla, migrate_workflow, pause_sla, recover_workflow, "
    "request_transition, resume_sla, set_due_date, set_priority, update_metadata"
)
NOW = "2026-11-21T09:30:00.000000Z"


def read(value: bytes | None, **fields: Any) -> Received:  # noqa: ANN401 - a record's fields
    """Decode a record, and write down what it came to: neither may raise."""
    received = decode(CommandRecord(value, **fields), command_bytes_max=BYTES_MAX)
    if not isinstance(received, Readable):
        unread_row(received, NOW)
    else:
        answer_unbound(received, "a problem", NOW)
        forward_row(received, 1, "root", hops=1)
    return received


def body(**fields: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return a creation with other fields, as JSON."""
    return json.dumps(BODY | fields).encode()


def spliced(text: bytes) -> bytes:
    """Return a creation whose context is this text, whatever it is."""
    return orjson.dumps(BODY)[:-1] + b',"context":{"a":' + text + b"}}"


def reason(value: bytes | None, **fields: Any) -> DeadLetterReason | None:  # noqa: ANN401 - a record's fields
    """Return why a record is unreadable, None where it is not."""
    received = read(value, **fields)
    return received.reason if isinstance(received, Unreadable) else None


def problem(value: bytes) -> str | None:
    """Return what is wrong with a command that can be answered, None for any other."""
    received = read(value)
    return received.problem if isinstance(received, Invalid) else None


def test_a_bare_json_value_is_a_command() -> None:
    """No key and no headers are needed."""
    received = read(orjson.dumps(BODY))
    assert isinstance(received, Readable)
    assert isinstance(received.command, CreateWorkflow)
    assert (
        identified("c"),
        content_digest(content_of(BODY)),
        None,
        None,
        0,
        datetime(2026, 11, 21, 9, 30, tzinfo=UTC),
    ) == (
        received.command_id,
        received.digest,
        received.correlation_id,
        received.traceparent,
        received.hops,
        received.broker_time,
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, DeadLetterReason.EMPTY),
        (b"", DeadLetterReason.EMPTY),
        (b"{", DeadLetterReason.NOT_JSON),
        (b"\xff\xfe\x00", DeadLetterReason.NOT_JSON),
        (b"\x00\x00\x00\x00\x07{}", DeadLetterReason.NOT_JSON),
        (b"[" * 3000, DeadLetterReason.NOT_JSON),
        (b"\xed\xa0\x80", DeadLetterReason.NOT_JSON),
        (b"null", DeadLetterReason.NOT_A_COMMAND),
        (b"[1]", DeadLetterReason.NOT_A_COMMAND),
        (b"NaN", DeadLetterReason.NOT_A_COMMAND),
        (b'"text"', DeadLetterReason.NOT_A_COMMAND),
        (b"{}", DeadLetterReason.NOT_A_COMMAND),
        (b'{"a":NaN}', DeadLetterReason.NOT_A_COMMAND),
        (b" " * (BYTES_MAX + 1), DeadLetterReason.TOO_LARGE),
        (Unread("nobody could hold it"), DeadLetterReason.TOO_LARGE),
        (body(command_id=None), DeadLetterReason.NOT_A_COMMAND),
        (body(command_id="no uuid"), DeadLetterReason.NOT_A_COMMAND),
        (body(command_id=7), DeadLetterReason.NOT_A_COMMAND),
        (body(workflow_id=None), DeadLetterReason.NOT_A_COMMAND),
        (body(workflow_id=""), DeadLetterReason.NOT_A_COMMAND),
        (body(workflow_id="w" * 201), DeadLetterReason.NOT_A_COMMAND),
        (body(workflow_id=["w"]), DeadLetterReason.NOT_A_COMMAND),
        (body(workflow_id="a\0b"), DeadLetterReason.NOT_A_COMMAND),
        (body(workflow_id="\ud800"), DeadLetterReason.NOT_A_COMMAND),
    ],
)
def test_what_cannot_be_answered_is_a_dead_letter(value: bytes | None, expected: DeadLetterReason) -> None:
    """Each with its reason."""
    assert expected == reason(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (body(definition=7), "definition: Input should be a valid string"),
        (body(definition=None), "definition: Input should be a valid string"),
        (body(metadata=[1]), "metadata: Input should be a valid dictionary"),
        (body(expected_version=0), "expected_version: Input should be greater than or equal to 1"),
        (body(estimated_seconds=-1), "estimated_seconds: Input should be greater than or equal to 0"),
        *((body(estimated_seconds=number), BEYOND) for number in (2**63, 1e19, 1e300)),
        (body(expected_version="x"), "expected_version: " + NO_INTEGER),
        (body(occurred_at="2026-11-21T09:30:00"), "occurred_at: Input should have timezone info"),
        (body(occurred_at="0001-01-01T00:00:00+01:00"), "occurred_at: no such instant in UTC"),
        (body(expires_at="9999-12-31T23:59:59-01:00"), "expires_at: no such instant in UTC"),
        (body(submitted_at="0001-01-01T00:00:00+00:01"), "submitted_at: no such instant in UTC"),
        (body(due_at="9999-12-31T23:59:59-00:01"), "due_at: no such instant in UTC"),
        (body(root_id=""), "root_id: String should have at least 1 character"),
        (body(reason="a\0b"), "it has a NUL character"),
        (body(context={"a": ["b\0"]}), "it has a NUL character"),
        (body(context={"b\0": 1}), "it has a NUL character"),
        (body(reason="\ud800"), "it has half of a surrogate pair"),
        (body(context={"\udc00": 1}), "it has half of a surrogate pair"),
        (spliced(b"NaN"), "nan is not a JSON number"),
        (spliced(b"-Infinity"), "-inf is not a JSON number"),
        (spliced(b"1e999"), "inf is not a JSON number"),
        (spliced(b"9" * 400), "inf is not a JSON number"),
        (spliced(b"%d" % 2**63), "9223372036854775808 is beyond 64 bits"),
        (spliced(b"%d" % (-(2**63) - 1)), "-9223372036854775809 is beyond 64 bits"),
        (spliced(b"[[[[%d]]]]" % 2**64), "18446744073709551616 is beyond 64 bits"),
        (spliced(b"1e19"), "10000000000000000000 is beyond 64 bits"),
        (spliced(b"[" * 40 + b"]" * 40), "it is nested deeper than 32"),
        (spliced(b"[" * 1010 + b"]" * 1010), "it is nested deeper than 32"),
        (json.dumps(move("w", "open") | {"target_state": "open"}).encode(), ONE_TARGET),
        (json.dumps(move("w", "open") | {"transition": None}).encode(), ONE_TARGET),
        (body(command_type="fly"), TYPES_LISTED),
        (body(command_type=None), TYPES_LISTED),
    ],
)  # fmt: skip
def test_what_can_be_answered_is_told_what_is_wrong(value: bytes, expected: str) -> None:
    """The ids can be read, so the sender hears of it."""
    assert expected == problem(value)


def test_a_number_of_thousands_of_digits_is_answered() -> None:
    """Python would not even turn it into text."""
    received = decode(CommandRecord(spliced(b"9" * 5000)), command_bytes_max=10_000)
    assert isinstance(received, Invalid)


def test_who_is_answered_is_who_sent_it() -> None:
    """Ids are canonical, the root defaults to the workflow, and a bad root is as if it were not there."""
    sender = {"command_id": identified("c").upper(), "definition": 1}
    for root_id, expected in (("r", "r"), (None, "w"), ("", "w"), (3, "w"), ("a\0", "w")):
        received = read(body(root_id=root_id, **sender), headers=[("correlation_id", b"talk")])
        assert isinstance(received, Invalid)
        assert (identified("c"), "w", expected, "talk") == (
            received.command_id,
            received.workflow_id,
            received.root_id,
            received.correlation_id,
        )


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 2**53 + 1, 1.5, -0.0, 1e300, "9" * 30, "\\u0000", "\U0001f600"])
def test_what_a_store_takes_is_taken(value: object) -> None:
    """The bounds themselves, and texts that only look like trouble."""
    received = read(body(context={"a": value}))
    assert isinstance(received, Readable)
    assert {"a": value} == received.command.context


def test_nesting_is_taken_up_to_its_bound() -> None:
    """Thirty-two levels are taken wherever they stand, one more is not."""
    besides: tuple[object, ...] = ("x", {}, [{}])
    for beside in besides:
        allowed: object = ["x"]
        for _ in range(32 - 3):  # the body, the context and the innermost list are levels too
            allowed = [allowed]
        assert isinstance(read(body(context={"a": allowed}, beside=beside)), Readable)
        assert "it is nested deeper than 32" == problem(body(context={"a": [allowed]}, beside=[beside]))


@pytest.mark.parametrize(("item", "counted"), [([0], 2), ({"k": 0}, 3), (1e20, 1), ("é", 1), ({}, 1)])
def test_keys_and_values_are_taken_up_to_their_bound(item: object, counted: int) -> None:
    """They cost us more than their bytes do, wherever they stand."""
    besides = 1 + 2 * (len(BODY) + 1) + 2  # the body, its fields' names and values, and one list under its name
    within, left = divmod(VALUES_MAX - besides, counted)
    for beside, fits in (([0] * left, True), ([0] * (left + 1), False)):
        value = orjson.dumps(BODY | {"context": {"a": [item] * within + beside}})
        received = decode(CommandRecord(value), command_bytes_max=len(value))
        assert fits is isinstance(received, Readable)
        assert fits or (isinstance(received, Invalid) and received.problem == TOO_MANY)


def test_what_is_no_strict_json_has_the_same_bound() -> None:
    """It is answered without a look at each."""
    received = decode(CommandRecord(spliced(b"[" + VALUES_MAX * b"0," + b"NaN]")), command_bytes_max=100_000)
    assert isinstance(received, Invalid)
    assert TOO_MANY == received.problem


def test_unknown_fields_are_ignored() -> None:
    """An older worker reads a newer producer's command."""
    assert isinstance(read(body(a_field_of_tomorrow={"a": 1})), Readable)


def test_ids_are_what_the_model_reads() -> None:
    """A UUID in another notation is the same id."""
    received = read(body(command_id=f"urn:uuid:{identified('c').upper()}"))
    assert isinstance(received, Readable)
    assert identified("c") == received.command_id


@pytest.mark.parametrize(
    "headers",
    [
        [("correlation_id", None)],
        [("correlation_id", b"\xff\xfe")],
        [("correlation_id", b"a\nb")],
        [("correlation_id", b"a\0b")],
        [("correlation_id", b"x" * 201)],
        [("ce_id", None), ("", b""), ("a\0b", b"\xff"), ("\ud800", None)],
        [("turnstile_hops", "²".encode())],
        [("turnstile_hops", b"-1")],
        [("turnstile_hops", b"10")],
        [("turnstile_broker_time", "²³".encode())],
        [("turnstile_broker_time", b"-5")],
        [("turnstile_broker_time", b"1e3")],
    ],
)
def test_a_bad_header_is_as_if_it_were_not_there(headers: list[tuple[str, bytes | None]]) -> None:
    """Null, not UTF-8, unprintable, oversize, or not the number it should be."""
    received = read(orjson.dumps(BODY), headers=headers)
    assert isinstance(received, Readable)
    assert (None, 0, datetime(2026, 11, 21, 9, 30, tzinfo=UTC)) == (
        received.correlation_id,
        received.hops,
        received.broker_time,
    )


def test_good_headers_are_read() -> None:
    """Conversation, trace, hops and the first broker's time."""
    headers = [
        ("correlation_id", "tälk".encode()),
        ("traceparent", b"00-1-2-01"),
        ("turnstile_hops", b"2"),
        ("turnstile_broker_time", b"1795253399000"),
    ]
    received = read(orjson.dumps(BODY), headers=headers)
    assert isinstance(received, Readable)
    assert ("tälk", "00-1-2-01", 2, datetime(2026, 11, 21, 9, 29, 59, tzinfo=UTC)) == (
        received.correlation_id,
        received.traceparent,
        received.hops,
        received.broker_time,
    )


def test_a_forged_broker_time_makes_nothing_younger() -> None:
    """A forwarded command keeps its first time; a later one is not believed."""
    received = read(orjson.dumps(BODY), headers=[("turnstile_broker_time", b"9" * 30)])
    assert isinstance(received, Readable)
    assert datetime(2026, 11, 21, 9, 30, tzinfo=UTC) == received.broker_time


@pytest.mark.parametrize("timestamp", [-1, 0, 2**62, -(2**62)])
def test_a_record_of_no_time_at_all_is_read(timestamp: int) -> None:
    """A topic without the broker's time may hold any number."""
    assert isinstance(read(orjson.dumps(BODY), timestamp=timestamp), Readable)
    assert DeadLetterReason.NOT_JSON == reason(b"{", timestamp=timestamp)


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["correlation_id", "traceparent", "turnstile_hops", "turnstile_broker_time"])
        | st.text(max_size=5),
        st.none()
        | st.binary(max_size=30)
        | st.text(max_size=5).map(lambda text: text.encode("utf-8", "surrogatepass")),
    ),
    max_size=5,
)
TEXTS = st.text(max_size=6)  # surrogates included
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | st.sampled_from(
        [2**63, 10**400, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", 1e20, BODY["command_id"]]
    )
)
JSONS = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))
FIELDS = [*CreateWorkflow.model_fields, "target_state", "transition", "output", "error", "token", "x"]
BODIES = st.dictionaries(st.sampled_from(FIELDS), JSONS, max_size=6)
TYPES = st.sampled_from(["create_workflow", "request_transition", "recover_workflow", "update_metadata"])


@given(st.binary(max_size=200), HEADERS)
def test_no_bytes_make_it_raise(value: bytes, headers: list[tuple[str, bytes | None]]) -> None:
    """Any value under any headers comes to something that can be written down."""
    read(value, headers=headers)


@given(TYPES, BODIES, HEADERS)
def test_no_json_makes_it_raise(
    command_type: str, fields: dict[str, Any], headers: list[tuple[str, bytes | None]]
) -> None:
    """Nor does any JSON in a command's own fields, as a tolerant writer writes it; what is read can be written."""
    value = json.dumps({**BODY, "command_type": command_type, **fields}).encode()
    received = read(value, headers=headers)
    if isinstance(received, Readable):
        orjson.dumps(received.command.model_dump(mode="json"))


@given(st.integers(0, 400), st.binary(min_size=1, max_size=4), st.booleans())
def test_no_damage_makes_it_raise(place: int, junk: bytes, replace: bool) -> None:  # noqa: FBT001 - drawn
    """A good command with a few bytes put in, or put in place of others."""
    good = body(context={"a": [1.5, "é", None, {"b": 2**62}]}, reason="\U0001f600")
    at = place % len(good)
    read(good[:at] + junk + good[at + len(junk) * replace :])


@given(st.integers(0, 2**64 - 1))
def test_any_double_is_taken_or_refused(bits: int) -> None:
    """Finite ones are read, the others are told."""
    value = struct.unpack(">d", bits.to_bytes(8, "big"))[0]
    finite = float("-inf") < value < float("inf")
    assert finite is isinstance(read(body(context={"a": value})), Readable)
