"""A token bucket: Kafka transactions per second are the scarce thing, so a worker spends them by a budget."""

import asyncio


class TokenBucket:
    """No pause while tokens last; then callers wait, and what they carry gathers into larger batches."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._filled_at: float | None = None

    async def take(self) -> None:
        """Take one token, waiting for it if there is none."""
        now = asyncio.get_running_loop().time()
        if self._filled_at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._per_second)
