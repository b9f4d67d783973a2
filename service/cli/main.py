"""The command line's entry: gathers the verbs, and turns expected errors into a line and an exit code."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer
import uvloop

from service.cli.exits import EXPECTED, Exit, exit_of
from service.cli.output import complain

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Turnstile: commands in, exactly one outcome each, events out. Settings: TURNSTILE_*, see `turnstile doctor`.",
)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a verb's coroutine on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def main() -> None:
    """Run the command line."""
    try:
        from service.cli import verbs  # noqa: F401, PLC0415 - importing them registers them, and takes a moment

        app()
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except EXPECTED as error:
        complain(str(error))
        sys.exit(exit_of(error))
