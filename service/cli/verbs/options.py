"""What several verbs are given in the same words, and how it is read."""

import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from domain.moments import Moment
from handlers.decode import problem_of
from service.cli.exits import UnreadableError

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line instead of text.")]
WorkflowArgument = Annotated[str, typer.Argument(metavar="WORKFLOW", help="The workflow's id.", show_default=False)]
PartitionsOption = Annotated[
    int | None, typer.Option("--partitions", min=1, max=1000, help="Partitions of each topic.", show_default=False)
]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="OLD=NEW", help="A state, and the one that takes its place; repeatable."),
]

STDIN = "-"
# What the database's columns hold: a number beyond is a wrong word, nothing to ask anybody for.
INT_MAX = 2**31 - 1
BIGINT_MAX = 2**63 - 1
MOMENT = "VERSION|TIME"

_VERSION = re.compile(r"[0-9]{1,18}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def read_text(name: str) -> str:
    """Read a file, or standard input for `-`; raises UnreadableError."""
    try:
        raw = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise UnreadableError(f"{name} cannot be read: {error.strerror or error}; check the path") from error
    except UnicodeDecodeError as error:
        raise UnreadableError(f"{name} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def is_file(subject: str) -> bool:
    """Say whether a word names a file, and not something that is stored; one too long to be either is no file."""
    try:
        return subject == STDIN or subject.endswith((".yaml", ".yml")) or Path(subject).is_file()
    except OSError:
        return False


def read_moment(text: str, option: str) -> Moment:
    """Read a version, or an instant as RFC 3339 writes it; raises BadParameter."""
    if _VERSION.fullmatch(text):
        return int(text)
    found = _time(text)
    if found is not None:
        return found
    problem = f"{text} is neither a version nor a time with its zone, such as 2026-11-21T09:30:00Z"
    raise typer.BadParameter(problem, param_hint=option)


def read_time(text: str, option: str) -> datetime:
    """Read an instant as RFC 3339 writes it; raises BadParameter."""
    found = _time(text)
    if found is None:
        problem = f"{text} is no time with its zone, such as 2026-11-21T09:30:00Z"
        raise typer.BadParameter(problem, param_hint=option)
    return found


def _time(text: str) -> datetime | None:
    try:
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    return None


def read_mapping(given: Sequence[str]) -> dict[str, str]:
    """Read which state takes the place of which; raises UnreadableError."""
    states: dict[str, str] = {}
    for each in given:
        old, separator, new = each.partition("=")
        if not (separator and old and new):
            raise UnreadableError(f"--map {each} is no OLD=NEW")
        if states.setdefault(old, new) != new:
            raise UnreadableError(f"--map names {old} twice")
    return states


def json_object(text: str, name: str) -> dict[str, Any]:
    """Read a JSON object that the service would take; `name` says where it came from. Raises UnreadableError."""
    try:
        value = orjson.loads(text)
        problem = problem_of(value) or problem_of(json.loads(text))  # orjson reads a long integer as a float
    except ValueError as error:
        raise UnreadableError(f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UnreadableError(f"{name} is JSON, but no object: write {{...}}")
    if problem is not None:
        raise UnreadableError(f"{name}: {problem}")
    return value
