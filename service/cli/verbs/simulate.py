"""`simulate`: a month of workflows in seconds, on a service whose clock is logical; then how the promises fared."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from secrets import token_hex
from typing import Annotated

import orjson
import typer

from domain.definition import Definition
from domain.zone import UNTIL
from service.app import NotReadyError
from service.cli.exits import Exit, RefusedError
from service.cli.main import app, run
from service.cli.output import ERR, OUT, complain, progress, say_json, say_table
from service.cli.surroundings import bootstrap_servers, settings
from service.cli.verbs.options import AsJson, read_time
from service.cli.verbs.reach import asking, changing, client_of
from service.definitions.files import read_definition
from service.demo.month import apply_support
from service.demo.pages import read_page
from service.logical_time import logical_time
from service.settings import Settings
from service.simulation import Plan, Promised, Simulated, promised, reached, simulate
from service.store.definitions import list_definitions
from service.store.pool import Connection
from service.store.timers import count_due

EXAMPLE = "demo.support"
LOGICAL = (
    "time is real here, and a month would take a month: start a service of its own with "
    "`TURNSTILE_CLOCK=logical TURNSTILE_DATA_DIR=.simulated turnstile dev`, and give this verb the same two settings"
)


@app.command("simulate")
def simulate_(
    *,
    definition: Annotated[str, typer.Option(metavar="NAME", help="An applied definition.")] = EXAMPLE,
    workflows: Annotated[int, typer.Option(min=1, max=100_000, help="How many arrive.")] = 200,
    days: Annotated[float, typer.Option(min=0.1, max=3660, help="How long, in days of logical time.")] = 30,
    stay: Annotated[float, typer.Option(min=0.001, max=100_000, help="Mean time in a state, in hours.")] = 4,
    seed: Annotated[int, typer.Option(help="The same seed draws the same arrivals and stays.")] = 1,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="When it begins.", show_default="now, or where logical time is")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Play a month of random workflows, and show how SLAs fared. Time is logical.

    The service has to run with TURNSTILE_CLOCK=logical, and so has this verb. Without --definition a support desk that
    comes with Turnstile is applied and simulated. Exits 4 if something due stays undone.
    """
    chosen = settings()
    prefix = f"sim-{token_hex(4)}-"

    async def work() -> tuple[Plan, Simulated, list[Promised]]:
        await _logical(chosen)
        async with changing(chosen) as opened:
            if definition == EXAMPLE:
                await apply_support(opened)
            found = await _stored(opened, definition)
            began = await _start(opened, start)
        if min(began, UNTIL) + timedelta(days=days) >= UNTIL:
            raise RefusedError(f"logical time ends before {UNTIL.isoformat()}, as calendars do: begin earlier")
        plan = Plan(found, prefix, workflows, began, days, seed, stay=timedelta(hours=stay))
        return plan, *await _play(chosen, plan)

    plan, simulated, fared = run(work())
    _show(plan, simulated, fared, as_json=as_json)
    if simulated.due:
        complain(f"{simulated.due} timers stay due: do all workers run with TURNSTILE_CLOCK=logical?")
        raise typer.Exit(Exit.TIMEOUT)


async def _play(chosen: Settings, plan: Plan) -> tuple[Simulated, list[Promised]]:
    address = bootstrap_servers(chosen)
    async with (
        client_of(chosen) as client,
        asking(chosen) as connection,
        logical_time(address, chosen.topics, name="simulate") as time,
    ):
        with progress(f"{plan.workflows} workflows, {plan.days:g} days", plan.steps) as tell:
            done = await simulate(plan, client, time, partial(count_due, connection), tell)
        return done, await promised(connection, plan.prefix)


async def _logical(chosen: Settings) -> None:
    """Refuse to simulate in real time, by our own setting or by what the worker of this machine says."""
    if chosen.clock != "logical":
        raise NotReadyError(LOGICAL)
    with suppress(OSError, ValueError):
        page = await read_page(f"http://{chosen.http_host}:{chosen.http_port}", "/health/ready")
        if orjson.loads(page.body).get("scheduler", {}).get("clock") == "real":
            raise NotReadyError(f"the worker at {chosen.http_host}:{chosen.http_port} says: {LOGICAL}")


async def _stored(opened: Connection, name: str) -> Definition:
    stored = await list_definitions(opened, name)
    found = read_definition(stored[0].source).definition if stored else None
    if found is None:
        raise RefusedError(f"no definition {name}; `turnstile definitions list` shows what there is")
    return found


async def _start(opened: Connection, given: str | None) -> datetime:
    """Return when the simulation begins: never before what the service has decided already."""
    already = await reached(opened)
    if given is None:
        now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        return now if already is None else max(now, already)
    wanted = read_time(given, "--start")
    if already is not None and wanted < already:
        raise RefusedError(f"logical time is at {already.isoformat()} and never goes back: start then or later")
    return wanted


def _show(plan: Plan, simulated: Simulated, fared: list[Promised], *, as_json: bool) -> None:
    if as_json:
        say_json(
            {
                "definition": plan.definition.name,
                "definition_version": plan.definition.version,
                "prefix": plan.prefix,
                "start": plan.start,
                "days": plan.days,
                "workflows": plan.workflows,
                "seed": plan.seed,
                **simulated._asdict(),
                "slas": [each._asdict() for each in fared],
            }
        )
        return
    ERR.print(f"{simulated.commands} commands, {simulated.refused} refused; ids begin with {plan.prefix}", markup=False)
    if not fared:
        OUT.print(f"{plan.definition.name} version {plan.definition.version} promises nothing: it has no slas")
        return
    columns = ("sla", "met", "breached", "open", "median breach", "worst breach", "alerts")
    say_table(
        columns,
        (
            (each.sla, each.met, each.breached, each.open, _hours(each.median_seconds), _hours(each.worst_seconds),
             each.alerts)
            for each in fared
        ),
    )  # fmt: skip


def _hours(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds / 3600:.1f} h"
