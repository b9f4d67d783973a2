"""Lets others have the event loop while work goes on, by the time that has passed: two records may differ much."""

import asyncio
from collections.abc import Callable

SECONDS = 0.01


def loop_time() -> float:
    """Return the time by the running loop's own clock."""
    return asyncio.get_running_loop().time()


class Breath:
    """How long it is since others had the loop."""

    def __init__(self, timer: Callable[[], float] = loop_time) -> None:
        self._timer = timer
        self._since = timer()

    async def taken(self) -> None:
        """Let others have the loop, where they have not had it for a while."""
        if self._timer() - self._since >= SECONDS:
            await asyncio.sleep(0)
            self._since = self._timer()
