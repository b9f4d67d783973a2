"""Definitions and commands for tests: small documents, compiled, and records that carry JSON."""

from typing import Any
from uuid import NAMESPACE_OID, uuid5

import orjson

from domain.definition import Definition, compile_document
from tests.fakes.ports import CommandRecord

DOOR = "shop.door"


def compiled(document: dict[str, Any]) -> Definition:
    """Compile a document that has no errors."""
    definition = compile_document(document)
    assert isinstance(definition, Definition), definition
    return definition


def door(*, max_open: int | None = None, version: int = 1, name: str = DOOR) -> dict[str, Any]:
    """Return a door: shut, ajar, open; it can be bricked up, fails, and recovers; two ways lead from shut to ajar."""
    return {
        "name": name,
        "version": version,
        "states": {"shut": {"initial": True}, "ajar": {}, "open": {}, "jammed": {}, "bricked": {"terminal": True}},
        "transitions": [
            {"name": "open", "from": ["shut", "ajar"], "to": "open"},
            {"name": "shut", "from": "open", "to": "shut"},
            {"name": "push", "from": "shut", "to": "ajar"},
            {"name": "pull", "from": "shut", "to": "ajar", "guard": "command.context.strong"},
            {"name": "brick", "from": ["shut", "open"], "to": "bricked"},
            {"name": "jam", "from": "open", "to": "jammed", "guard": "true"},
            {"name": "recover", "from": "jammed", "to": "shut"},
            {"name": "knock", "from": "jammed", "to": "open", "guard": "false"},
            {"name": "phone", "from": "jammed", "to": "bricked", "guard": "workflow.nobody_knows"},
        ],
        "limits": {} if max_open is None else {"max_open": max_open},
        "metadata_default": {"colour": "red"},
    }


def identified(name: object) -> str:
    """Return a command id that is the same for the same name."""
    return str(uuid5(NAMESPACE_OID, str(name)))


def command(command_type: str, workflow_id: str, command_id: object, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a command's body; `command_id` may be any name."""
    return {
        "command_type": command_type,
        "workflow_id": workflow_id,
        "command_id": identified(command_id),
        **fields,
    }


def create(workflow_id: str, command_id: object = None, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a creation, of a door unless another definition is named."""
    named = command_id or f"create {workflow_id}"
    return command("create_workflow", workflow_id, named, **({"definition": DOOR} | fields))


def move(workflow_id: str, transition: str, command_id: object = None, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a request for a named transition."""
    named = command_id or f"{transition} {workflow_id}"
    return command("request_transition", workflow_id, named, transition=transition, **fields)


def sent(body: Any, **fields: Any) -> CommandRecord:  # noqa: ANN401 - any JSON value
    """Return a record that carries a body."""
    return CommandRecord(orjson.dumps(body), **fields)
