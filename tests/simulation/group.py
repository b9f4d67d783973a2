"""The consumer group as the broker keeps it: sessions, generations, and rebalances that stop everyone."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from tests.simulation.network import Surroundings

SESSION_SECONDS = 6.0
SWEEP_SECONDS = 1.0


class Membership(NamedTuple):
    """What a member is told when a rebalance ends."""

    generation: int
    parts: Sequence[int]


class Group:
    """One group over the partitions of the commands topic; partitions are dealt out in ranges."""

    def __init__(self, around: Surroundings, *, parts: int) -> None:
        self.generation = 0
        self._around = around
        self._parts = parts
        self._heard: dict[str, float] = {}
        self._joining: dict[str, asyncio.Future[Membership]] = {}
        self._balanced = True

    async def join(self, member: str) -> Membership:
        """Wait until every living member has come, and return what is this one's."""
        self._heard[member] = self._around.loop.time()
        self.rebalance()
        waiting: asyncio.Future[Membership] = asyncio.get_running_loop().create_future()
        self._joining[member] = waiting
        self._end_if_complete()
        return await waiting

    def heartbeat(self, member: str, generation: int) -> str:
        """Return "ok", "rebalance", or "unknown" for a member that was given up."""
        if member not in self._heard:
            return "unknown"
        self._heard[member] = self._around.loop.time()
        if not self._balanced:
            return "rebalance"
        return "ok" if generation == self.generation else "unknown"

    def leave(self, member: str) -> None:
        """Let a member go."""
        if self._heard.pop(member, None) is not None:
            self._joining.pop(member, None)
            self.rebalance()
            self._end_if_complete()

    def rebalance(self) -> None:
        """Ask every member to join again."""
        if self._balanced:
            self._around.struck["rebalances"] += 1
            self._around.say("the group rebalances")
        self._balanced = False

    async def sweep(self) -> None:
        """Give up members that were not heard of."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = self._around.loop.time()
            for member, heard in list(self._heard.items()):
                if member not in self._joining and now - heard > SESSION_SECONDS:
                    self._around.struck["sessions expired"] += 1
                    self._around.say(f"the session of {member} expires")
                    self.leave(member)

    def _end_if_complete(self) -> None:
        members = sorted(self._heard)
        if self._balanced or not members or any(member not in self._joining for member in members):
            return
        self._balanced = True
        self.generation += 1
        joining, self._joining = self._joining, {}
        share, more = divmod(self._parts, len(members))
        first = 0
        for number, member in enumerate(members):
            parts = range(first, first + share + (number < more))
            first = parts.stop
            self._heard[member] = self._around.loop.time()
            if not joining[member].done():
                joining[member].set_result(Membership(self.generation, parts))
