"""The worker that is measured: `turnstile serve` in a process of its own, looked at from outside."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from service.bench.place import Place
from service.bench.scale import BenchError
from service.local.process import Command, Watched

SERVE = [sys.executable, "-m", "service", "serve"]
PREFIX = "TURNSTILE_"
LOG_LINES = 15


class Usage(NamedTuple):
    """What a process has used and holds; None where the system does not tell."""

    cpu_seconds: float | None
    rss_bytes: int | None


class Worker:
    """A running worker."""

    def __init__(self, process: Watched) -> None:
        self._process = process

    def usage(self) -> Usage:
        """Return its user and system time so far, and the memory it holds now."""
        folder = Path(f"/proc/{self._process.id.pid}")
        try:
            times = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
            pages = (folder / "statm").read_text().split()[1]
        except OSError:
            return Usage(None, None)
        ticks = os.sysconf("SC_CLK_TCK")
        return Usage(sum(map(int, times)) / ticks, int(pages) * os.sysconf("SC_PAGE_SIZE"))

    def check(self) -> None:
        """Raise BenchError with its last words if it has ended."""
        if self._process.returncode is not None:
            raise BenchError(f"the worker ended with exit code {self._process.returncode}: {self.last_words()}")

    def last_words(self) -> str:
        """Return the end of its log."""
        lines = self._process.command.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n  ".join(["", *lines]) if lines else "it said nothing"


@asynccontextmanager
async def worker(place: Place) -> AsyncIterator[Worker]:
    """Run a worker on a place's settings until the block ends, whatever ends it."""
    process = Watched(
        Command(
            name="turnstile serve",
            argv=SERVE,
            log=place.folder / f"{place.settings.prefix}.log",
            cwd=Path.cwd(),
            env=_environment(place),
        )
    )
    try:
        yield Worker(process)
    finally:
        await process.stop()


def _environment(place: Place) -> dict[str, str]:
    """Return ours, with every setting as the place has it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    given = {name: value for name, value in place.settings.model_dump().items() if value is not None}
    chosen = {f"{PREFIX}{name.upper()}": str(value) for name, value in given.items()}
    return {**inherited, **chosen}
