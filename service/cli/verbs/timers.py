"""`timers`: what time alone will do next, and the proof that every promise has its timer."""

from typing import Annotated

import typer

from domain.instants import written
from service.cli.exits import Exit
from service.cli.main import app, run
from service.cli.output import ERR, OUT, complain, say_json, say_table
from service.cli.surroundings import database_url, settings
from service.cli.verbs.options import INT_MAX, AsJson, read_time
from service.cli.verbs.reach import asking
from service.cli.verbs.wording import named
from service.store import schema
from service.store.reconcile import Reconciled
from service.store.reconcile import reconcile as reconcile_store
from service.store.timers import NextTimer, TimerFilter, next_timers

timers = typer.Typer(no_args_is_help=True, help="Look at the timers of SLAs, and check that none is wrong.")
app.add_typer(timers, name="timers")


@timers.command("list")
def list_(
    *,
    before: Annotated[
        str | None, typer.Option("--before", metavar="TIME", help="Only those due before it.", show_default=False)
    ] = None,
    workflow: Annotated[str | None, typer.Option(help="Only this workflow's.", show_default=False)] = None,
    partition: Annotated[
        int | None, typer.Option(min=0, max=INT_MAX, help="Only this partition's.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many to show.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the next timers, the earliest first. Each has its SLA's status.

    One whose time has passed waits for the next tick, its grace, and the commands before that tick.
    """
    wanted = TimerFilter(None if before is None else read_time(before, "--before"), workflow, partition, limit)

    async def work() -> list[NextTimer]:
        async with asking(settings()) as connection:
            return await next_timers(connection, wanted)

    found = run(work())
    if as_json:
        for timer in found:
            say_json(named(timer._asdict()) | {"due_at": written(timer.due_at)})
    elif not found:
        ERR.print("no timers")
    else:
        columns = ("due", "workflow", "SLA", "status", "definition", "state", "partition")
        say_table(
            columns,
            (
                (
                    f"{timer.due_at:%Y-%m-%d %H:%M:%S}",
                    timer.workflow_id,
                    timer.sla,
                    timer.status,
                    timer.definition,
                    timer.state,
                    timer.part,
                )
                for timer in found
            ),
        )


@timers.command()
def reconcile(*, as_json: AsJson = False) -> None:
    """Check that each open SLA's next step has one timer, on time.

    Also that no other timer is there, and that table `sla`, which reports read, says what the workflows say. It reads
    one moment; the service may go on meanwhile. Exits 1 and names the first that differ. `turnstile verify` checks the
    same, and all else.
    """
    url = database_url(settings())

    async def work() -> Reconciled:
        await schema.check(url)
        return await reconcile_store(url)

    result = run(work())
    if as_json:
        first = [problem._asdict() for problem in result.first]
        counts = {"open": result.open, "due": result.due, "timers": result.timers, "rows": result.rows}
        say_json({**counts, "sound": result.sound, "problems": result.found, "first": first})
    else:
        for problem in result.first:
            complain(f"{problem.kind}: {problem.what}")
        looked_at = (
            f"{result.open} open SLAs, {result.due} with a next step, {result.timers} timers, {result.rows} rows"
        )
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(result.found.items()))
        OUT.print(f"{looked_at}: {f'problems: {found}' if found else 'sound'}", markup=False)
    if not result.sound:
        raise typer.Exit(Exit.REFUSED)
