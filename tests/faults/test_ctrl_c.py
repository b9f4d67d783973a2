"""Ctrl-C in a round of the long form: it ends soon, undoes what was done, leaves nothing running, and says so."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.eventually import PATIENCE_SECONDS, assert_eventually
from tests.faults.faults import faults
from tests.faults.run import STOPPED
from tests.faults.stage import heeding_ctrl_c


@pytest.mark.stack
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "sign"),
    [("pause", "struck"), ("broker disk full", "servers/kafka/filler"), ("connections dropped", "evidence/timers")],
    ids=["standing still", "disk full", "judging"],
)
async def test_ctrl_c_leaves_nothing_but_the_evidence(tmp_path: Path, name: str, sign: str) -> None:
    """It comes as soon as the round's folder has `sign`, to the one process or, as a terminal does it, to all."""
    (fault,) = (each for each in faults("exactly-once") if each.name == name)
    if (why := fault.missing()) is not None:
        pytest.skip(why)
    rounds, kept = tmp_path / "rounds", tmp_path / "kept"
    rounds.mkdir()
    with (tmp_path / "said").open("wb") as said:
        run = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.run", "--seed", "1", "--faults", name, "--folder", str(kept)),
            env=os.environ | {"TMPDIR": str(rounds)},
            stdout=said,
            stderr=said,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's & ignores it
        )

    async def there() -> bool:
        assert run.returncode is None, (tmp_path / "said").read_text()
        return any(rounds.glob(f"*/{sign}"))

    try:
        await assert_eventually(expected=True, actual=there, deadline_seconds=4 * PATIENCE_SECONDS)
        os.killpg(run.pid, signal.SIGINT)
        async with asyncio.timeout(2 * PATIENCE_SECONDS):
            assert STOPPED == await run.wait()
    finally:
        if run.returncode is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert ([], []) == (list(rounds.iterdir()), await running(tmp_path))
    assert {"again", "worker-0.log"} <= {path.name for path in (kept / "round-1").iterdir()}
    assert "stopped by Ctrl-C" in (tmp_path / "said").read_text()


async def running(folder: Path) -> list[str]:
    """Return the processes that have to do with a folder."""
    listing = await asyncio.create_subprocess_exec("ps", "-eo", "pid,stat,args", stdout=asyncio.subprocess.PIPE)
    printed, _ = await listing.communicate()
    return [line for line in printed.decode().splitlines() if str(folder) in line]


async def test_ctrl_c_ends_what_only_computes() -> None:
    """Judging waits for nothing for minutes."""
    with pytest.raises(KeyboardInterrupt), heeding_ctrl_c():  # noqa: PT012 - the signal comes at once
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(10_000_000))
