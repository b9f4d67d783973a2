"""What several verbs are given in the same words, and how it is read."""

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from service.cli.exits import UnreadableError

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line instead of text.")]
WorkflowArgument = Annotated[str, typer.Argument(metavar="WORKFLOW", help="The workflow's id.", show_default=False)]
PartitionsOption = Annotated[
    int | None, typer.Option("--partitions", min=1, max=1000, help="Partitions of each topic.", show_default=False)
]

STDIN = "-"


def read_text(name: str) -> str:
    """Read a file, or standard input for `-`; raises UnreadableError."""
    try:
        raw = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise UnreadableError(f"{name} cannot be read: {error.strerror or error}; check the path") from error
    except UnicodeDecodeError as error:
        raise UnreadableError(f"{name} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def json_object(text: str, name: str) -> dict[str, Any]:
    """Read a JSON object; `name` says where it came from. Raises UnreadableError."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UnreadableError(f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UnreadableError(f"{name} is JSON, but no object: write {{...}}")
    return value
