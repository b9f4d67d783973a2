"""`definitions`: state machines checked, applied, listed, shown and drawn; `definitions_diff` compares them."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Annotated

import orjson
import typer

from domain.definition import Definition
from domain.graph import mermaid
from domain.picture import svg
from service.cli.exits import Exit, RefusedError
from service.cli.main import app, run
from service.cli.output import OUT, say_json, say_table
from service.cli.surroundings import settings
from service.cli.verbs.options import AsJson, is_file, read_text
from service.cli.verbs.reach import asking, changing
from service.cli.verbs.versions import say_applied, say_checked, say_on_the_way, say_source, told, wanted
from service.definitions.files import Parsed, read_definition
from service.store.definitions import StoredDefinition, apply_definition, list_definitions
from service.store.load import load_definition

definitions = typer.Typer(no_args_is_help=True, help="Check, apply, list, show, draw and compare definitions.")
app.add_typer(definitions, name="definitions")

SCHEMA = files("contracts") / "schemas" / "definition.json"

FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="A definition's YAML; - reads standard input.", show_default=False)
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The definition's name.", show_default=False)]
VersionOption = Annotated[int | None, typer.Option("--version", help="A version.", show_default="latest")]


@definitions.command()
def check(file: FileArgument, *, as_json: AsJson = False) -> None:
    """Say what is wrong with a definition, and where. Exits 1 if there is an error."""
    parsed = read_definition(read_text(file))
    say_checked(parsed.findings, file, parsed.definition, as_json=as_json)


@definitions.command()
def apply(
    file: FileArgument,
    *,
    by: Annotated[str | None, typer.Option(help="Who applies it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Store a definition's version, for running workers too. Exits 1 if it has an error or the version is taken."""
    text = read_text(file)
    parsed = usable(text, file)
    found = parsed.definition
    if found is None:
        raise typer.Exit(Exit.REFUSED)
    chosen = settings()

    async def work() -> bool:
        async with changing(chosen) as opened:
            return await apply_definition(opened, parsed, found, text, applied_by=by)

    applied = run(work())
    say_applied(found.name, found.version, parsed.digest, applied=applied, as_json=as_json)


@definitions.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List the versions in the store, with the workflows on each."""
    found = run(_stored(None))
    if as_json:
        for each in found:
            say_json(_json(each))
        return
    say_table(
        ("definition", "version", "workflows", "open", "applied", "by"),
        ((d.name, d.version, d.workflows, d.open, f"{d.applied_at:%Y-%m-%d %H:%M:%S}", d.applied_by) for d in found),
    )


@definitions.command()
def show(name: NameArgument, *, version: VersionOption = None, as_json: AsJson = False) -> None:
    """Print a definition as it was applied. Exits 1 if there is none."""
    found = run(_one(name, version))
    if as_json:
        say_json({**_json(found), "source": found.source})
    else:
        say_source(found.source)


@definitions.command()
def schema(*, as_json: AsJson = False) -> None:
    """Print the JSON Schema of definitions, for editors. With --json it is in one line."""
    text = SCHEMA.read_text(encoding="utf-8")
    if as_json:
        say_json(orjson.loads(text))
    else:
        OUT.file.write(text)


@definitions.command()
def graph(
    subject: Annotated[str, typer.Argument(metavar="NAME|FILE", show_default=False)],
    *,
    version: VersionOption = None,
    as_svg: Annotated[bool, typer.Option("--svg", help="Draw a picture instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw a definition, as a Mermaid state diagram or as SVG. It is in the store, or in a file."""
    found = of_file(subject) if is_file(subject) else run(_of_store(subject, version))
    drawn = svg(found) if as_svg else mermaid(found)
    if drawn is None:
        raise RefusedError(f"{found.name} is too large to be legible as a picture: draw it without --svg")
    if as_json:
        say_json({"name": found.name, "version": found.version, "svg" if as_svg else "mermaid": drawn})
    else:
        OUT.file.write(drawn)


def of_file(file: str) -> Definition:
    """Read a definition from a file; where it has an error, says so and ends the verb."""
    found = usable(read_text(file), file).definition
    if found is None:
        raise typer.Exit(Exit.REFUSED)
    return found


def usable(text: str, name: str) -> Parsed:
    """Read a definition that is to be used, and say its findings on stderr."""
    parsed = read_definition(text)
    say_on_the_way(parsed.findings, name, usable=parsed.definition is not None)
    return parsed


async def _stored(name: str | None) -> Sequence[StoredDefinition]:
    async with asking(settings()) as opened:
        return await list_definitions(opened, name)


async def _one(name: str, version: int | None) -> StoredDefinition:
    return wanted(await _stored(name), "definition", name, version)


async def _of_store(name: str, version: int | None) -> Definition:
    """Load a version as workers do: what an earlier build applied is not checked anew."""
    stored = await _one(name, version)
    async with asking(settings()) as opened:
        found = await load_definition(opened, stored.name, stored.version)
    if found is None:
        raise RefusedError(f"{name} version {stored.version} is gone")
    return found


def _json(each: StoredDefinition) -> dict[str, object]:
    return told(each, "workflows", "open")
