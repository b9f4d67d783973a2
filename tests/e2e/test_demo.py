"""`turnstile demo` as a script runs it: every check holds, a failing one fails the run, and nothing stays behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from service.demo.checks import Check, Checklist
from service.demo.scenarios import LATER, SCENARIOS, UnknownScenarioError, choose
from service.demo.stage import failed
from service.local.process import ProcessId
from service.local.stack import erase
from service.local.state import read_state

TURNSTILE = [str(Path(sys.executable).with_name("turnstile"))]
RUN_SECONDS_MAX = 240
STOP_SECONDS_MAX = 30
PLANTED = """
from client import ClientError
from service.cli.entry import main
from service.demo import scenarios

async def wrong(scene):
    scene.check("two and two", 5, 2 + 2)
    scene.check("one and one", 2, 1 + 1)

async def broken(scene):
    await scene.create("left-open")
    raise ClientError("the lights went out")

scenarios.SCENARIOS = {
    "lifecycle": scenarios.Scenario("lifecycle", "a check that fails", wrong),
    "stress": scenarios.Scenario("stress", "an end that never comes", broken),
}
main()
"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a data folder that the tests use one after another, as re-runs do."""
    folder = tmp_path_factory.mktemp("demo") / ".turnstile"
    yield folder
    asyncio.run(erase(folder))


def environment(data_dir: Path) -> Mapping[str, str]:
    """Return an environment in which the demo has its own servers, whatever the settings name."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TURNSTILE_")}
    return ours | {"TURNSTILE_DATA_DIR": str(data_dir), "TURNSTILE_HTTP_PORT": "0"}


def run(data_dir: Path, *arguments: str, command: list[str] = TURNSTILE) -> "subprocess.CompletedProcess[str]":
    """Run the demo without a terminal to its end."""
    return subprocess.run(
        [*command, "demo", *arguments],
        env=environment(data_dir),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )


def checks(ran: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    """Return what `--json` printed."""
    return [json.loads(line) for line in ran.stdout.splitlines()]


def servers(data_dir: Path) -> list[ProcessId]:
    """Return the servers that the folder's state tells of."""
    state = read_state(data_dir)
    return [server.process for server in state.servers.values()] if state else []


def of_this_demo(data_dir: Path) -> list[int]:
    """Return the processes, workers among them, that were started for this folder and still run."""
    wanted = f"TURNSTILE_DATA_DIR={data_dir}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.stack
def test_every_scenario_holds(data_dir: Path) -> None:
    """Without a terminal and without names all scenarios are played, and each check holds."""
    ran = run(data_dir, "--json")
    made = checks(ran)
    assert [] == [check for check in made if not check["ok"]], ran.stderr
    assert ran.returncode == 0, ran.stderr
    assert list(SCENARIOS) == list(dict.fromkeys(check["scenario"] for check in made))
    numbers: Counter[str] = Counter()
    for check in made:
        numbers[check["scenario"]] += 1
        assert numbers[check["scenario"]] == check["check"]
    assert min(numbers.values()) > 1
    assert [] == of_this_demo(data_dir)


@pytest.mark.stack
def test_a_failing_check_fails_the_run_and_is_named(data_dir: Path) -> None:
    """A check that fails, or a scenario that breaks off, gives exit 1; the others are played all the same."""
    ran = run(data_dir, "--json", command=[sys.executable, "-c", PLANTED])
    assert ran.returncode == 1, ran.stderr
    assert [
        ("lifecycle", 1, False),
        ("lifecycle", 2, True),
        ("stress", 1, False),
    ] == [(check["scenario"], check["check"], check["ok"]) for check in checks(ran)]
    assert "lifecycle 1 failed: two and two" in ran.stderr
    assert "stress 1 failed: the scenario comes to its end" in ran.stderr
    assert checks(ran)[-1]["actual"] == "the lights went out"


@pytest.mark.stack
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_ctrl_c_leaves_nothing_behind(data_dir: Path) -> None:
    """Interrupted while the killed worker comes back, it stops within seconds and leaves no process."""
    with subprocess.Popen(
        [*TURNSTILE, "demo", "--json", "--scenario", "recovery"],
        env=environment(data_dir),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as ran:
        try:
            assert ran.stdout is not None
            assert json.loads(ran.stdout.readline())["ok"]
            started = servers(data_dir)
            assert [True, True] == [server.alive for server in started]
            ran.send_signal(signal.SIGINT)
            _, said = ran.communicate(timeout=STOP_SECONDS_MAX)
        finally:
            ran.kill()
    assert ran.returncode == 130, said
    assert "Traceback" not in said
    assert [False, False] == [server.alive for server in started]
    assert [] == of_this_demo(data_dir)


def test_names_are_played_once_in_the_order_given() -> None:
    """A name given twice is played once; no name means all."""
    assert ["stress", "lifecycle"] == [each.name for each in choose(["stress", "lifecycle", "stress"])]
    assert list(SCENARIOS) == [each.name for each in choose([])]


@pytest.mark.parametrize("name", [*LATER, "lifecycles"])
def test_an_unknown_name_is_told_those_there_are(name: str) -> None:
    """An unknown name, or one of a later release, is answered with the names."""
    with pytest.raises(UnknownScenarioError) as told:
        choose(["lifecycle", name])
    assert all(known in str(told.value) for known in [name, *SCENARIOS, *LATER])


def test_checks_are_numbered_and_told_as_they_are_made() -> None:
    """Each check is numbered from 1 and reported at once; what does not equal has failed."""
    told: list[Check] = []
    checklist = Checklist("lifecycle", told.append)
    checklist.check("holds", [1, "a"], [1, "a"])
    checklist.check("does not", {"a": 1}, {"a": 2})
    assert told == checklist.made
    assert [(1, True), (2, False)] == [(check.number, check.ok) for check in told]
    assert told[1:] == failed(told)
    assert told[1].written() == {
        "scenario": "lifecycle",
        "check": 2,
        "what": "does not",
        "ok": False,
        "expected": {"a": 1},
        "actual": {"a": 2},
    }
