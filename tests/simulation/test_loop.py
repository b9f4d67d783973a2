"""The seeded loop itself: order within a process, any order between processes, virtual time, death and pause."""

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import Any

import pytest

from tests.simulation.loop import Process, SeededLoop, StalledError, seeded_loop


def loop_of(seed: int) -> SeededLoop:
    """Return a loop of a seed."""
    return seeded_loop(Random(seed))


def start(loop: SeededLoop, process: Process, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """Start a task in a process."""
    return loop.create_task(work, context=loop.context_of(process))


async def count(name: str, seen: list[str], steps: int) -> None:
    """Take steps and write each down."""
    for step in range(steps):
        seen.append(f"{name}{step}")
        await asyncio.sleep(0)


def interleaved(seed: int) -> tuple[list[str], str]:
    """Run two processes of one task each."""
    loop, seen = loop_of(seed), list[str]()
    tasks = [start(loop, loop.process(name), count(name, seen, 4)) for name in "ab"]
    loop.run_until_complete(asyncio.wait(tasks))
    return seen, loop.digest


def test_processes_interleave_by_the_seed_and_each_keeps_its_own_order() -> None:
    """The same seed gives the same order and digest; seeds differ; within a process nothing is reordered."""
    runs = [interleaved(seed) for seed in range(20)]
    assert runs == [interleaved(seed) for seed in range(20)]
    assert len({tuple(seen) for seen, _ in runs}) > 10
    for seen, _ in runs:
        assert ["a0", "a1", "a2", "a3"] == [name for name in seen if name.startswith("a")]


def test_time_is_virtual() -> None:
    """An hour passes at once, and a deadline strikes within it."""
    loop = loop_of(1)

    async def wait() -> float:
        try:
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        except TimeoutError:
            return asyncio.get_running_loop().time()
        return -1

    assert 3600 == loop.run_until_complete(wait())


def test_a_dead_process_takes_no_step_more() -> None:
    """Not even its `finally` runs until the world is buried."""
    loop, seen = loop_of(1), list[str]()
    process = loop.process("victim")

    async def work() -> None:
        try:
            await count("step", seen, 1000)
        finally:
            seen.append("finally")

    async def watch() -> list[str]:
        start(loop, process, work())
        process.light(10, lambda: loop.kill(process))
        await asyncio.sleep(100)
        return list(seen)

    assert [f"step{step}" for step in range(10)] == loop.run_until_complete(watch())
    loop.bury()
    assert "finally" == seen[-1]


def test_a_paused_process_goes_on_where_it_was() -> None:
    """What it missed waits for it, its own timers as well."""
    loop, seen = loop_of(1), list[str]()
    process = loop.process("sleeper")

    async def work() -> None:
        for step in range(3):
            await asyncio.sleep(1)
            seen.append(f"{step} at {asyncio.get_running_loop().time():g}")

    async def watch() -> None:
        task = start(loop, process, work())
        await asyncio.sleep(1.5)
        process.paused = True
        await asyncio.sleep(10)
        process.paused = False
        await task

    loop.run_until_complete(watch())
    assert ["0 at 1", "1 at 11.5", "2 at 12.5"] == seen


def test_a_loop_on_which_nothing_can_happen_says_so() -> None:
    """A deadlock of everybody is found at once."""
    with pytest.raises(StalledError):
        loop_of(1).run_until_complete(asyncio.Event().wait())
