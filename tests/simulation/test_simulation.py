"""The worker in simulated worlds: no seed breaks a promise, every fault strikes, a seed replays exactly."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.__main__ import main
from tests.simulation.run import FAULTS, Totals, load, run, run_chunk
from tests.simulation.world import simulate

ROOT = Path(__file__).parents[2]
REFUSED_SHARE_MIN = 0.2


def broken(totals: Totals) -> list[str]:
    """Say what broke and how to see it again."""
    return [
        f"{rule}: {detail}; replay it: python -m tests.simulation {seed}"
        for seed, violations in totals.broken.items()
        for rule, detail in violations
    ]


def test_fifty_worlds_keep_every_promise() -> None:
    """Safe throughout, and live once they are healed."""
    totals = run_chunk(0, 50)
    assert [] == broken(totals)
    assert 50 == totals.seeds


@pytest.mark.timeout(900)
@pytest.mark.stack  # it needs no server, but more time than `make check` has
def test_a_thousand_worlds_keep_every_promise_and_meet_every_fault() -> None:
    """Safe throughout, live once healed; each kind of fault struck, and at least a fifth of the commands is refused."""
    said: list[str] = []
    totals = run(1000, state=None, jobs=2, say=said.append)
    assert [] == broken(totals)
    assert (1000, []) == (totals.seeds, totals.never_struck)
    assert totals.struck["commands refused"] > REFUSED_SHARE_MIN * totals.struck["commands decided"]
    assert said[-1].startswith("1,000 seeds: ")


def test_a_seed_replays_exactly() -> None:
    """Two processes with other hash seeds take the same steps; another seed takes others."""
    digests = []
    for hash_seed in ("1", "2"):
        ran = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "7"],
            cwd=ROOT, env={"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        digests.append(ran.stdout)
    assert digests[0] == digests[1]
    here = simulate(7)
    assert f"{here.steps} steps, digest {here.digest}, 0 violations" == digests[0].splitlines()[-1]
    assert here.digest != simulate(8).digest


def test_a_run_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    """The state names the next seed and keeps the running totals."""
    state = tmp_path / "deep" / "state.json"
    first = run(3, state=state, jobs=1, say=lambda _: None)
    second = run(4, state=state, jobs=1, say=lambda _: None)
    whole = run_chunk(0, 7)
    assert (7, 7) == (second.next_seed, second.seeds)
    assert whole.struck == second.struck == load(state).struck
    assert first.seeds == 3
    assert [] == list(state.parent.glob("*.new"))


def test_a_violation_ends_the_run_and_says_how_to_see_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is not zero, the next run begins with the seed that failed, and its replay fails as well."""
    state = tmp_path / "state.json"
    assert 1 == main(["--seeds", "100", "--mutant", "no fence", "--state", str(state)])
    said = capsys.readouterr().out.splitlines()
    seed = load(state).next_seed
    assert f"replay it: python -m tests.simulation {seed} --mutant 'no fence'" == said[-1]
    assert 1 == main([str(seed), "--mutant", "no fence"])
    broken_again = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"seed {seed} breaks")]
    assert [line for line in said if line.startswith(f"seed {seed} breaks")] == broken_again


def test_faults_that_never_struck_are_named() -> None:
    """A run in which nothing happened has tested nothing."""
    assert list(FAULTS) == Totals().never_struck
