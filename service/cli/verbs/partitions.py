"""`partitions`: who owns each, how far it is, and why it is halted."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from service.cli.exits import RefusedError
from service.cli.main import app, run
from service.cli.output import say_fields, say_json, say_table
from service.cli.surroundings import settings
from service.cli.verbs.options import AsJson
from service.cli.verbs.reach import asking
from service.store.partitions import PartitionState, states

partitions = typer.Typer(no_args_is_help=True, help="Look at the partitions.")
app.add_typer(partitions, name="partitions")


@partitions.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List the partitions; `waiting` counts rows that the store does not know to be published yet."""
    found = run(_states())
    if as_json:
        for state in found:
            say_json(_fields(state))
        return
    say_table(
        ("partition", "owner", "epoch", "turn", "next offset", "next row", "waiting", "parked", "touched", "halted"),
        (
            (
                state.part,
                state.owner,
                state.epoch,
                state.turn,
                state.next_offset,
                state.next_seq,
                state.next_seq - state.published_seq,
                state.parked,
                f"{state.touched_at:%Y-%m-%d %H:%M:%S}",
                state.halted,
            )
            for state in found
        ),
    )


@partitions.command()
def show(
    number: Annotated[int, typer.Argument(metavar="N", min=0, show_default=False)], *, as_json: AsJson = False
) -> None:
    """Show one partition; exits 1 if there is none of that number."""
    found = run(_states())
    state = next((each for each in found if each.part == number), None)
    if state is None:
        known = f"there are 0 to {len(found) - 1}" if found else "no worker has run on this database yet"
        raise RefusedError(f"no partition {number}: {known}")
    if as_json:
        say_json(_fields(state))
    else:
        say_fields(_fields(state))


async def _states() -> list[PartitionState]:
    async with asking(settings()) as connection:
        return await states(connection)


def _fields(state: PartitionState) -> dict[str, Any]:
    fields = asdict(state)
    return fields | {"waiting": state.next_seq - state.published_seq}
