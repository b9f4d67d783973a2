"""The embedded broker and database of one data folder, as one thing to start, stop, kill and find again.

One stack per folder at a time; whatever ends its owner ends its servers, and the next start resumes their data.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from service.local.errors import LocalStackError, NoPlaceError
from service.local.jars import default_cache_dir
from service.local.kafka import Kafka
from service.local.postgres import Postgres, remembered_place
from service.local.process import LET_GO_SECONDS, ProcessId, until
from service.local.state import Endpoints, FolderLock, Server, State, read_state, running, write_state

__all__ = ["Endpoints", "LocalStack", "erase", "running"]


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - progress for a person


class LocalStack:
    """The servers of `data_dir`; `java` is a path, `benchmark` gives the broker its full compiler."""

    def __init__(
        self,
        data_dir: Path,
        *,
        cache_dir: Path | None = None,
        benchmark: bool = False,
        broker: bool = True,
        database: bool = True,
        java: str | None = None,
        report: Callable[[str], None] = _to_stderr,
    ) -> None:
        self._data_dir = Path(os.path.abspath(data_dir))  # noqa: PTH100 - a link to a folder keeps its name
        self._kafka = (
            Kafka(
                self._data_dir,
                cache_dir=Path(os.path.abspath(cache_dir or default_cache_dir())),  # noqa: PTH100 - as above
                java=java,
                benchmark=benchmark,
                report=report,
            )
            if broker
            else None
        )
        self._postgres = Postgres(self._data_dir, report=report) if database else None
        self._lock = FolderLock(self._data_dir)
        self._state: State | None = None

    async def start(self) -> Endpoints:
        """Start what was asked for, both at once, on the data that is there; raises LocalStackError."""
        self._lock.take()
        try:
            await _clear_leftovers(self._data_dir)
            self._state = State(_ourselves())
            self._note()
            try:
                async with asyncio.TaskGroup() as starting:
                    for server in self._servers:
                        starting.create_task(self._start(server))
            except BaseExceptionGroup as failures:
                raise _first(failures) from None
            endpoints = Endpoints(
                self._kafka.endpoint if self._kafka else "", self._postgres.endpoint if self._postgres else ""
            )
            self._state.endpoints = endpoints
            self._note()
        except PermissionError as reason:
            await self.stop()
            raise NoPlaceError(
                f"{reason.filename} is not this user's: give {self._data_dir} back to the user that made it, "
                "run as that user, or use another data folder"
            ) from reason
        except OSError as reason:
            await self.stop()
            raise NoPlaceError(
                f"the embedded servers cannot keep their data in {self._data_dir}: {reason}. "
                "Make room there, or use another data folder"
            ) from reason
        except BaseException:
            await self.stop()
            raise
        return endpoints

    async def stop(self) -> None:
        """Stop both servers cleanly and let the next stack in; does nothing when nothing runs."""
        if self._state is None:
            self._lock.release()
            return
        try:
            await asyncio.gather(*(server.stop() for server in self._servers))
        finally:
            self._state = None
            write_state(self._data_dir, None)
            self._lock.release()

    async def __aenter__(self) -> Endpoints:
        return await self.start()

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        await self.stop()

    async def kill_broker(self) -> None:
        """Kill the broker as a crash would."""
        await self._broker.kill()

    async def start_broker(self) -> None:
        """Start the killed broker again: same port, same data."""
        await self._start(self._broker)

    async def kill_database(self) -> None:
        """Kill the database as a crash would."""
        await self._database.kill()

    async def start_database(self) -> None:
        """Start the killed database again: same port, same data."""
        await self._start(self._database)

    @property
    def _servers(self) -> list[Kafka | Postgres]:
        return [server for server in (self._kafka, self._postgres) if server is not None]

    @property
    def _broker(self) -> Kafka:
        if self._kafka is None:
            raise LocalStackError("this stack has no broker: start it with broker=True")
        return self._kafka

    @property
    def _database(self) -> Postgres:
        if self._postgres is None:
            raise LocalStackError("this stack has no database: start it with database=True")
        return self._postgres

    async def _start(self, server: Kafka | Postgres) -> None:
        def spawned(process: ProcessId, port: int) -> None:
            if self._state is not None:
                self._state.servers[server.name] = Server(process, port)
                self._note()

        await server.start(spawned)

    def _note(self) -> None:
        write_state(self._data_dir, self._state)


async def erase(data_dir: Path) -> None:
    """Remove a data folder and the database it keeps elsewhere; raises StackInUseError while a stack lives there."""
    data_dir = Path(os.path.abspath(data_dir))  # noqa: ASYNC240, PTH100 - no blocking call; a link keeps its name
    lock = FolderLock(data_dir)
    lock.take()
    try:
        await _clear_leftovers(data_dir)
        for folder in (remembered_place(data_dir), data_dir):
            if folder is not None:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    finally:
        lock.release()


async def _clear_leftovers(data_dir: Path) -> None:
    """Wait for the servers of an owner that crashed: their watchdogs stop them; kill what stays."""
    state = read_state(data_dir)
    for server in state.servers.values() if state else ():
        process = server.process
        if not await until(lambda process=process: not process.alive, LET_GO_SECONDS):  # type: ignore[misc]
            process.signal(signal.SIGKILL)
    write_state(data_dir, None)


def _ourselves() -> ProcessId:
    return ProcessId.of(os.getpid()) or ProcessId(os.getpid(), "unknown")


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
