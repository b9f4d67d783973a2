"""The published JSON Schema of definitions: what editors complete with, and which mistakes they show."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest

from contracts.export import FOLDER, schemas
from service.definitions.files import shipped
from service.definitions.yaml_tree import read_tree

SCHEMA = schemas()["definition"]
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
Document = dict[str, Any]


def document(name: str) -> Document:
    """Read a shipped definition as JSON."""
    read: Document = read_tree(shipped()[name]).document
    return read


def _first(document: Document) -> Document:
    transition: Document = document["transitions"][0]
    return transition


PLANTED: dict[str, Callable[[Document], object]] = {
    "no name": lambda document: document.pop("name"),
    "no version": lambda document: document.pop("version"),
    "no states": lambda document: document.pop("states"),
    "a name in capitals": lambda document: document.update(name="Shop"),
    "version 0": lambda document: document.update(version=0),
    "an unknown kind": lambda document: document.update(kind="process"),
    "a misspelt clause": lambda document: document.update(statse={}),
    "a clause of a later build": lambda document: document.update(automations=[]),
    "no state at all": lambda document: document.update(states={}),
    "a state with outer blanks": lambda document: document["states"].update({" X": None}),
    "a misspelt clause of a state": lambda document: document["states"].update(X={"terminated": True}),
    "an initial state in words": lambda document: document["states"].update(X={"initial": "yes"}),
    "a transition from nowhere": lambda document: _first(document).pop("from"),
    "a transition from no state": lambda document: _first(document).update({"from": []}),
    "a transition without a name": lambda document: _first(document).pop("name"),
    "an empty guard": lambda document: _first(document).update(guard=""),
    "a guard in no language": lambda document: _first(document).update(guard={}),
    "a guard in two languages": lambda document: _first(document).update(guard={"cel": "true", "python": "True"}),
    "a guard that is null": lambda document: _first(document).update(guard={"cel": None}),
    "a required field that no command has": lambda document: _first(document).update(required=["metadata.a"]),
    "a retry in words": lambda document: _first(document).update(retry="yes"),
    "an event type with a blank": lambda document: document["events"].update(created="ORDER CREATED"),
    "an event of a transition with outer blanks": lambda document: document["events"].update(by_transition={" a": "A"}),
    "no room": lambda document: document.update(limits={"max_open": 0}),
    "less than no retries": lambda document: document.update(limits={"max_retries": -1}),
    "an end by another code": lambda document: document.update(refusals={"terminal_state": "NOT_FOUND"}),
    "metadata that is a list": lambda document: document.update(metadata_default=[]),
}


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_definition_validates(name: str) -> None:
    """What ships is what the schema takes."""
    VALIDATOR.validate(document(name))


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_definition_names_its_schema(name: str) -> None:
    """An editor with the YAML language server completes it where it stands."""
    first = shipped()[name].partition("\n")[0]
    assert "# yaml-language-server: $schema=../../contracts/schemas/definition.json" == first


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_shown(mistake: str) -> None:
    """In each shipped definition."""
    for name in shipped():
        planted = copy.deepcopy(document(name))
        PLANTED[mistake](planted)
        assert not VALIDATOR.is_valid(planted), (name, mistake)


def _properties(node: object, at: str = "") -> Iterator[tuple[str, Document]]:
    if isinstance(node, dict):
        for name, field in node.get("properties", {}).items():
            if "not" not in field:
                yield f"{at}.{name}", field
        for name, inner in node.items():
            yield from _properties(inner, f"{at}/{name}")


def test_every_clause_says_what_it_is_for() -> None:
    """A description is what completion shows; each of a model is one, or a sentence that ends."""
    found = dict(_properties(SCHEMA))
    assert [] == [at for at, field in found.items() if not field.get("description", "").endswith(".")]
    assert len(found) > 25
    assert "TransitionDocument" in json.dumps(SCHEMA)


def test_the_examples_are_allowed() -> None:
    """What an editor offers is not what it then underlines."""
    for at, field in _properties(SCHEMA):
        for example in field.get("examples", ()):
            jsonschema.Draft202012Validator(field | {"$defs": SCHEMA["$defs"]}).validate(example), at


def test_the_published_file_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """`turnstile definitions schema > definition.json` is all that an editor needs."""
    from service.cli.verbs.definitions import schema  # noqa: PLC0415 - importing the verbs takes a moment

    schema()
    assert (FOLDER / "definition.json").read_text(encoding="utf-8") == capsys.readouterr().out
