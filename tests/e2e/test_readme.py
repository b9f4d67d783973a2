"""The README's blocks, run in order as a stranger would: start, define, post, see the event, the denial and why."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.stack


class Stranger:
    """Someone with the README, a folder and a terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("TURNSTILE_")} | {
            "TURNSTILE_DATA_DIR": str(folder / "data"),
            "TURNSTILE_HTTP_PORT": "0",
        }
        if "TURNSTILE_CACHE_DIR" in os.environ:
            self.environment["TURNSTILE_CACHE_DIR"] = os.environ["TURNSTILE_CACHE_DIR"]
        self.background: list[subprocess.Popen[bytes]] = []

    def type(self, script: str) -> str:
        """Run a block and return what it printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert 0 == done.returncode, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def leave_running(self, script: str) -> None:
        """Run a block in another terminal."""
        self.background.append(
            subprocess.Popen(["bash", "-c", f"exec {script.strip()}"], cwd=self.folder, env=self.environment)
        )

    def go(self) -> None:
        """Press Ctrl-C in the other terminals."""
        for process in self.background:
            process.send_signal(signal.SIGINT)
            process.wait(30)


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Stranger]:
    """Give a folder in which the installed command is where the README says."""
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    someone = Stranger(tmp_path)
    yield someone
    someone.go()


@pytest.mark.timeout(400)
def test_the_readme_does_what_it_says(stranger: Stranger) -> None:
    """Every block runs, the events are there, and the denial names its clause and the values it saw."""
    for language, note, text in BLOCK.findall((ROOT / "README.md").read_text("utf-8")):
        if note.startswith(" file="):
            (stranger.folder / note.removeprefix(" file=")).write_text(text, "utf-8")
        elif note == " background":
            stranger.leave_running(text)
            wait_until_ready(stranger)
        elif language == "sh" and note == "" and not text.startswith("make"):
            stranger.type(text)
            if "post.py" in text:
                wait_until_decided(stranger)
    history = stranger.type(".venv/bin/turnstile history sample-1 --json")
    why = stranger.type(".venv/bin/turnstile why sample-1 --all")
    assert ["received", "in_analysis", "released"] == re.findall(r'"to_state":"(\w+)"', history)
    assert "command.context.signed_by != command.requested_by" in why
    assert "ann" in why


def wait_until_ready(stranger: Stranger) -> None:
    """Ask the doctor until all is well."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        asked = subprocess.run(
            [".venv/bin/turnstile", "doctor"],
            cwd=stranger.folder,
            env=stranger.environment,
            capture_output=True,
            check=False,
        )
        if asked.returncode == 0:
            return
        time.sleep(0.5)
    pytest.fail("the service did not become ready")


def wait_until_decided(stranger: Stranger) -> None:
    """Look until the last of the four commands has its outcome."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        asked = subprocess.run(
            [".venv/bin/turnstile", "get", "sample-1", "--json"],
            cwd=stranger.folder,
            env=stranger.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if '"released"' in asked.stdout:
            return
        time.sleep(0.5)
    pytest.fail(f"sample-1 was not released: {asked.stdout} {asked.stderr}")
