"""`import`: a real event log driven through the topics, case by case, each event a command."""

from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from domain.instants import written
from domain.zone import UNTIL
from service.cli.exits import Exit, RefusedError
from service.cli.main import app, run
from service.cli.output import ERR, OUT, complain, progress, say_json, say_table
from service.cli.surroundings import bootstrap_servers, settings
from service.cli.verbs.definitions import usable
from service.cli.verbs.options import AsJson, read_text, read_time
from service.cli.verbs.reach import asking, broker_words, changing
from service.cli.verbs.versions import say_on_the_way
from service.definitions.files import Parsed, read_definition
from service.event_logs.commands import Import, as_commands, check_ids, number_of_commands, workflow_id
from service.event_logs.csv_log import XES_COLUMNS, Columns
from service.event_logs.discover import definition_name, discover, to_yaml
from service.event_logs.drive import Clockwork, DriveResult, Pace, drive
from service.event_logs.event import LoggedEvent
from service.event_logs.read import log_name, read_log
from service.logical_time import logical_time
from service.settings import Settings
from service.simulation import reached
from service.store.definitions import apply_definition, list_definitions
from service.store.pool import Connection
from service.store.recorded import Held, held
from service.store.timers import count_due

REJECTIONS_SHOWN = 10
HOURS_MAX = 100 * 365 * 24
YAML = (".yaml", ".yml")


class Judge(NamedTuple):
    """The definition an import is held against, and whether this import has applied it."""

    name: str
    version: int
    applied: bool


class Times(NamedTuple):
    """How logical time moves: so far at a time between events, and until when in the end."""

    step: timedelta
    until: datetime


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .xes, .xes.gz, .csv or .csv.gz file.", show_default=False)
    ],
    *,
    definition: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE.yaml", help="Hold it against this definition.", show_default="discovered"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Prefix of the workflows' ids.", show_default="the file's name")
    ] = None,
    case: Annotated[str, typer.Option(help="CSV: the column of the case.")] = XES_COLUMNS.case,
    activity: Annotated[str, typer.Option(help="CSV: the column of the activity.")] = XES_COLUMNS.activity,
    timestamp: Annotated[str, typer.Option(help="CSV: the column of the instant.")] = XES_COLUMNS.occurred_at,
    resource: Annotated[str, typer.Option(help="CSV: the column of who did it.")] = XES_COLUMNS.resource,
    delimiter: Annotated[str, typer.Option(help="CSV: what separates columns.")] = XES_COLUMNS.delimiter,
    tick_every: Annotated[
        float, typer.Option(min=0.001, max=HOURS_MAX, help="Logical clock: hours between ticks.")
    ] = 1.0,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Logical clock: what is due by then happens.", show_default="the last event"),
    ] = None,
    give_up: Annotated[
        float | None, typer.Option(min=1, help="End after so many seconds without a reply.", show_default="never")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Drive an event log through the topics. Each case is a workflow, each event a command.

    Without --definition, one is discovered from the log and applied: a case's state is its last activity.
    Where TURNSTILE_CLOCK is logical, as the worker's has to be, it moves the time as well: what SLAs promise comes due
    between the events. Started again, also after a kill, it doubles nothing. Exits 1 if a command is rejected, 4 if
    replies or what is due stay out.
    """
    if len(delimiter) != 1:
        raise typer.BadParameter("a delimiter is one character", param_hint="--delimiter")
    log = name or log_name(file)
    chosen = settings()
    events = list(read_log(file, Columns(case, activity, timestamp, resource, delimiter)))
    check_ids(events, log)
    times = _times(chosen, events, tick_every, until)

    async def work() -> tuple[Judge, DriveResult, int]:
        address = bootstrap_servers(chosen)
        before = await _before(chosen, events, log)
        judge = await _judge(chosen, definition, events, log)
        if definition is None:
            _check_grown(before, judge)
        ERR.print(f"{log}: {len(events)} events, against {judge.name} version {judge.version}", markup=False)
        with broker_words(address):
            target = Import(log, judge.name, judge.version if definition and definition.endswith(YAML) else None)
            return judge, *await _drive(chosen, address, events, target, Pace(silence_s_max=give_up), times)

    judge, result, due = run(work())
    _show(judge, result, cases=len({event.case for event in events}), log=log, as_json=as_json)
    if due:
        complain(f"{due} timers stay due: run the workers with TURNSTILE_CLOCK=logical, and the import again")
    if result.unanswered or due:
        raise typer.Exit(Exit.TIMEOUT)
    if result.rejected:
        raise typer.Exit(Exit.REFUSED)


async def _before(chosen: Settings, events: list[LoggedEvent], log: str) -> list[Held]:
    """Return what an earlier import of the log left; a log that begins where logical time is over has to have one."""
    first = min(event.occurred_at for event in events)
    async with asking(chosen) as connection:
        before = await held(connection, list({workflow_id(log, event.case) for event in events}))
        already = None if chosen.clock == "real" or before else await reached(connection)
    if already is not None and first < already:
        raise RefusedError(
            f"logical time is at {written(already)} and never goes back, and the log begins at {written(first)}: "
            "import it into a service of its own, with another TURNSTILE_DATA_DIR"
        )
    return before


def _check_grown(before: list[Held], judge: Judge) -> None:
    """Refuse to send what a log has grown by to workflows that the version does not judge which allows it."""
    for each in before:
        if each.open and each.definition == judge.name and each.version < judge.version:
            raise RefusedError(
                f"the log has grown beyond version {each.version} of {judge.name}, and {each.open} of its workflows "
                f"are on that: `turnstile definitions migrate {judge.name} --from {each.version} --to {judge.version} "
                "--reason 'the log has grown'`, then import it again"
            )


async def _judge(chosen: Settings, given: str | None, events: list[LoggedEvent], log: str) -> Judge:
    """Return the definition to hold the log against, applied where it comes with the import."""
    async with changing(chosen) as opened:
        if given is None:
            return await _discovered(opened, events, log)
        if given.endswith(YAML):
            text = read_text(given)
            return await _apply(opened, usable(text, given), text, given)
        stored = await list_definitions(opened, given)
    if not stored:
        raise RefusedError(f"no definition {given}; `turnstile definitions list` shows what there is")
    return Judge(given, stored[0].version, applied=False)


async def _discovered(opened: Connection, events: list[LoggedEvent], log: str) -> Judge:
    """Apply what the log implies: as the stored version if that says the same, else as the next one."""
    named = definition_name(log)
    stored = await list_definitions(opened, named)
    version = stored[0].version if stored else 1
    text = to_yaml(discover(events, named, version=version))
    if stored and read_definition(text).digest != stored[0].digest:
        text = to_yaml(discover(events, named, version=version + 1))
    parsed = read_definition(text)
    say_on_the_way(parsed.findings, named, usable=False)  # its notes are about what nobody wrote
    return await _apply(opened, parsed, text, named)


async def _apply(opened: Connection, parsed: Parsed, text: str, name: str) -> Judge:
    found = parsed.definition
    if found is None:
        raise RefusedError(f"{name} is not imported against: mend the errors above")
    applied = await apply_definition(opened, parsed, found, text, applied_by="import")
    return Judge(found.name, found.version, applied)


def _times(chosen: Settings, events: list[LoggedEvent], tick_every: float, until: str | None) -> Times | None:
    """Return how time is to be moved; None where the clock is real."""
    if chosen.clock == "real":
        return None
    last = max(event.occurred_at for event in events)
    end = last if until is None else read_time(until, "--until")
    if max(last, end) >= UNTIL:
        raise RefusedError(
            f"logical time ends before {written(UNTIL)}, as calendars do: {written(max(last, end))} is never reached"
        )
    return Times(timedelta(hours=tick_every), end)


async def _drive(
    chosen: Settings, address: str, events: list[LoggedEvent], target: Import, pace: Pace, times: Times | None
) -> tuple[DriveResult, int]:
    """Drive the commands, and time with them where it is logical; return what is still due at its end besides."""
    total = number_of_commands(events)
    with progress(target.log, total) as tell:

        async def driven(clockwork: Clockwork | None) -> DriveResult:
            return await drive(
                as_commands(events, target),
                bootstrap_servers=address,
                topics=chosen.topics,
                report=lambda driven: tell(driven.replied, driven.waiting),
                total=total,
                pace=pace,
                clockwork=clockwork,
            )

        if times is None:
            return await driven(None), 0
        async with logical_time(address, chosen.topics, name="import") as time:
            result = await driven(Clockwork(time, times.step))
            if result.unanswered:
                return result, 0
            tell(total, f"waiting for what is due by {written(times.until)}")
            async with asking(chosen) as connection:
                due = partial(count_due, connection)
                return result, await time.reach(times.until, due, seconds_max=pace.silence_s_max)


def _show(judge: Judge, result: DriveResult, *, cases: int, log: str, as_json: bool) -> None:
    rejected = {str(code): count for code, count in sorted(result.rejected.items())}
    totals: dict[str, Any] = {
        "log": log,
        "definition": judge.name,
        "definition_version": judge.version,
        "cases": cases,
        "commands": result.sent,
        "accepted": result.accepted,
        "rejected": rejected,
        "duplicates": result.duplicates,
        "unanswered": result.unanswered,
    }
    if as_json:
        say_json(totals | {"rejections": [refused._asdict() for refused in result.rejections]})
        return
    OUT.print(f"{cases} cases, {result.sent} commands: {result.accepted} accepted", markup=False)
    if result.duplicates:
        OUT.print(f"{result.duplicates} of them were decided by an earlier run", markup=False)
    if rejected:
        say_table(("rejected", "code"), ((count, code) for code, count in rejected.items()))
        for refused in result.rejections[:REJECTIONS_SHOWN]:
            asked = f"to {refused.asks}" if refused.asks else "to be created"
            OUT.print(f"  {refused.workflow_id} {asked}: {refused.message}", markup=False)
        OUT.print("`turnstile why WORKFLOW --all` explains each", markup=False)
    if result.unanswered:
        OUT.print(f"{result.unanswered} have no reply yet; run the import again, it doubles nothing", markup=False)
