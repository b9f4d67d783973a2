"""When a consumer is taken for dead: after looks that saw nothing move, and never for a rejoin that was long."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from handlers.faults import Fault
from service.broker.cluster import ClusterFacts
from service.watch import REJOINING_LOOKS_MAX, STILL_LOOKS_MAX, StuckError, Watch
from service.worker import Worker
from tests.fakes.store import MemoryStore

FACTS = ClusterFacts("cluster", 6)


@dataclass
class Consumer:
    """A consumer as the watch sees it."""

    polls: int = 0
    beats: int = 0
    rejoining: bool = False

    def ended(self) -> str | None:
        """Say that nothing has ended."""
        return None


@dataclass
class Watched:
    """A worker whose consumer does what the test says."""

    consumer: Consumer = field(default_factory=Consumer)
    consuming: bool = True
    failed: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        async def answers() -> ClusterFacts:
            return FACTS

        worker: Any = self
        self.watch = Watch(cast("Worker", worker), claims=MemoryStore(parts=6), ask=answers, expected=FACTS)

    def fail(self, fault: BaseException) -> None:
        """Note what ends the process."""
        self.failed.append(fault)

    async def looks(self, number: int, *, polls: int = 0, beats: int = 0) -> None:
        """Look so often, while the consumer does so much between two looks."""
        for _ in range(number):
            self.consumer.polls += polls
            self.consumer.beats += beats
            await self.watch.look_at_consumer()


async def test_it_ends_though_a_look_swallows_that_it_is_told_to() -> None:
    """As a library's may: else the worker would go on for ever after SIGTERM."""
    watched, looking = Watched(), asyncio.Event()

    async def swallows() -> None:
        looking.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)

    watched.watch.look_at_consumer = swallows  # type: ignore[method-assign]
    running = asyncio.create_task(watched.watch.run())
    await looking.wait()
    running.cancel()
    assert ({running}, set()) == await asyncio.wait({running}, timeout=60)
    assert running.cancelled()


async def test_a_fault_that_a_look_meets_ends_the_worker_as_itself() -> None:
    """Not within a group, which would be nobody's fault: its kind says how the process ends."""
    watched, fault = Watched(), Fault("XX001: could not read block 3")

    async def meets() -> None:
        raise fault

    watched.watch.look_at_consumer = meets  # type: ignore[method-assign]
    await watched.watch.run()
    assert [fault] == watched.failed


async def test_a_long_rejoin_is_no_death() -> None:
    """A rejoin may last longer than a living consumer is ever still, and its first heartbeat comes a while after it."""
    watched = Watched()
    await watched.looks(5, polls=1, beats=1)
    watched.consumer.rejoining = True
    await watched.looks(STILL_LOOKS_MAX + 5)
    watched.consumer.rejoining = False
    await watched.looks(2, polls=1)
    await watched.looks(5, polls=1, beats=1)


@pytest.mark.parametrize(("polls", "beats", "word"), [(0, 1, "polled"), (1, 0, "heartbeat")])
async def test_a_still_consumer_is_dead(polls: int, beats: int, word: str) -> None:
    """It is given its time, and not a look more."""
    watched = Watched()
    await watched.looks(STILL_LOOKS_MAX + 1, polls=polls, beats=beats)
    with pytest.raises(StuckError, match=word):
        await watched.looks(1, polls=polls, beats=beats)


async def test_a_rejoin_without_end_is_one_too() -> None:
    """Beyond what a rebalance may take, a consumer that still rejoins is dead."""
    watched = Watched()
    watched.consumer.rejoining = True
    await watched.looks(REJOINING_LOOKS_MAX + 1)
    with pytest.raises(StuckError):
        await watched.looks(1)
