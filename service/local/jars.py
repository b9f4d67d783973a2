"""Fetches jars by their Maven coordinates, once, and checks them against their lock before each start.

A lock pins every jar, dependencies too: nothing is resolved at a start; the class path is the lock's list.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from service.local.errors import DownloadError, ExtraMissingError, JarsAlteredError, NoPlaceError
from service.local.progress import Progress

if TYPE_CHECKING:
    from jgo.maven import MavenContext

KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
"""Without it the broker could not say why it does not start."""
CACHE_SETTING = "TURNSTILE_CACHE_DIR"
_AT_ONCE = 4
_ATTEMPTS = 3
_SHORT = 8


@dataclass(frozen=True, slots=True)
class Jars:
    """Jars of one class path: what people call them, where they come from, the file that locks them.

    The first coordinate brings its dependencies; each further one is added alone.
    """

    what: str
    coordinates: tuple[str, ...]
    lock: Path


BROKER_JARS = Jars("Apache Kafka", (KAFKA, LOGGING), Path(__file__).with_name("kafka.lock"))


def default_cache_dir() -> Path:
    """Return where downloads are kept: $TURNSTILE_CACHE_DIR, else `turnstile` in the user's cache folder."""
    if asked := os.environ.get(CACHE_SETTING):
        return Path(asked)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "turnstile"


def read_lock(lock: Path) -> dict[str, str]:
    """Return the SHA-256 of each jar by its Maven path, in class path order."""
    lines = (line.split() for line in lock.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return {name: digest for digest, name in lines}


def jars_folder(cache_dir: Path, jars: Jars = BROKER_JARS) -> Path:
    """Return the folder of exactly this lock's jars, so that two versions share a cache."""
    _, artifact, version = jars.coordinates[0].split(":")
    digests = "".join(sorted(read_lock(jars.lock).values()))
    return cache_dir / f"{artifact.split('_')[0]}-{version}-{hashlib.sha256(digests.encode()).hexdigest()[:_SHORT]}"


def class_path(
    cache_dir: Path, report: Callable[[str], None], *, given_up: threading.Event | None = None, jars: Jars = BROKER_JARS
) -> list[Path]:
    """Return the verified jars in class path order, fetching the missing ones; safe in two processes at once.

    `given_up`, set from another thread, ends a download early. Raises DownloadError, JarsAlteredError, NoPlaceError.
    """
    folder, locked, given_up = jars_folder(cache_dir, jars), read_lock(jars.lock), given_up or threading.Event()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(cache_dir, given_up):
            missing = [name for name in locked if not (folder / name).is_file()]
            if missing:
                with _incoming(cache_dir) as incoming, Progress(jars.what, len(missing), report, given_up) as progress:
                    _fetch(incoming, folder, {name: locked[name] for name in missing}, progress, given_up)
    except OSError as reason:
        raise NoPlaceError(
            f"the cache folder {cache_dir} cannot be used: {reason}. Set {CACHE_SETTING} to a folder you may write"
        ) from reason
    verify(folder, jars.lock)
    return [folder / name for name in locked]


def verify(folder: Path, lock: Path) -> None:
    """Raise JarsAlteredError unless the folder holds the locked jars, unaltered, and no other."""
    locked = read_lock(lock)
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*.jar")}
    wrong = {
        "missing": sorted(locked.keys() - present),
        "not in the lock": sorted(present - locked.keys()),
        "altered": sorted(name for name in locked.keys() & present if _sha256(folder / name) != locked[name]),
    }
    said = "; ".join(f"{what}: {', '.join(names)}" for what, names in wrong.items() if names)
    if said:
        raise JarsAlteredError(
            f"the jars in {folder} are not those of {lock.name} ({said}). Remove that folder and start again: "
            "they are fetched anew"
        )


def _fetch(incoming: Path, folder: Path, wanted: dict[str, str], progress: Progress, given_up: threading.Event) -> None:
    context = _maven(incoming, progress)

    def fetch(name: str) -> None:
        path = _download(context, incoming, name, given_up)
        if _sha256(path) != wanted[name]:
            raise JarsAlteredError(
                f"{name} came with other contents than its lock says, and was not kept. "
                "Start again; if it stays so, the repository it comes from is not to be trusted"
            )
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        path.replace(folder / name)
        progress.landed()

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            list(pool.map(fetch, wanted))
        except BaseException:
            given_up.set()
            pool.shutdown(cancel_futures=True)
            raise


def _maven(repository: Path, progress: Progress | None = None) -> "MavenContext":
    try:
        from jgo.config import GlobalSettings  # noqa: PLC0415 - an optional package
        from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415 - an optional package
    except ImportError as reason:
        raise ExtraMissingError("jgo") from reason
    mirrors = GlobalSettings.load().repositories
    context = MavenContext(PythonResolver(progress_callback=progress.of if progress else None), repository)
    context.remote_repos = {**mirrors, **context.remote_repos, **mirrors}
    return context


def _download(context: "MavenContext", incoming: Path, name: str, given_up: threading.Event) -> Path:
    path = PurePosixPath(name)
    group, artifact, version = ".".join(path.parts[:-3]), path.parts[-3], path.parts[-2]
    for attempt in range(_ATTEMPTS):
        try:
            return context.project(group, artifact).at_version(version).artifact().resolve()
        except (OSError, RuntimeError) as reason:
            (incoming / name).unlink(missing_ok=True)
            if given_up.is_set() or attempt == _ATTEMPTS - 1:
                raise DownloadError(
                    f"{group}:{artifact}:{version} could not be fetched: {reason}. "
                    "Start again with a working network; what has landed is kept"
                ) from reason
            time.sleep(2**attempt)
    raise AssertionError(name)  # the loop returns or raises


@contextlib.contextmanager
def _alone(cache_dir: Path, given_up: threading.Event) -> Iterator[None]:
    with (cache_dir / "jars.lock").open("w") as held:
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if given_up.wait(0.1):
                    raise DownloadError("waiting for another process's download was given up; start again") from None
            else:
                break
        yield


@contextlib.contextmanager
def _incoming(cache_dir: Path) -> Iterator[Path]:
    """Give a folder for half-fetched jars, clearing those of an interrupted download."""
    for left in cache_dir.glob("incoming-*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="incoming-", dir=cache_dir) as folder:
        yield Path(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def resolve_lock(jars: Jars = BROKER_JARS) -> str:
    """Return the text of a new lock, resolved from its coordinates; for whoever raises a version."""
    import jgo  # noqa: PLC0415 - an optional package

    first, *alone = jars.coordinates
    with tempfile.TemporaryDirectory() as folder:
        # Added alone: resolved together, the parents' versions of one would replace those of the other.
        coordinates = [(each.groupId, each.artifactId, each.version) for each in jgo.resolve(first)]
        coordinates.extend((group, artifact, version) for group, artifact, version in (c.split(":") for c in alone))
        names = sorted(f"{g.replace('.', '/')}/{a}/{v}/{a}-{v}.jar" for g, a, v in coordinates)
        context, never = _maven(Path(folder)), threading.Event()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            paths = pool.map(lambda name: _download(context, Path(folder), name, never), names)
            listed = "".join(f"{_sha256(path)}  {name}\n" for path, name in zip(paths, names, strict=True))
    return f"""\
# The class path of {jars.what}: SHA-256 and Maven path of each jar of {first}, checked before every start.
# Written by: resolve_lock in service/local/jars.py
{listed}"""


if __name__ == "__main__":
    sys.stdout.write(resolve_lock())
