"""Writes `contracts/schemas/` from the models, or says where the committed files differ: `python -m contracts.export`.

`--baseline v0.1.0` freezes a copy that later versions are held against; it is taken once per release.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from contracts.alerts import Alert
from contracts.asyncapi import document
from contracts.calendars import CalendarDocument
from contracts.commands import COMMAND_TYPES, COMMANDS
from contracts.dead_letters import DeadLetter
from contracts.definitions import DefinitionDocument
from contracts.envelope import JsonObject
from contracts.events import Event
from contracts.policies import PolicyAnswer, PolicyRequest
from contracts.rejections import Rejection
from contracts.replies import Reply
from contracts.slas import ConfiguredSlaDocument
from contracts.ticks import Tick

FOLDER = Path(__file__).parent / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Read from others: described as the model validates them. The rest is written: described as it is serialised.
READ: dict[str, TypeAdapter[Any]] = {
    "command": COMMANDS,
    **{name: TypeAdapter(model) for name, model in COMMAND_TYPES.items()},
    "definition": TypeAdapter(DefinitionDocument),
    "calendar": TypeAdapter(CalendarDocument),
    "sla_config": TypeAdapter(ConfiguredSlaDocument),
    "policy_answer": TypeAdapter(PolicyAnswer),
}
WRITTEN: dict[str, TypeAdapter[Any]] = {
    "event": TypeAdapter(Event),
    "reply": TypeAdapter(Reply),
    "alert": TypeAdapter(Alert),
    "rejection": TypeAdapter(Rejection),
    "tick": TypeAdapter(Tick),
    "dead_letter": TypeAdapter(DeadLetter),
    "policy_request": TypeAdapter(PolicyRequest),
}


def schemas() -> dict[str, JsonObject]:
    """Make the JSON Schema of every contract, by its file's stem."""
    read = {name: adapter.json_schema(mode="validation") for name, adapter in READ.items()}
    written = {name: adapter.json_schema(mode="serialization") for name, adapter in WRITTEN.items()}
    return {name: {"$schema": DIALECT} | schema for name, schema in (read | written).items()}


def files() -> dict[str, str]:
    """Make every file of `contracts/schemas/`, by name: the same text from the same models, byte for byte."""
    return {f"{name}.json": render(content) for name, content in (schemas() | {"asyncapi": document()}).items()}


def render(content: JsonObject) -> str:
    """Render with sorted keys, for a diff that shows changes alone."""
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def drift(folder: Path = FOLDER) -> tuple[str, ...]:
    """Name the files of `folder` that differ from what the models give, are missing, or belong to no model."""
    given = files()
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return tuple(sorted(name for name in given.keys() | found.keys() if given.get(name) != found.get(name)))


def write(folder: Path = FOLDER) -> None:
    """Write every file and remove those that belong to no model any more."""
    given = files()
    folder.mkdir(parents=True, exist_ok=True)
    for stale in {path.name for path in folder.glob("*.json")} - given.keys():
        (folder / stale).unlink()
    for name, text in given.items():
        (folder / name).write_text(text, encoding="utf-8")


def freeze(release: str, folder: Path = FOLDER) -> None:
    """Keep the JSON Schemas of now as the ones that `release` promised."""
    kept = folder / "baseline" / release
    kept.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        (kept / f"{name}.json").write_text(render(schema), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 1 where `--check` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m contracts.export", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a file differs from the models")
    parser.add_argument("--baseline", metavar="RELEASE", help="also freeze a copy under schemas/baseline/RELEASE")
    chosen = parser.parse_args(arguments)
    if chosen.check:
        differing = drift()
        sys.stderr.writelines(f"{FOLDER / name} differs: run make schemas\n" for name in differing)
        return 1 if differing else 0
    write()
    if chosen.baseline:
        freeze(chosen.baseline)
    return 0


if __name__ == "__main__":
    sys.exit(main())
