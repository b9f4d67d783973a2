"""`definitions backtest --calendar|--target`: how many recorded SLAs another calendar or target would have broken."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from domain.sla_backtest import Example, Judged, Terms
from domain.target import working_time
from service.cli.exits import Exit, RefusedError, UnreadableError
from service.cli.main import run
from service.cli.output import OUT, progress, say_json, say_table
from service.cli.surroundings import database_url, settings
from service.cli.verbs.wording import length_of
from service.sla_backtest import SlaBacktest, SlaComparison, UnusableTermsError
from service.store.calendars import newest_calendar
from service.store.definitions import list_definitions
from service.store.migrating import STATEMENT_SECONDS_MAX
from service.store.pool import Connection
from service.store.reads import reading

CalendarOption = Annotated[
    str | None,
    typer.Option(metavar="NAME[@VERSION]", help="Judge the SLAs of --of again, each under this calendar."),
]
TargetOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SLA[.PRIORITY]=TIME", help="Judge the SLAs of --of again with another target, as reply=4h; repeatable."
    ),
]

_TARGET = re.compile(r"([a-z][a-z0-9_-]*)(?:\.(.+?))?=(.+)", re.DOTALL)


def backtest_slas(
    of: str, calendar: str | None, targets: Sequence[str], *, since: datetime | None, limit: int, as_json: bool
) -> None:
    """Judge the recorded SLAs of a definition's workflows again and say what differs; raises Exit if something does."""
    terms = _targets(targets)
    found = run(_judge(of, calendar, terms, since, limit))
    if as_json:
        say_json(_document(of, found))
    else:
        _say(found)
    if any(each.differing for each in found.figures.values()):
        raise typer.Exit(Exit.REFUSED)


def _targets(texts: Sequence[str]) -> Terms:
    targets: dict[str, str] = {}
    by_priority: dict[tuple[str, str], str] = {}
    for text in texts:
        read = _TARGET.fullmatch(text)
        if read is None:
            raise UnreadableError(f"--target {text} is none: write reply=4h, or reply.high=1h for a priority")
        name, priority, time = read.groups()
        meant = working_time(time, timedelta(hours=8))
        if isinstance(meant, str) or not meant:
            raise UnreadableError(f"--target {text}: {meant or 'a target of no time is breached as it starts'}")
        if priority is None:
            targets[name] = time
        else:
            by_priority[name, priority] = time
    return Terms(targets, by_priority)


async def _judge(of: str, calendar: str | None, terms: Terms, since: datetime | None, limit: int) -> SlaComparison:
    chosen = settings()
    async with reading(database_url(chosen), seconds_max=STATEMENT_SECONDS_MAX) as connection:
        if not await list_definitions(connection, of):
            raise RefusedError(f"no definition {of} is in the store, so nothing was promised by it")
        if calendar is not None:
            terms = Terms(terms.targets, terms.by_priority, await _version(connection, calendar))
        judging = SlaBacktest(connection, chosen.decision_clock, of, terms)
        try:
            with progress(of) as tell:
                found = await judging.run(since=since, limit=limit, report=lambda done, total: tell(done, total=total))
        except UnusableTermsError as error:
            raise RefusedError(str(error)) from error
    promised = judging.promised
    unknown = {*terms.targets, *(name for name, _ in terms.by_priority)} - promised
    if unknown and judging.definitions:
        listed = ", ".join(sorted(promised)) or "none"
        raise RefusedError(f"{of} promises no SLA {', '.join(sorted(unknown))} to these workflows: it has {listed}")
    return found


async def _version(connection: Connection, calendar: str) -> tuple[str, int]:
    name, _, number = calendar.partition("@")
    if number and not number.isdecimal():
        raise UnreadableError(f"--calendar {calendar} is none: write office, or office@2 for a version")
    version = int(number) if number else await newest_calendar(connection, name)
    if version is None:
        raise RefusedError(f"no calendar {name}; `turnstile calendars list` shows what there is")
    return name, version


def _document(of: str, found: SlaComparison) -> dict[str, Any]:
    return {
        "definition": of,
        "workflows": found.workflows,
        "slas": {
            name: {
                "runs": each.runs,
                "breached": {"recorded": each.breached_recorded, "candidate": each.breached_candidate},
                "over_seconds": {"recorded": each.over_seconds_recorded, "candidate": each.over_seconds_candidate},
                "differing": each.differing,
                "examples": [_example(example) for example in each.examples],
            }
            for name, each in sorted(found.figures.items())
        },
    }


def _example(example: Example) -> dict[str, Any]:
    sides = {"recorded": example.recorded._asdict(), "candidate": example.candidate._asdict()}
    return {"workflow_id": example.workflow_id, "run": example.run, **sides}


def _say(found: SlaComparison) -> None:
    figures = sorted(found.figures.items())
    OUT.print(f"{found.workflows} workflows with SLAs", markup=False)
    if figures:
        columns = ("sla", "runs", "breached as recorded", "under the candidate", "by", "by then", "come out otherwise")
        say_table(
            columns,
            (
                (
                    name,
                    each.runs,
                    each.breached_recorded,
                    each.breached_candidate,
                    length_of(each.over_seconds_recorded),
                    length_of(each.over_seconds_candidate),
                    each.differing,
                )
                for name, each in figures
            ),
        )
    examples = [(name, each) for name, figure in figures for each in figure.examples]
    if examples:
        OUT.print()
        say_table(
            ("e.g.", "sla", "recorded", "candidate"),
            ((each.workflow_id, name, _judged(each.recorded), _judged(each.candidate)) for name, each in examples),
        )


def _judged(found: Judged) -> str:
    return f"{found.said} by {length_of(found.over_seconds)}" if found.said == "breached" else found.said
