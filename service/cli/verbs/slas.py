"""`slas`: promises by configuration, for a service area or a type of workflow: checked, applied, listed and shown."""

from collections.abc import Sequence
from typing import Annotated

import typer

from domain.sla_config import SlaConfig, unknown_in
from service.cli.exits import Exit, RefusedError
from service.cli.main import app, run
from service.cli.output import say_json, say_table
from service.cli.surroundings import settings
from service.cli.verbs.options import AsJson, read_text
from service.cli.verbs.reach import asking, changing
from service.cli.verbs.versions import say_applied, say_checked, say_on_the_way, say_source, told, wanted
from service.slas.files import read_sla
from service.store.definitions import list_definitions
from service.store.load import load_definition
from service.store.pool import Connection
from service.store.sla_config import StoredSla, apply_sla, list_slas

slas = typer.Typer(no_args_is_help=True, help="Check, apply, list and show SLAs by configuration.")
app.add_typer(slas, name="slas")

FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="A configured SLA's YAML; - reads standard input.", show_default=False)
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The configuration's name.", show_default=False)]
VersionOption = Annotated[int | None, typer.Option("--version", help="A version.", show_default="latest")]


@slas.command()
def check(file: FileArgument, *, as_json: AsJson = False) -> None:
    """Say what is wrong with a configured SLA, and where. Exits 1 if there is an error."""
    parsed = read_sla(read_text(file))
    say_checked(parsed.findings, file, parsed.config, as_json=as_json)


@slas.command()
def apply(
    file: FileArgument,
    *,
    by: Annotated[str | None, typer.Option(help="Who applies it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Store a configured SLA's version, for running workers too.

    What starts from now on is under it. Its calendar has to be applied before; its definition, if it is there already,
    has to have the states it names. Exits 1 if it has an error or the version is taken.
    """
    text = read_text(file)
    parsed = read_sla(text)
    say_on_the_way(parsed.findings, file, usable=parsed.config is not None)
    found = parsed.config
    if found is None:
        raise typer.Exit(Exit.REFUSED)

    async def work() -> bool:
        async with changing(settings()) as opened:
            await _refuse_unknown(opened, found)
            return await apply_sla(opened, parsed, found, text, applied_by=by)

    applied = run(work())
    say_applied(found.name, found.version, parsed.digest, applied=applied, as_json=as_json)


@slas.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List the versions in the store."""
    found = run(_stored(None))
    if as_json:
        for each in found:
            say_json(_json(each))
        return
    configs = [(each, each.compiled()) for each in found]
    say_table(
        ("sla", "version", "promises", "target", "to", "applied", "by"),
        (
            (
                each.name,
                each.version,
                "nothing more" if config.retired else config.terms.name,
                config.terms.target,
                _to(config),
                f"{each.applied_at:%Y-%m-%d %H:%M:%S}",
                each.applied_by,
            )
            for each, config in configs
        ),
    )


@slas.command()
def show(name: NameArgument, *, version: VersionOption = None, as_json: AsJson = False) -> None:
    """Print a configured SLA as it was applied. Exits 1 if there is none."""
    found = wanted(run(_stored(name)), "sla", name, version)
    if as_json:
        say_json({**_json(found), "source": found.source})
    else:
        say_source(found.source)


async def _refuse_unknown(opened: Connection, config: SlaConfig) -> None:
    """Raise RefusedError where its definition is there and has not what it names."""
    if config.definition is not None:
        versions = await list_definitions(opened, config.definition)
        definition = await load_definition(opened, config.definition, versions[0].version) if versions else None
        unknown = [] if definition is None else list(unknown_in(config, definition))
        if definition is not None and unknown:
            raise RefusedError(f"{definition.name} version {definition.version} has no {', no '.join(unknown)}")


def _to(config: SlaConfig) -> str:
    whose = config.definition or f"every {config.kind}"
    areas = f" of {', '.join(sorted(config.terms.service_areas))}" if config.terms.service_areas else ""
    types = f" of type {', '.join(sorted(config.terms.types))}" if config.terms.types else ""
    return f"{whose}{areas}{types}"


async def _stored(name: str | None) -> Sequence[StoredSla]:
    async with asking(settings()) as opened:
        return await list_slas(opened, name)


def _json(each: StoredSla) -> dict[str, object]:
    config = each.compiled()
    about = {"sla": config.terms.name, "definition": config.definition, "kind": config.kind, "retired": config.retired}
    return told(each) | about
