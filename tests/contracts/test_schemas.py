"""Holds the committed schemas and the AsyncAPI document against the models, and both against real messages."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest
from pydantic import ValidationError

from contracts.asyncapi import document
from contracts.commands import COMMAND_TYPES, COMMANDS
from contracts.dead_letters import DeadLetter, DeadLetterReason
from contracts.envelope import Contract
from contracts.events import Event
from contracts.examples import PAYLOADS
from contracts.export import drift, files, main, render, schemas, write
from contracts.rejections import STATUS, AllowedTransition, Code, Rejection
from contracts.replies import Reply
from contracts.ticks import Tick
from contracts.topics import Topics

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
ID = UUID("0b6f1c52-6d0e-4c55-9d5b-3a1f0c1e7a01")

REJECTION = Rejection(
    code=Code.GUARD_DENIED,
    status=STATUS[Code.GUARD_DENIED],
    message="the guard denied",
    why={"clause": "amount < 100", "amount": 120},
    allowed=(AllowedTransition(transition="cancel", target_state="cancelled", guarded=True),),
)
REAL = {
    "event": Event(
        event_id=ID, sequence=1, workflow_id="w", root_id="w", event_type="CREATED", category="state", message="",
        definition="d", definition_version=1, to_state="new", version=1, timestamp=NOW, metadata={"a": [1, None]},
    ),
    "reply": Reply(
        command_id=ID, workflow_id="w", root_id="w", outcome="rejected", decided_at=NOW, rejection=REJECTION,
    ),
    "rejection": REJECTION,
    "tick": Tick(partition=0, time=NOW, commands_end_offset=0, emitter="w1"),
    "dead_letter": DeadLetter(
        topic="t", partition=0, offset=0, broker_time=NOW, reason=DeadLetterReason.EMPTY, message="no value",
        value_length=0, value_sha256="00", headers=(("trace", None), ("ce_id", "eA==")),
    ),
}  # fmt: skip


def _check(instance: object, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(instance)


def test_the_committed_files_equal_the_models() -> None:
    """A contract that changes without `make schemas` fails here."""
    assert drift() == ()


def test_the_same_models_give_the_same_bytes() -> None:
    """Writing twice is writing once, with keys in order."""
    assert files() == files()
    assert render({"a": {"x": 1, "y": "é"}, "b": 1}) == render({"b": 1, "a": {"y": "é", "x": 1}})


def test_a_changed_a_missing_and_a_stray_file_are_named(tmp_path: Path) -> None:
    """Drift names every file that is not what the models give, and writing mends it."""
    write(tmp_path)
    (tmp_path / "event.json").write_text("{}", encoding="utf-8")
    (tmp_path / "tick.json").unlink()
    (tmp_path / "stray.json").write_text("{}", encoding="utf-8")
    assert drift(tmp_path) == ("event.json", "stray.json", "tick.json")
    write(tmp_path)
    assert drift(tmp_path) == ()


def test_the_check_command_agrees() -> None:
    """`python -m contracts.export --check` exits 0 where nothing differs."""
    assert main(["--check"]) == 0


@pytest.mark.parametrize("name", sorted(schemas()))
def test_every_schema_is_a_json_schema(name: str) -> None:
    """Each exported file is valid in the dialect that it names."""
    jsonschema.Draft202012Validator.check_schema(schemas()[name])


@pytest.mark.parametrize("name", sorted(COMMAND_TYPES))
def test_a_command_example_is_a_command(name: str) -> None:
    """The example of each command type passes its schema, the union's, and the model."""
    _check(PAYLOADS[name], schemas()[name])
    _check(PAYLOADS[name], schemas()["command"])
    assert COMMAND_TYPES[name] is type(COMMANDS.validate_python(PAYLOADS[name]))


@pytest.mark.parametrize("exclude_none", [False, True])
@pytest.mark.parametrize("name", sorted(REAL))
def test_a_real_message_passes_its_schema(name: str, *, exclude_none: bool) -> None:
    """What a model dumps is what its schema describes, and reads back as the same."""
    message: Contract = REAL[name]
    text = message.model_dump_json(exclude_none=exclude_none)
    _check(json.loads(text), schemas()[name])
    assert message == type(message).model_validate_json(text)


@pytest.mark.parametrize(
    ("target_state", "transition"), [(None, None), ("approved", "approve"), ("approved", None), (None, "approve")]
)
def test_the_schema_and_the_model_agree_on_exactly_one_target(target_state: str | None, transition: str | None) -> None:
    """`target_state` and `transition` exclude each other in the JSON Schema as in the model."""
    command = PAYLOADS["request_transition"] | {"target_state": target_state, "transition": transition}
    one = (target_state is None) != (transition is None)
    assert one == _accepts(schemas()["request_transition"], command)
    assert one == _is_command(command)


def _accepts(schema: dict[str, Any], instance: object) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(instance))


def _is_command(command: dict[str, Any]) -> bool:
    try:
        COMMANDS.validate_python(command)
    except ValidationError:
        return False
    return True


def test_the_document_describes_one_message_per_record() -> None:
    """No payload is an array or an empty schema: a record holds one object."""
    components = document()["components"]
    payloads = {
        name: components["schemas"][message["payload"]["$ref"].rpartition("/")[2]]["type"]
        for name, message in components["messages"].items()
    }
    assert dict.fromkeys((*COMMAND_TYPES, "event", "reply", "alert", "dead_letter", "tick"), "object") == payloads


def test_the_document_names_every_topic() -> None:
    """Its channels are the topics, under any prefix."""
    topics = Topics(prefix="shop")
    channels = document(topics)["channels"].values()
    assert set(topics.all()) == {channel["address"] for channel in channels}
    assert set(topics.all()) == {channel["bindings"]["kafka"]["topic"] for channel in channels}


def test_the_document_asks_no_header_of_a_command() -> None:
    """A bare JSON value is a command; an event carries what CloudEvents requires."""
    schemas_of = document()["components"]["schemas"]
    assert schemas_of["OptionalHeaders"]["required"] == []
    assert {"ce_specversion", "ce_id", "ce_type", "ce_source"} <= set(schemas_of["Headers"]["required"])


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    if isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_every_reference_of_the_document_leads_somewhere() -> None:
    """Each `$ref` names a part of the document itself."""
    given = document()
    for reference in _references(given):
        node = given
        for part in reference.removeprefix("#/").split("/"):
            assert part in node, reference
            node = node[part]


def test_every_example_of_the_document_passes_its_own_schema() -> None:
    """Payloads and headers shown are payloads and headers allowed."""
    components = document()["components"]
    shown = 0
    for message in components["messages"].values():
        for example in message["examples"]:
            for part in example.keys() & {"payload", "headers"}:
                _check(example[part], message[part] | {"components": components})
                shown += 1
    assert len(PAYLOADS) + 6 == shown
