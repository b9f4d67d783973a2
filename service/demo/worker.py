"""A worker in a process of its own, `turnstile serve`, so that it can be killed as a crash would and started again."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from service.app import NotReadyError
from service.demo.pages import Readiness, read_readiness
from service.local.ports import HOST, is_free
from service.local.process import Command, Watched, until
from service.settings import Settings

READY_SECONDS_MAX = 60.0
POLL_SECONDS = 0.1
DRAIN_SECONDS_MAX = 8.0
LOG_LINES_SHOWN = 12
PAGES = range(9464, 9564)


class WorkerProcess:
    """The worker; a watchdog takes it along however this process ends."""

    def __init__(self, settings: Settings, log: str = "worker.log") -> None:
        self._settings = settings
        self.log = (settings.data_dir / log).absolute()
        self._watched: Watched | None = None
        host = settings.http_host if settings.http_host not in {"0.0.0.0", "::"} else HOST  # noqa: S104 - read, not bound
        self._port = _free_port(settings.http_port)
        self.address = f"http://{host}:{self._port}"

    @property
    def running(self) -> bool:
        """Tell whether it was started and has not ended."""
        return self._watched is not None and self._watched.returncode is None

    @property
    def pid(self) -> int:
        """Return the running worker's process id, 0 if none runs."""
        return self._watched.id.pid if self._watched is not None else 0

    async def start(self) -> None:
        """Start it and wait until it takes turns; raises NotReadyError with the end of its log."""
        given = {
            "BOOTSTRAP_SERVERS": self._settings.bootstrap_servers or "",
            "DATABASE_URL": self._settings.database_url or "",
            "HTTP_PORT": str(self._port),
            "PREFIX": self._settings.prefix,
            "GROUP_ID": self._settings.group_id,
            "CLOCK": self._settings.clock,
        }
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._watched = Watched(
            Command(
                name="worker",
                argv=[sys.executable, "-m", "service", "serve"],
                log=self.log,
                cwd=Path.cwd(),
                env=os.environ | {f"TURNSTILE_{name}": value for name, value in given.items()},
                grace_seconds=DRAIN_SECONDS_MAX,
            )
        )
        if not await self._takes_turns():
            raise NotReadyError(self.complaint() or f"the worker takes no turns; see {self.log}")

    async def kill(self) -> None:
        """End it with SIGKILL."""
        watched, self._watched = self._watched, None
        if watched is not None:
            await watched.kill()

    async def stop(self) -> None:
        """Let it drain and end."""
        watched, self._watched = self._watched, None
        if watched is not None:
            await watched.stop()

    def complaint(self) -> str | None:
        """Return what its log ends with if it has ended by itself."""
        if self._watched is None or self._watched.returncode is None:
            return None
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        said = "\n  ".join(["", *lines]) if lines else " nothing"
        return f"the worker ended with exit code {self._watched.returncode}; the end of {self.log} says:{said}"

    async def _takes_turns(self) -> bool:
        state: Readiness | None = None
        waited = 0.0
        while waited < READY_SECONDS_MAX and self.complaint() is None:
            state = await read_readiness(self.address)
            if state is not None and state.active:
                return True
            await until(lambda: False, POLL_SECONDS)
            waited += POLL_SECONDS
        return False


@asynccontextmanager
async def working(settings: Settings, log: str = "worker.log") -> AsyncIterator[WorkerProcess]:
    """Run a worker for the block."""
    worker = WorkerProcess(settings, log)
    try:
        await worker.start()
        yield worker
    finally:
        await worker.stop()


def _free_port(wanted: int) -> int:
    """Return the wanted port, or where that is taken or 0 the next free one; links then survive a restart."""
    candidates = [wanted, *PAGES] if wanted else PAGES
    return next(port for port in candidates if is_free(port))
