"""`db`: the schema brought to this build's version, or looked at."""

import typer

from service.cli.main import app, run
from service.cli.output import OUT, say_json
from service.cli.surroundings import database_url, settings
from service.cli.surroundings import migrate as bring_up
from service.cli.verbs.options import AsJson
from service.store import schema
from service.store.schema import SchemaState

db = typer.Typer(no_args_is_help=True, help="Migrate and check the database's schema.")
app.add_typer(db, name="db")


@db.command()
def migrate(*, as_json: AsJson = False) -> None:
    """Bring the schema, and what is shipped, to this build's version.

    Shipped are definitions and SLAs. Safe at any time, also twice at once.
    """
    _show(run(bring_up(database_url(settings()))), as_json=as_json)


@db.command()
def check(*, as_json: AsJson = False) -> None:
    """Compare the schema with this build's. Nothing is changed; exits 3 if they differ."""
    url = database_url(settings())

    async def work() -> SchemaState:
        state = await schema.state(url)
        if as_json:
            _show(state, as_json=True)
        await schema.check(url)
        return state

    state = run(work())
    if not as_json:
        _show(state, as_json=False)


def _show(state: SchemaState, *, as_json: bool) -> None:
    if as_json:
        say_json({"found": state.found, "known": state.known, "floor": state.floor})
    else:
        same = state.found == state.known
        known = (
            "as this build knows it" if same else f"of a later build; this one knows {state.known} and may work on it"
        )
        OUT.print(f"schema {state.found}, {known}", markup=False)
