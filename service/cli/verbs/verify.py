"""`verify`: the store held against its own history."""

import typer

from service.cli.exits import Exit
from service.cli.main import app, run
from service.cli.output import OUT, complain, progress, say_json
from service.cli.surroundings import database_url, settings
from service.cli.verbs.options import AsJson
from service.store import schema
from service.store.verify import Verified
from service.store.verify import verify as verify_store


@app.command()
def verify(*, as_json: AsJson = False) -> None:
    """Fold every workflow's history, and compare it with its row. Exits 1 and names the first rows that differ.

    Also: versions, sequences and the journal's rows without a gap, event ids, states, the id registry, the counters.
    It reads one moment; the service may go on meanwhile.
    """
    url = database_url(settings())

    async def work() -> Verified:
        await schema.check(url)
        with progress("folding") as tell:
            return await verify_store(url, lambda folded: tell(folded.workflows, total=folded.total))

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
