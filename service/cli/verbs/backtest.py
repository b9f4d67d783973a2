"""`definitions backtest`: what a candidate definition would have said to commands that were decided already."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from domain.backtest import Comparison, in_order
from domain.definition import Definition
from handlers.backtest import Candidate
from service.adapters import judging
from service.backtest import backtest as judge_recorded
from service.broker.positions import reading as reading_topics
from service.cli.exits import Exit, RefusedError, UnreadableError
from service.cli.main import run
from service.cli.output import OUT, progress, say_json, say_table
from service.cli.surroundings import bootstrap_servers, database_url, settings
from service.cli.verbs.backtest_slas import CalendarOption, TargetOption, backtest_slas
from service.cli.verbs.definitions import definitions, usable
from service.cli.verbs.options import AsJson, MapOption, read_mapping, read_text
from service.settings import Settings
from service.store.definitions import list_definitions
from service.store.load import load_definition
from service.store.migrating import STATEMENT_SECONDS_MAX
from service.store.reads import reading

WORKFLOWS = 1_000
WORKFLOWS_MAX = 100_000
SHOWN_MAX = 20


@definitions.command()
def backtest(
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="A definition's YAML; - reads standard input.", show_default=False),
    ] = None,
    *,
    of: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Whose workflows.", show_default="the definition's own name"),
    ] = None,
    mapping: MapOption = None,
    calendar: CalendarOption = None,
    target: TargetOption = None,
    workflows: Annotated[
        int, typer.Option(min=1, max=WORKFLOWS_MAX, help="At most so many workflows, the newest.")
    ] = WORKFLOWS,
    since: Annotated[
        datetime | None, typer.Option(help="Only workflows created since then, UTC.", show_default="any time")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge recorded commands again under a candidate definition. Nothing is changed; exits 1 if outcomes differ.

    Each workflow's commands are decided from its creation on, at their recorded times, as the candidate and its guards
    say; a command's expected version is held against the workflow as the candidate would have it. With --map recorded
    states, and those that commands name, count as the candidate's that take their places. With --calendar or --target
    it is the SLAs of the workflows of --of that are judged again, by what was recorded of them.
    """
    since = None if since is None else since.replace(tzinfo=since.tzinfo or UTC)
    if calendar is not None or target:
        if of is None or file is not None or mapping:
            raise UnreadableError(
                "--calendar and --target judge recorded SLAs: name their definition by --of, no file, no --map"
            )
        backtest_slas(of, calendar, target or [], since=since, limit=workflows, as_json=as_json)
        return
    if file is None:
        raise UnreadableError("give a definition's file, or --of with --calendar or --target to judge its SLAs")
    parsed = usable(read_text(file), file)
    if parsed.definition is None:
        raise typer.Exit(Exit.REFUSED)
    name, states = of or parsed.definition.name, read_mapping(mapping or [])
    comparison = run(_compare(settings(), parsed.definition, states, name, workflows, since))
    if as_json:
        say_json({"definition": name, "states": states, **_document(parsed.definition, comparison)})
    else:
        _say(comparison)
    if comparison.differences or comparison.ends:
        raise typer.Exit(Exit.REFUSED)


async def _compare(
    chosen: Settings,
    definition: Definition,
    states: Mapping[str, str],
    name: str,
    workflows: int,
    since: datetime | None,
) -> Comparison:
    address = bootstrap_servers(chosen)
    async with (
        reading(database_url(chosen), seconds_max=STATEMENT_SECONDS_MAX) as connection,
        reading_topics(address, chosen.topics, chosen.group_id, seconds_max=None) as reader,
        judging(chosen) as engines,
    ):
        versions = await list_definitions(connection, name)
        if not versions:
            raise RefusedError(f"no definition {name} is in the store, so no commands were decided by it")
        if states:
            recorded = [await load_definition(connection, name, each.version) for each in versions]
            _refuse_unknown(states, [each for each in recorded if each is not None], definition)
        with progress(name) as tell:
            return await judge_recorded(
                connection,
                reader,
                Candidate(definition, engines, chosen.limits, states),
                name,
                since=since,
                limit=workflows,
                report=lambda done, total: tell(done, total=total),
            )


def _refuse_unknown(states: Mapping[str, str], recorded: Sequence[Definition], candidate: Definition) -> None:
    """Raise RefusedError where a mapping names a state that none of the versions, or not the candidate, has."""
    known = {state for each in recorded for state in each.states}
    for old, new in states.items():
        if old not in known:
            raise RefusedError(f"no applied version of {recorded[0].name} has a state {old}: correct the mapping")
        if new not in candidate.states:
            raise RefusedError(f"the candidate has no state {new}: correct the mapping")


def _document(definition: Definition, found: Comparison) -> dict[str, Any]:
    return {
        "candidate": {"name": definition.name, "version": definition.version},
        "workflows": found.workflows,
        "commands": found.commands,
        "judged": found.judged,
        "same": found.same,
        "repeats": found.repeats,
        "believed": dict(sorted(found.believed.items())),
        "not_judged": dict(sorted(found.not_judged.items())),
        "differences": [
            {**difference._asdict(), "count": counted.count, "workflows": counted.workflows}
            for difference, counted in in_order(found.differences)
        ],
        "same_ends": found.same_ends,
        "ends_not_judged": found.ends_not_judged,
        "ends": [
            {**ends._asdict(), "count": counted.count, "workflows": counted.workflows}
            for ends, counted in in_order(found.ends)
        ],
    }


def _say(found: Comparison) -> None:
    OUT.print(
        f"{found.workflows} workflows, {found.commands} commands: {found.judged} judged again, "
        f"{found.differing} come out otherwise",
        markup=False,
    )
    if found.repeats:
        OUT.print(f"{found.repeats} are repeats of others", markup=False)
    for reason, count in sorted(found.not_judged.items()):
        OUT.print(f"{count} not judged: {reason}", markup=False)
    for code, count in sorted(found.believed.items()):
        OUT.print(f"{count} refused with {code}, believed as recorded", markup=False)
    if found.differences:
        rows = [(c.count, *d, ", ".join(c.workflows)) for d, c in in_order(found.differences)]
        say_table(("commands", "asked for", "recorded", "candidate", "e.g."), rows[:SHOWN_MAX])
    if found.ends:
        ends = [(c.count, *e, ", ".join(c.workflows)) for e, c in in_order(found.ends)]
        say_table(("workflows", "ended in", "would end in", "e.g."), ends[:SHOWN_MAX])
