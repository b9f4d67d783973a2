"""The command line's entry: gathers the verbs, and turns expected errors into a line and an exit code."""

import asyncio
import sys
from collections.abc import Coroutine
from importlib.metadata import version
from typing import Annotated, Any, TypeVar

import typer
import uvloop
from typer.core import TyperGroup

from service.cli.exits import EXPECTED, exit_of
from service.cli.output import OUT, complain

T = TypeVar("T")


class Sorted(TyperGroup):
    """Lists verbs and groups by their names, whatever file registers them first."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - typer has a click of its own
        """Return the names."""
        return sorted(super().list_commands(ctx))


app = typer.Typer(
    cls=Sorted,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Turnstile: commands in, exactly one outcome each, events out. Settings: TURNSTILE_*, see `turnstile doctor`.",
)


def _say_version(asked: bool) -> None:
    if asked:
        OUT.print(f"turnstile {version('turnstile')}", markup=False)
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None: ...


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a verb's coroutine on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def main() -> None:
    """Run the command line; `service.cli.entry` is where it begins."""
    try:
        from service.cli import verbs  # noqa: F401, PLC0415 - importing them registers them, and takes a moment

        app()
    except EXPECTED as error:
        complain(str(error))
        sys.exit(exit_of(error))
