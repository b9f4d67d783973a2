"""`bench` measures this build on this machine, on servers of its own or on given ones."""

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated

import typer
from rich.markup import escape

from service.bench.report import Figures, document, rows
from service.bench.run import measure
from service.bench.scale import PARTS, QUICK, USUAL, BenchError, Say, Scale
from service.cli.exits import Exit
from service.cli.main import app, run
from service.cli.output import ERR, complain, say_fields, say_json, say_table
from service.cli.surroundings import settings
from service.logs import configure


@app.command()
def bench(  # noqa: PLR0917 - typer names them all
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A short run: figures for a first look only.")] = False,
    only: Annotated[str | None, typer.Option(help=f"Parts to run, of {','.join(PARTS)}.")] = None,
    with_memory: Annotated[bool, typer.Option("--memory", help="Also run a million transitions for memory.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds, of which the median counts.")] = None,
    transitions: Annotated[int | None, typer.Option(min=1, help="Transitions per round.")] = None,
    workflows: Annotated[int | None, typer.Option(min=1, help="Workflows they are spread over.")] = None,
    hot: Annotated[int | None, typer.Option(min=1, help="Commands per round to one workflow.")] = None,
    rate: Annotated[int | None, typer.Option(min=1, help="Commands per second of the latency test.")] = None,
    seconds: Annotated[float | None, typer.Option(min=1, help="Seconds of the latency test.")] = None,
    timers: Annotated[int | None, typer.Option(min=1, help="Timers pending in the timers' test.")] = None,
    due: Annotated[int | None, typer.Option(min=1, help="Timers that are due at once in it.")] = None,
) -> None:
    """Measure transitions per second, latency, CPU and memory. Each is beside a baseline of the same run."""
    usual = QUICK if quick else Scale()
    scale = replace(
        usual,
        rounds=rounds or usual.rounds,
        transitions=transitions or usual.transitions,
        workflows=workflows or usual.workflows,
        hot=hot or usual.hot,
        rate=rate or usual.rate,
        seconds=seconds or usual.seconds,
        timers=timers or usual.timers,
        due=due or usual.due,
    )
    parts = frozenset(only.split(",")) if only else USUAL
    if parts - set(PARTS):
        raise typer.BadParameter(f"parts are {', '.join(PARTS)}", param_hint="--only")
    if with_memory:
        parts |= {"memory"}
    chosen = settings()
    configure(chosen)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # new topics: its retries are expected here

    async def work() -> tuple[Figures, dict[str, object]]:
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with _progress() as say:
            return await measure(chosen, scale, parts, say)

    try:
        figures, conditions = run(work())
    except BenchError as error:
        complain(str(error))
        raise typer.Exit(Exit.REFUSED) from error
    except asyncio.CancelledError as stopped:
        raise typer.Exit(Exit.INTERRUPTED) from stopped
    if as_json:
        say_json(document(figures, conditions))
    else:
        say_table(("figure", "measured", "target", ""), rows(figures))
        say_fields(conditions)


@contextmanager
def _progress() -> Iterator[Say]:
    """Give what says how far things are: one line that changes on a terminal, lines elsewhere."""
    if not ERR.is_terminal:
        yield lambda line: ERR.print(line, markup=False)
        return
    with ERR.status("starting") as status:
        yield lambda line: status.update(escape(line))
