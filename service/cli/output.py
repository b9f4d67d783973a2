"""How verbs speak: tables for people, JSON lines for programs, progress and errors on stderr."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

OUT = Console(soft_wrap=True, highlight=False)
ERR = Console(stderr=True, soft_wrap=True, highlight=False)
WIDTH_OF_A_PIPE = 10_000


def say_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Print one JSON value on one line."""
    sys.stdout.write(orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z).decode() + "\n")
    sys.stdout.flush()


def say_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """Print a table; cells are shown as text, None as a dash."""
    table = Table(*columns, title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text("-" if cell is None else str(cell)) for cell in row))
    for column in table.columns:
        column.overflow = "fold"  # an id that is cut is no id
    if not OUT.is_terminal:
        OUT.width = WIDTH_OF_A_PIPE
    OUT.print(table)


def say_fields(fields: Mapping[str, Any]) -> None:
    """Print names and values, one a line."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        OUT.print(f"{name:<{width}}  {'-' if value is None else value}", markup=False)


class Tell(Protocol):
    """Tells how many are done, what is waited for if so, and of how many where that was not known before."""

    def __call__(self, done: int, waiting: str | None = None, *, total: int | None = None) -> None:
        """Show it."""
        ...


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Tell]:
    """Give what tells how far a long work is; off a terminal only a new wait is said."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=ERR, transient=True, disable=not ERR.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        said: str | None = None

        def tell(done: int, waiting: str | None = None, *, total: int | None = None) -> None:
            nonlocal said
            bar.update(task, completed=done, total=total, description=waiting or title)
            if waiting and waiting != said and not ERR.is_terminal:
                ERR.print(waiting, markup=False)
            said = waiting

        yield tell


def complain(message: str) -> None:
    """Print an error for a person."""
    ERR.print(f"turnstile: {message}", style="red" if ERR.is_terminal else None, markup=False)
