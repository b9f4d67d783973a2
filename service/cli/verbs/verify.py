"""`verify`: the store held against its own history."""

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from service.cli.exits import Exit
from service.cli.main import app, run
from service.cli.output import ERR, OUT, complain, say_json
from service.cli.surroundings import database_url, settings
from service.cli.verbs.options import AsJson
from service.store import schema
from service.store.verify import Progress as Folded
from service.store.verify import Verified
from service.store.verify import verify as verify_store


@app.command()
def verify(*, as_json: AsJson = False) -> None:
    """Fold every workflow's history and compare it with its row; exits 1 and names the first bad rows if they differ.

    Also: versions, sequences and the journal's rows without a gap, event ids, states, the id registry, the counters.
    It reads one moment; the service may go on meanwhile.
    """
    url = database_url(settings())

    async def work() -> Verified:
        await schema.check(url)
        columns = (TextColumn("folding"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=ERR, transient=True, disable=not ERR.is_terminal) as bar:
            task = bar.add_task("folding", total=None)

            def report(folded: Folded) -> None:
                bar.update(task, completed=folded.workflows, total=folded.total)

            return await verify_store(url, report)

    result = run(work())
    if as_json:
        first = [{"kind": problem.kind, "what": problem.what} for problem in result.first]
        counts = {"workflows": result.workflows, "events": result.events}
        say_json({**counts, "sound": result.sound, "problems": result.found, "first": first})
    else:
        for problem in result.first:
            complain(f"{problem.kind}: {problem.what}")
        looked_at = f"{result.workflows} workflows, {result.events} events"
        found = ", ".join(f"{count} {kind}" for kind, count in sorted(result.found.items()))
        OUT.print(f"{looked_at}: {f'problems: {found}' if found else 'sound'}", markup=False)
    if not result.sound:
        raise typer.Exit(Exit.REFUSED)
