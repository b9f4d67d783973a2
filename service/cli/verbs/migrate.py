"""`definitions migrate`: the open workflows on one version moved to another, foreseen, done and undone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from service.cli.exits import Exit, RefusedError, UnreadableError
from service.cli.main import run as run_verb
from service.cli.output import OUT, progress, say_json, say_table
from service.cli.surroundings import bootstrap_servers, database_url, settings
from service.cli.verbs.definitions import NameArgument, definitions
from service.cli.verbs.options import AsJson, MapOption, read_mapping
from service.cli.verbs.reach import broker_words
from service.event_logs.drive import Pace
from service.event_logs.wire import kafka_wire
from service.migration.bulk import BATCH_MAX, TIMERS, Foreseen, Report, Source, Totals, carry_out, foresee
from service.migration.run import Promising, Run
from service.settings import Settings
from service.store.calendars import every_calendar
from service.store.definitions import list_definitions
from service.store.load import load_definition
from service.store.migrating import STATEMENT_SECONDS_MAX, MovedWorkflows, OpenWorkflows, count_open
from service.store.pool import Connection
from service.store.reads import clocks, reading
from service.store.sla_config import load_configured

Document = dict[str, Any]


@definitions.command()
def migrate(
    name: NameArgument,
    *,
    from_version: Annotated[int, typer.Option("--from", min=1, help="The version that is left.")],
    to_version: Annotated[int, typer.Option("--to", min=1, help="The version that is reached.")],
    mapping: MapOption = None,
    reason: Annotated[str | None, typer.Option(help="Why; needed unless it is a dry run.")] = None,
    by: Annotated[str | None, typer.Option(help="Who asks.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do, and send nothing.")] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take back what a run with the same --from, --to and --map moved.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, max=BATCH_MAX, help="Workflows at once.")] = 500,
    give_up: Annotated[
        float | None, typer.Option(min=1, help="End after so many seconds without a reply.", show_default="never")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Move the open workflows on one version to another. In batches, through the topics; exits 1 if one is refused.

    Started again, also after a kill, it goes on with those that are left and doubles nothing. What changes meanwhile is
    read and sent again. An undo takes back what was not touched since. Exits 4 if replies stay out.
    """
    if reason is None and not dry_run:
        raise UnreadableError("give a --reason: it is kept with each workflow's history")
    if from_version == to_version:
        raise UnreadableError("--from and --to are the same version")
    states = read_mapping(mapping or [])
    chosen = settings()

    async def work() -> tuple[Document, Exit]:
        async with reading(database_url(chosen), seconds_max=STATEMENT_SECONDS_MAX) as connection:
            versions = {
                each.version: await load_definition(connection, name, each.version)
                for each in await list_definitions(connection, name)
            }
            for version in (from_version, to_version):
                if version not in versions:
                    raise RefusedError(
                        f"no definition {name} version {version}; `turnstile definitions list` shows all"
                    )
            known = {version: found for version, found in versions.items() if found is not None}
            run = Run(known, from_version, to_version, states, reason or "a dry run", by, undo)
            if run.problem is not None:
                raise RefusedError(run.problem)
            if dry_run:
                return await _foresee(run, connection, chosen, as_json=as_json)
            return await _carry_out(run, connection, chosen, batch, Pace(silence_s_max=give_up), as_json=as_json)

    document, code = run_verb(work())
    if as_json:
        say_json(document)
    if code is not Exit.DONE:
        raise typer.Exit(code)


async def _foresee(run: Run, connection: Connection, chosen: Settings, *, as_json: bool) -> tuple[Document, Exit]:
    now = chosen.decision_clock.now(*await clocks(connection, 0))
    promising = Promising(await load_configured(connection), await every_calendar(connection), now)
    with _progress(run, None) as report:
        found = await foresee(run, _source(run, connection), promising, report=report)
    refused = _by_code(found)
    document = _asked(run) | {
        "dry_run": True,
        "workflows": found.workflows,
        "would_move": found.moves.total(),
        "refused": refused,
        "timers": {what: found.timers[what] for what in TIMERS},
        "by_state": [
            {"state": state, "to": to, "workflows": count} for (state, to), count in sorted(found.moves.items())
        ]
        + [
            {"state": state, "refused": code.value, "workflows": count}
            for (state, code), count in sorted(found.refused.items())
        ],
        "examples": [{"workflow_id": name, **refusal.written()} for name, refusal in found.examples],
    }
    if not as_json:
        verb = "go back" if run.undo else "move"
        OUT.print(f"{found.workflows} workflows: {found.moves.total()} would {verb}", markup=False)
        if found.timers:
            timers = ", ".join(f"{found.timers[what]} {what}" for what in TIMERS)
            OUT.print(f"{found.timers.total()} timers of their SLAs: {timers}", markup=False)
        say_table(
            ("workflows", "in", "would go to", "refused"),
            ((row["workflows"], row["state"], row.get("to"), row.get("refused")) for row in document["by_state"]),
        )
        _say_examples([(name, refusal.message) for name, refusal in found.examples])
    return document, Exit.REFUSED if refused else Exit.DONE


async def _carry_out(
    run: Run, connection: Connection, chosen: Settings, batch: int, pace: Pace, *, as_json: bool
) -> tuple[Document, Exit]:
    address = bootstrap_servers(chosen)
    total = None if run.undo else await count_open(connection, run.definition, run.from_version)
    with broker_words(address), _progress(run, total) as report:
        async with kafka_wire(address, chosen.topics) as wire:
            totals = await carry_out(run, _source(run, connection), wire, batch=batch, pace=pace, report=report)
    refused = {code.value: count for code, count in sorted(totals.refused.items())}
    document = _asked(run) | {
        "workflows": totals.workflows,
        "moved": totals.accepted,
        "refused": refused,
        "overtaken": totals.overtaken,
        "unanswered": totals.unanswered,
        "conflicts": totals.conflicts,
        "duplicates": totals.duplicates,
        "left": await count_open(connection, run.definition, run.from_version),
        "refusals": [each._asdict() for each in totals.examples],
    }
    if not as_json:
        _say(run, totals, document)
    return document, Exit.TIMEOUT if totals.unanswered else Exit.REFUSED if refused else Exit.DONE


def _source(run: Run, connection: Connection) -> Source:
    if run.undo:
        return MovedWorkflows(connection, run.definition, run.correlation_id)
    return OpenWorkflows(connection, run.definition, run.from_version)


def _say(run: Run, totals: Totals, document: Document) -> None:
    done = "went back" if run.undo else "moved"
    OUT.print(f"{totals.workflows} workflows: {totals.accepted} {done}", markup=False)
    if totals.overtaken:
        OUT.print(f"{totals.overtaken} were moved or closed by somebody else first, and stay as they are", markup=False)
    if totals.conflicts:
        OUT.print(f"{totals.conflicts} commands met a change meanwhile and were sent anew", markup=False)
    if totals.duplicates:
        OUT.print(f"{totals.duplicates} had their outcome from an earlier run", markup=False)
    if document["refused"]:
        say_table(("refused", "code"), ((count, code) for code, count in document["refused"].items()))
        _say_examples([(each.workflow_id, each.message) for each in totals.examples])
    if totals.unanswered:
        OUT.print(f"{totals.unanswered} have no reply yet; run it again, it doubles nothing", markup=False)
    if not run.undo:
        OUT.print(f"{document['left']} open workflows are on version {run.from_version} now", markup=False)


def _say_examples(examples: Sequence[tuple[str, str]]) -> None:
    for name, message in examples:
        OUT.print(f"  {name}: {message}", markup=False)


def _asked(run: Run) -> Document:
    return {
        "definition": run.definition,
        "from_version": run.from_version,
        "to_version": run.to_version,
        "states": dict(run.states),
        "undo": run.undo,
        "correlation_id": run.correlation_id,
    }


def _by_code(found: Foreseen) -> dict[str, int]:
    codes: dict[str, int] = {}
    for (_, code), count in sorted(found.refused.items()):
        codes[code.value] = codes.get(code.value, 0) + count
    return codes


@contextmanager
def _progress(run: Run, total: int | None) -> Iterator[Report]:
    title = f"{run.definition} {run.from_version} to {run.to_version}"
    with progress(title, total) as tell:
        yield lambda settled: tell(settled.settled, settled.waiting)
