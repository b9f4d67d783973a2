"""What a worker looks at besides its records: halts and resumes, the cluster it speaks to, whether its consumer lives.

Each look is cheap, and only a difference costs anything. Time is counted in looks taken, never in seconds passed: a
process that stood still, or its machine, has taken none meanwhile and is not to be ended for it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from handlers.faults import Fault, Transient
from handlers.ports import Claims
from handlers.routes import REBALANCE_MS, SESSION_MS
from service.broker.cluster import ClusterFacts, TopicsError
from service.ownership import Phase
from service.worker import Worker

ROWS_SECONDS = 2.0
CLUSTER_SECONDS = 10.0
CONSUMER_SECONDS = 1.0
STILL_LOOKS_MAX = 2 * SESSION_MS // 1000
REJOINING_LOOKS_MAX = (REBALANCE_MS + 2 * SESSION_MS) // 1000
SUSPICIOUS_LOOKS = 3

log = structlog.get_logger()

Ask = Callable[[], Awaitable[ClusterFacts]]


class StuckError(Fault):
    """The process cannot go on by itself, though what it needs is there; a new one can."""


class Stillness:
    """Counts the looks since what is seen last changed."""

    def __init__(self) -> None:
        self.looks = 0
        self._last: object = None

    def look(self, *seen: object) -> int:
        """Return how many looks in a row have seen the same."""
        self.looks = self.looks + 1 if seen == self._last else 0
        self._last = seen
        return self.looks


class Watch:
    """One worker's looks around; `run` ends when it is cancelled, or when the worker cannot go on."""

    def __init__(self, worker: Worker, *, claims: Claims, ask: Ask, expected: ClusterFacts) -> None:
        self._worker = worker
        self._claims = claims
        self._ask = ask
        self._expected = expected
        self._strange = 0
        self._polls = Stillness()
        self._beats = Stillness()
        self.stuck: str | None = None

    async def run(self) -> None:
        """Look until cancelled; a worker that is stuck, or whom a look cost a fault, is told to fail."""
        try:
            async with asyncio.TaskGroup() as looking:
                looking.create_task(_every(ROWS_SECONDS, self.look_at_rows))
                looking.create_task(_every(CLUSTER_SECONDS, self.look_at_cluster))
                looking.create_task(_every(CONSUMER_SECONDS, self.look_at_consumer))
        except* StuckError as stuck:
            self.stuck = str(stuck.exceptions[0])
            log.critical("worker.stuck", reason=self.stuck)
            self._worker.fail(stuck.exceptions[0])
        except* Fault as faults:
            self._worker.fail(faults.exceptions[0])  # itself, not its group: how the process ends goes by its kind

    async def look_at_rows(self) -> None:
        """Have a partition claimed anew that was halted or resumed meanwhile."""
        halts = await self._claims.halts()
        for part, (phase, _) in self._worker.phases().items():
            if phase is Phase.ACTIVE and halts.get(part) is not None:
                self._worker.look_again(part, "it was halted")
            elif phase is Phase.HALTED and part in halts and halts[part] is None:
                self._worker.look_again(part, "it was resumed")

    async def look_at_cluster(self) -> None:
        """Halt all partitions once another cluster answers, or one with fewer partitions: seen twice, to be certain."""
        try:
            found = await self._ask()
        except TopicsError:
            return
        reason = _strangeness(self._expected, found)
        self._strange = self._strange + 1 if reason else 0
        if reason and self._strange > 1:
            await self._claims.halt_all(reason)

    async def look_at_consumer(self) -> None:
        """Raise StuckError where the consumer is dead although the broker answers."""
        consumer = self._worker.consumer
        if consumer is None:
            return
        if not self._worker.consuming:
            raise StuckError("nobody takes what the consumer fetches any more")
        if (ended := consumer.ended()) is not None:
            raise StuckError(f"the consumer's task of {ended} has ended")
        rejoining = consumer.rejoining  # nobody polls or beats then, and what was still in it begins anew after it
        limit = REJOINING_LOOKS_MAX if rejoining else STILL_LOOKS_MAX
        if self._polls.look(rejoining, consumer.polls) > limit:
            raise StuckError(f"the consumer has not been polled for {limit} looks, one a second")
        if self._beats.look(rejoining, consumer.beats) > SUSPICIOUS_LOOKS:
            try:
                await self._ask()
            except TopicsError:  # the broker is away: waiting is right
                self._beats.looks = self._polls.looks = 0
        if self._beats.looks > limit:
            raise StuckError(
                f"the group has heard no heartbeat for {limit} looks, one a second, though the broker answers"
            )


async def _every(seconds: float, look: Callable[[], Awaitable[None]]) -> None:
    """Look until cancelled, also where a look has swallowed that: `wait_for` does, before Python 3.12."""
    task = asyncio.current_task()
    while task is not None and not task.cancelling():
        await asyncio.sleep(seconds)
        with suppress(Transient):
            await look()


def _strangeness(expected: ClusterFacts, found: ClusterFacts) -> str | None:
    if found.cluster_id != expected.cluster_id:
        return f"the broker is of cluster {found.cluster_id}, this database belongs to {expected.cluster_id}"
    if found.partitions < expected.partitions:
        return (
            f"the commands topic has {found.partitions} partitions, {expected.partitions} were used: it was made anew"
        )
    return None
