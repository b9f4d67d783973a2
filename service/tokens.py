"""Kafka transactions are the scarce thing: a worker spends them by a budget per second, and few at once.

A broker with little CPU shares it among all transactions under way, and each takes as long as all of them: one after
the other the same transactions end sooner on average, and those that wait gather more rows.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

AT_ONCE = 2
HELD_SECONDS_MAX = 0.1
"""A transaction that takes longer gives its place to others: one partition's trouble must not hold up the rest."""


class TokenBucket:
    """No pause while tokens last; then callers wait, and what they carry gathers into larger batches."""

    def __init__(self, per_second: float, burst: float, *, at_once: int = AT_ONCE) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._filled_at: float | None = None
        self._places = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def spend(self) -> AsyncIterator[None]:
        """Spend a token on the block, waiting for one, and for a place, if there is none."""
        await self._places.acquire()
        try:
            await self._take()
        except BaseException:
            self._places.release()
            raise
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self._places.release()

        timer = asyncio.get_running_loop().call_later(HELD_SECONDS_MAX, leave)
        try:
            yield
        finally:
            timer.cancel()
            leave()

    async def _take(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._filled_at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._per_second)
