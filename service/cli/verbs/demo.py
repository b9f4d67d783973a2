"""`demo` plays scenarios on a real broker and a real database; each checks itself."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from service.cli.exits import Exit
from service.cli.main import app, run
from service.cli.output import OUT, complain
from service.cli.surroundings import settings
from service.demo.checks import Check
from service.demo.scenarios import SCENARIOS, Scenario, UnknownScenarioError, choose
from service.demo.screen import LinesScreen, LiveScreen, Screen
from service.demo.stage import WENT_WRONG, Stage, failed, staged
from service.demo.traffic import go_on
from service.logs import configure
from service.settings import Settings

CLOSE_SECONDS_MAX = 3.0


@app.command()
def demo(
    scenario: Annotated[
        list[str] | None,
        typer.Option(help=f"One of {', '.join(SCENARIOS)}; may be given several times. All without it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per check.")] = False,
) -> None:
    """See real workflows run, in scenarios that check themselves.

    On a terminal light traffic follows, until Ctrl-C. Exits 0 when every check held, 1 naming those that did not.
    """
    try:
        chosen = choose(scenario or ())
    except UnknownScenarioError as error:
        raise typer.BadParameter(str(error), param_hint="--scenario") from None
    found = settings()
    configure(found)
    screen = LinesScreen() if as_json else LiveScreen(OUT)
    going_on = not as_json and not scenario and sys.stdout.isatty()
    wrong = failed(run(_play(found, chosen, screen, going_on=going_on)))
    for check in wrong:
        complain(f"{check.scenario} {check.number} failed: {check.what}")
    raise typer.Exit(Exit.REFUSED if wrong else Exit.DONE)


async def _play(found: Settings, chosen: Sequence[Scenario], screen: Screen, *, going_on: bool) -> list[Check]:
    clock = asyncio.get_running_loop().time
    async with staged(found, screen) as stage:
        screen.facts(_places(stage))
        began = clock()
        checks: list[Check] = []
        for number, scenario in enumerate(chosen, start=1):
            screen.scenario(scenario.name, scenario.title, f"{number} of {len(chosen)}")
            checks += await stage.play(scenario)
        screen.scenario("done", f"{len(checks)} checks, {len(failed(checks))} failed, in {clock() - began:.1f} s", "")
        if going_on:
            await _go_on(stage)
    return checks


async def _go_on(stage: Stage) -> None:
    """Keep light traffic up until Ctrl-C, which is how it is meant to end."""
    stage.screen.facts(_looks(stage))
    stage.screen.scenario("traffic", "a few workflows at a time, until Ctrl-C", "")
    scene = stage.scene("traffic")
    try:
        await go_on(scene)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
    with suppress(*WENT_WRONG):
        async with asyncio.timeout(CLOSE_SECONDS_MAX):
            await scene.tidy()


def _places(stage: Stage) -> dict[str, str]:
    address = stage.worker.address
    return {
        "broker": stage.settings.bootstrap_servers or "",
        "metrics": f"{address}/metrics",
        "health": f"{address}/health/ready  {address}/health/live",
        "worker": f"process {stage.worker.pid}, its log in {stage.worker.log}",
    }


def _looks(stage: Stage) -> dict[str, str]:
    """Say how to look further from another terminal."""
    command = sys.argv[0] if Path(sys.argv[0]).name == "turnstile" else "turnstile"
    default = Settings.model_fields["data_dir"].default
    if stage.settings.data_dir != default:
        command = f"TURNSTILE_DATA_DIR={stage.settings.data_dir} {command}"
    return {
        "in another terminal": "",
        "what there is": f"{command} list",
        "why one was refused": f"{command} why {stage.refused or 'COMMAND_ID'}",
        "what runs where": f"{command} doctor",
    }
