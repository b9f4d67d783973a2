"""The owner's side of a watched server: start it, see that it answers, stop it, kill it.

Plain Popen, so that a server outlives the event loop that started it.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from service.local import watchdog
from service.local.errors import ServerFailedError

START_SECONDS = 180.0
"""How long a server may take to answer; one that ended is noticed at once, so this is for a hang alone."""
LET_GO_SECONDS = 30.0
"""How long a former server of the same data may take to end."""
_LOOK_SECONDS = 0.02
_LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process, told from a later one of the same number by when it started."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """Return the identity of a live process, None of a dead one or a zombie."""
        started = _started(pid)
        return None if started is None else cls(pid, started)

    @property
    def alive(self) -> bool:
        """Tell whether this very process still runs."""
        return _started(self.pid) == self.started

    def signal(self, number: int) -> None:
        """Send a signal, unless the process is gone."""
        if self.alive:
            os.kill(self.pid, number)


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run under a watchdog, and how it wants to be stopped."""

    name: str
    argv: list[str]
    log: Path
    cwd: Path
    env: Mapping[str, str] | None = None
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL
    grace_seconds: float = 20.0
    uid: int | None = None
    gid: int | None = None


class Watched:
    """A running program with its watchdog."""

    def __init__(self, command: Command) -> None:
        self.command = command
        order = {
            "argv": command.argv,
            "log": str(command.log),
            "cwd": str(command.cwd),
            "env": None if command.env is None else dict(command.env),
            "stop_signal": int(command.stop_signal),
            "death_signal": int(command.death_signal),
            "grace_seconds": command.grace_seconds,
            "uid": command.uid,
            "gid": command.gid,
            "owner": os.getpid(),
        }
        if command.log.exists():
            command.log.replace(command.log.with_suffix(".log.1"))
        self._watchdog = subprocess.Popen(  # noqa: S603 - our own file
            [sys.executable, "-I", "-S", watchdog.__file__, command.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )
        assert self._watchdog.stdin is not None  # noqa: S101 - for the type checker
        assert self._watchdog.stdout is not None  # noqa: S101 - for the type checker
        with contextlib.suppress(BrokenPipeError):
            self._watchdog.stdin.write(f"{json.dumps(order)}\n".encode())
            self._watchdog.stdin.flush()
        told = self._watchdog.stdout.readline()
        if not told:
            _, why = self._watchdog.communicate()
            last = why.decode(errors="replace").strip().splitlines()[-1:]
            raise ServerFailedError(f"{command.name} could not be started ({command.argv[0]}): {' '.join(last)}")
        self.id = ProcessId.of(int(told)) or ProcessId(int(told), "ended")

    @property
    def returncode(self) -> int | None:
        """The exit code once the program has ended, else None."""
        return self._watchdog.poll()

    async def wait(self, seconds: float) -> int | None:
        """Wait for the program's end; return its exit code, None when it still runs after `seconds`."""
        await until(lambda: self.returncode is not None, seconds)
        return self.returncode

    async def stop(self) -> None:
        """Stop the program: first as it asks to be stopped, then by force."""
        self._let_go()
        if await self.wait(self.command.grace_seconds + 5) is None:
            await self.kill()
        self._close()

    async def kill(self) -> None:
        """Kill the program with SIGKILL, as a crash would, and wait until it is gone."""
        self.id.signal(signal.SIGKILL)
        if await self.wait(5) is None:
            self._watchdog.kill()
            await self.wait(5)
        self._close()

    def _let_go(self) -> None:
        if self._watchdog.stdin is not None:
            self._watchdog.stdin.close()

    def _close(self) -> None:
        for pipe in (self._watchdog.stdin, self._watchdog.stdout, self._watchdog.stderr):
            if pipe is not None:
                pipe.close()


async def finish(command: Command, seconds: float = START_SECONDS) -> None:
    """Run a program to its end; raises ServerFailedError with the end of its log unless it succeeds."""
    program = Watched(command)
    try:
        code = await program.wait(seconds)
    finally:
        await program.stop()
    if code != 0:
        raise _failed(command, "took too long" if code is None else f"failed with exit code {code}")


async def bring_up(
    command: Command,
    *,
    ready: Callable[[ProcessId], Awaitable[bool]],
    busy: tuple[str, ...],
    spawned: Callable[[ProcessId], None],
) -> Watched:
    """Start a server and return it once `ready`; again while its log has a word of `busy`: a former one still ends.

    `spawned` hears of each process before it is ready, to write it down. Raises ServerFailedError.
    """
    patience = time.monotonic() + LET_GO_SECONDS
    while True:
        server = Watched(command)
        try:
            spawned(server.id)
            if await _answers(server, ready):
                return server
        except BaseException:
            await server.stop()
            raise
        await server.stop()
        said = command.log.read_text(errors="replace")
        if not any(each in said for each in busy) or time.monotonic() > patience:
            raise _failed(command, f"ended while starting, with exit code {server.returncode}")


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; tell whether it came true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_LOOK_SECONDS)
    return True


async def _answers(server: Watched, ready: Callable[[ProcessId], Awaitable[bool]]) -> bool:
    """Tell whether the server came up (True) or ended (False)."""
    deadline = time.monotonic() + START_SECONDS
    while server.returncode is None:
        if await ready(server.id):
            return True
        if time.monotonic() > deadline:
            raise _failed(server.command, f"did not answer within {START_SECONDS:.0f} s")
        await asyncio.sleep(_LOOK_SECONDS)
    return False


def _failed(command: Command, what: str) -> ServerFailedError:
    lines = command.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    said = "\n  ".join(["", *lines]) if lines else " nothing"
    return ServerFailedError(f"{command.name} {what}; the end of {command.log} says:{said}")


def _started(pid: int) -> str | None:
    """Return a mark of when a live process started, in clock ticks since boot where /proc tells."""
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        state, *fields = stat.rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    told = subprocess.run(  # noqa: S603 - a number is its only argument
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=1)
    return None if not told or told[0].startswith("Z") else told[1].strip()
