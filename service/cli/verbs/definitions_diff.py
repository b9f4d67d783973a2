"""`definitions diff`: what a version, or a file that is not applied yet, changes, and the open work it concerns."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from domain.changes import EFFECTS, Touched, compare, touched
from domain.definition import Definition
from service.cli.exits import Exit, RefusedError
from service.cli.main import run
from service.cli.output import OUT, say_json
from service.cli.surroundings import settings
from service.cli.verbs.definitions import definitions, of_file
from service.cli.verbs.options import INT_MAX, AsJson, is_file
from service.cli.verbs.reach import asking
from service.store.definitions import list_definitions, open_by_state
from service.store.load import load_definition
from service.store.pool import Connection

Document = dict[str, Any]


@definitions.command("diff")
def diff(
    subject: Annotated[str, typer.Argument(metavar="NAME|FILE", show_default=False)],
    *,
    earlier: Annotated[
        int | None,
        typer.Option(
            "--from", min=1, help="The old version.", show_default="of NAME the one before, for FILE the latest"
        ),
    ] = None,
    later: Annotated[
        int | None, typer.Option("--to", min=1, max=INT_MAX, help="The new version of NAME.", show_default="latest")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a version, or a file not yet applied, changes. Exits 1 if open work could not go on in it."""
    candidate = _candidate(subject, later) if is_file(subject) else None
    document = run(_compared(subject, candidate, earlier, later))
    if as_json:
        say_json(document)
    else:
        for line in _lines(document):
            OUT.print(line, markup=False)
    if document["breaking"]:
        raise typer.Exit(Exit.REFUSED)


def _candidate(file: str, later: int | None) -> Definition:
    if later is not None:
        raise typer.BadParameter(f"{file} is the new side itself: leave it out", param_hint="--to")
    return of_file(file)


async def _compared(subject: str, candidate: Definition | None, earlier: int | None, later: int | None) -> Document:
    name = subject if candidate is None else candidate.name
    async with asking(settings()) as connection:
        versions = [each.version for each in await list_definitions(connection, name)]
        if not versions:
            raise RefusedError(f"no definition {name}; `turnstile definitions list` shows what there is")
        new = candidate or await _version(connection, name, later or versions[0])
        before = versions if candidate is not None else [each for each in versions if each < new.version]
        if earlier is None and not before:
            raise RefusedError(f"{name} version {new.version} is the first: there is nothing to compare it with")
        old = await _version(connection, name, before[0] if earlier is None else earlier)
        counted = await open_by_state(connection, name, old.version)
    return _document(old, new, sum(counted.values()), touched(compare(old, new), counted))


async def _version(connection: Connection, name: str, version: int) -> Definition:
    found = await load_definition(connection, name, version)
    if found is None:
        raise RefusedError(f"no definition {name} version {version}; `turnstile definitions list` shows what there is")
    return found


def _document(old: Definition, new: Definition, count: int, changes: Sequence[Touched]) -> Document:
    return {
        "name": old.name,
        "from": old.version,
        "to": new.version,
        "open": count,
        "breaking": any(each.breaking for each in changes),
        "changes": [
            {
                "effect": each.change.effect,
                "code": each.change.code,
                "sentence": each.change.sentence,
                "states": sorted(each.change.touches),
                "open": each.open,
                "breaking": each.breaking,
            }
            for each in changes
        ],
    }


def _lines(document: Document) -> Iterator[str]:
    count, version = document["open"], document["from"]
    yield f"{document['name']} version {version} to {document['to']}"
    if not document["changes"]:
        yield "nothing changes"
        return
    if count:
        yield f"{_workflows(count)} open on version {version}, and on it until migrated"
    for effect in EFFECTS:
        changes = [each for each in document["changes"] if each["effect"] == effect]
        if changes:
            yield ""
            yield f"It {effect}"
        for each in changes:
            mark = "BREAKING: " if each["breaking"] else ""
            concerned = f" [{_workflows(each['open'])} open]" if each["open"] else ""
            yield f"  {mark}{each['sentence']}{concerned}"


def _workflows(count: int) -> str:
    return "1 workflow" if count == 1 else f"{count} workflows"
