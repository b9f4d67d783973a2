"""What a data folder tells other processes and later starts: who runs its servers, where they answer, what to reuse.

`stack.lock` is held while a stack lives, `stack.json` says which processes it has, `remembered.json` outlives it.
"""

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from service.local.errors import NoPlaceError, StackInUseError
from service.local.ports import is_open
from service.local.process import ProcessId

LOCK = "stack.lock"
STATE = "stack.json"
REMEMBERED = "remembered.json"

T = TypeVar("T", int, str)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the servers answer; a server that was not asked for has the empty string."""

    bootstrap_servers: str
    database_url: str


@dataclass(frozen=True, slots=True)
class Server:
    """One server of a stack."""

    process: ProcessId
    port: int


@dataclass(slots=True)
class State:
    """The processes of a stack; `endpoints` is None until all of them answer."""

    owner: ProcessId
    servers: dict[str, Server] = field(default_factory=dict)
    endpoints: Endpoints | None = None


def read_state(data_dir: Path) -> State | None:
    """Return what the folder's last stack wrote, None when it stopped cleanly or the file is not to be read."""
    told = _read(data_dir / STATE)
    try:
        return State(
            ProcessId(**told["owner"]),
            {name: Server(ProcessId(**each["process"]), each["port"]) for name, each in told["servers"].items()},
            None if told["endpoints"] is None else Endpoints(**told["endpoints"]),
        )
    except (KeyError, TypeError, AttributeError):
        return None


def write_state(data_dir: Path, state: State | None) -> None:
    """Replace the folder's state; None removes it."""
    if state is None:
        (data_dir / STATE).unlink(missing_ok=True)
    else:
        _write(data_dir / STATE, asdict(state))


def running(data_dir: Path) -> Endpoints | None:
    """Return where a live stack of this folder answers, None without one: every process and port is looked at."""
    state = read_state(data_dir)
    if state is None or not state.owner.alive:
        return None
    alive = all(server.process.alive and is_open(server.port) for server in state.servers.values())
    return state.endpoints if alive else None


def recall(data_dir: Path, key: str, kind: Callable[[Any], T]) -> T | None:
    """Return what an earlier start remembered."""
    value = _read(data_dir / REMEMBERED).get(key)
    return None if value is None else kind(value)


def remember(data_dir: Path, key: str, value: int | str) -> None:
    """Keep a value for later starts."""
    _write(data_dir / REMEMBERED, {**_read(data_dir / REMEMBERED), key: value})


class FolderLock:
    """Keeps a second stack away from a data folder; the kernel drops it with the process that holds it."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take the lock, creating the folder; raises StackInUseError or NoPlaceError."""
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._data_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as reason:
            raise NoPlaceError(
                f"the embedded servers cannot keep their data in {self._data_dir}: {reason}. "
                "Use a folder that this user may write, or give the folder back to this user"
            ) from reason
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            state = read_state(self._data_dir)
            holder = f"process {state.owner.pid}" if state else "another process"
            raise StackInUseError(
                f"{holder} runs the embedded servers of {self._data_dir}: use those, or stop it first"
            ) from None
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the next stack in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _write(path: Path, value: dict[str, Any]) -> None:
    """Replace a file at once, readable by its owner alone: an address may contain a password."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        json.dump(value, out)
        out.flush()
        os.fsync(out.fileno())
    new.replace(path)
