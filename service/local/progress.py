"""Shows a download: a bar on a terminal, a counting line every few files elsewhere."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

_MEGABYTE = 1_000_000
_LINES = 5


class Progress:
    """Counts files and bytes from several threads; ends the download once `given_up` is set."""

    def __init__(self, what: str, files: int, report: Callable[[str], None], given_up: threading.Event) -> None:
        self._what, self._files, self._report, self._given_up = what, files, report, given_up
        self._guard, self._landed, self._bytes = threading.Lock(), 0, 0
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[mb]}"))
        self._bar = Bar(*columns, console=console, transient=True) if console.is_terminal else None
        self._task = self._bar.add_task(f"fetching {what}", total=files, mb="") if self._bar else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        else:
            self._report(f"fetching {self._what}: {self._files} files")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _where: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        if error is None:
            self._report(f"fetched {self._what}: {self._files} files, {self._megabytes}")

    @contextlib.contextmanager
    def of(self, _name: str, _size: int) -> Iterator[Callable[[int], None]]:
        """Give the counter of one file's bytes."""
        yield self._count

    def landed(self) -> None:
        """Count a file that is complete and verified."""
        with self._guard:
            self._landed += 1
            if self._bar and self._task is not None:
                self._bar.advance(self._task)
            elif self._landed % max(1, self._files // _LINES) == 0 and self._landed < self._files:
                self._report(f"fetching {self._what}: {self._landed} of {self._files} files, {self._megabytes}")

    def _count(self, received: int) -> None:
        if self._given_up.is_set():
            raise RuntimeError("given up")
        with self._guard:
            self._bytes += received
            if self._bar and self._task is not None:
                self._bar.update(self._task, mb=self._megabytes)

    @property
    def _megabytes(self) -> str:
        return f"{self._bytes / _MEGABYTE:.1f} MB"
