"""What is known of a command before its workflow is looked at: repeats, age, and ids used for something else."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.commands import COMMANDS
from contracts.rejections import Code
from domain.idempotency import Remembered, Repeated, content_digest, content_of, known
from domain.rejections import Refusal
from tests.fakes.machines import create

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
WINDOW = timedelta(days=14)
LONG_AGO = NOW - WINDOW - timedelta(microseconds=1)
BODY = create("w")
DIGEST = content_digest(content_of(BODY))
SAME = Remembered(DIGEST, b"the first reply")
OTHER = Remembered(b"other", b"a secret")


def answer(
    remembered: Remembered | None = None, *, broker_time: datetime = NOW, **fields: object
) -> Repeated | Refusal | None:
    """Ask what is known of a command with these fields besides."""
    stated = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()}
    command = COMMANDS.validate_python(BODY | stated)
    return known(command, DIGEST, remembered, now=NOW, database_time=NOW, broker_time=broker_time, window=WINDOW)


def code(found: Repeated | Refusal | None) -> Code | str | None:
    """Return what an answer comes to."""
    return found.code if isinstance(found, Refusal) else "repeated" if found is not None else None


@pytest.mark.parametrize(
    ("remembered", "fields", "expected"),
    [
        (None, {}, None),
        (SAME, {}, "repeated"),
        (OTHER, {}, Code.COMMAND_ID_REUSED),
        (None, {"submitted_at": LONG_AGO}, Code.EXPIRED),
        (SAME, {"submitted_at": LONG_AGO}, Code.EXPIRED),
        (OTHER, {"submitted_at": LONG_AGO}, Code.EXPIRED),
        (None, {"expires_at": NOW}, Code.EXPIRED),
        (SAME, {"expires_at": NOW}, "repeated"),
        (OTHER, {"expires_at": NOW}, Code.EXPIRED),
        (None, {"expires_at": NOW + timedelta(microseconds=1)}, None),
        (None, {"submitted_at": NOW - WINDOW}, None),
    ],
)
def test_what_is_known(remembered: Remembered | None, fields: dict[str, datetime], expected: Code | str | None) -> None:
    """Too old comes first, then the stored reply, then expiry, then the reused id; the bounds are exact."""
    assert expected == code(answer(remembered, **fields))


def test_the_brokers_time_stands_in_for_the_producers() -> None:
    """Age counts from `submitted_at`, and at the latest from when the broker took the record."""
    assert Code.EXPIRED == code(answer(submitted_at=NOW + WINDOW, broker_time=LONG_AGO))
    assert Code.EXPIRED == code(answer(broker_time=LONG_AGO))
    assert None is code(answer(broker_time=NOW - WINDOW))


def test_a_repeat_is_the_first_reply() -> None:
    """The stored bytes come back, whatever they were."""
    assert Repeated(b"the first reply") == answer(SAME)


def test_a_reused_id_shows_nothing_of_the_first() -> None:
    """The refusal is the same whatever the first command was."""
    refusal = answer(OTHER)
    assert answer(Remembered(b"another", b"")) == refusal
    assert (
        Refusal(Code.COMMAND_ID_REUSED, f"command id {BODY['command_id']} was used for another command; send a new id")
        == refusal
    )


@pytest.mark.parametrize("field", ["submitted_at", "token"])
def test_when_and_by_which_token_it_was_sent_is_not_content(field: str) -> None:
    """A retry that stamps a new time or carries a new token is the same command."""
    assert DIGEST == content_digest(content_of(BODY | {field: "2026-11-21T09:30:00Z"}))


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "acme"},
        {"workflow_id": "v"},
        {"metadata": {"a": 1}},
        {"expires_at": "2026-11-21T09:30:00Z"},
        {"a field of tomorrow": 1},
    ],
)
def test_everything_else_is_content(change: dict[str, Any]) -> None:
    """Tenant, target, free JSON, and fields that this build does not know."""
    assert content_digest(content_of(BODY | change)) != DIGEST


def test_content_is_what_is_said_not_how() -> None:
    """The order of keys and the notation of a number do not make another command."""
    first = {"a": 1, "b": {"c": [1.0, "é"], "d": None}}
    second = {"b": {"d": None, "c": [1, "é"]}, "a": 1.0}
    assert content_digest(content_of(first)) == content_digest(content_of(second))
    assert 16 == len(content_digest(content_of(first)))
