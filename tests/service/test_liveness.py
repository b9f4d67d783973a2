"""The thread that ends a process whose loop stands still, seen from outside, in processes of their own."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.app import STUCK
from service.watch import Stillness

PROCESS = """
import asyncio, sys, time
from service import liveness
from service.telemetry import Telemetry

liveness.STEP_SECONDS = liveness.TURN_SECONDS = 0.1

async def main():
    turns = liveness.LoopTurns(Telemetry())
    counting = asyncio.create_task(turns.run())
    liveness.end_when_still(turns, code=5)
    while turns.count < 3:
        await asyncio.sleep(0.1)
    print("turning", flush=True)
    if "block" in sys.argv:
        time.sleep(600)
    line = await asyncio.to_thread(sys.stdin.readline)
    print("heard", line.strip(), flush=True)
    counting.cancel()

asyncio.run(main())
"""
STANDS_SECONDS = 5.0  # twice what the thread grants a loop in these processes


@asynccontextmanager
async def process(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the process above until the end of the block."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROCESS, *words,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def test_a_blocked_loop_ends_its_process() -> None:
    """It ends with the code that means "start it again", and the log says where it stood."""
    async with process("block") as blocked, asyncio.timeout(120):
        printed, _ = await blocked.communicate()
    assert STUCK == blocked.returncode
    assert "loop.stuck" in printed.decode()
    assert "time.sleep(600)" in printed.decode() or "in main" in printed.decode()


async def test_a_process_that_was_stopped_goes_on() -> None:
    """Standing still with its whole process is nothing to end it for: its thread stood still as well."""
    async with process() as stopped, asyncio.timeout(120):
        assert stopped.stdin is not None
        assert stopped.stdout is not None
        assert b"turning\n" == await stopped.stdout.readline()
        stopped.send_signal(signal.SIGSTOP)
        await asyncio.sleep(STANDS_SECONDS)  # the fault itself
        stopped.send_signal(signal.SIGCONT)
        stopped.stdin.write(b"you\n")
        await stopped.stdin.drain()
        assert b"heard you\n" == await stopped.stdout.readline()
        assert 0 == await stopped.wait()


def test_stillness_counts_looks_without_a_change() -> None:
    """Each look that finds the same number counts one; a change begins anew."""
    stillness = Stillness()
    assert [0, 1, 2, 0, 1] == [stillness.look(count) for count in (7, 7, 7, 8, 8)]
