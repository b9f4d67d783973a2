"""Publishers for tests."""

import asyncio
from collections.abc import Callable

from handlers.faults import Transient
from service.broker.publishers import TransactionalPublisher

PATIENCE_SECONDS = 60


async def started(publisher: Callable[[], TransactionalPublisher]) -> TransactionalPublisher:
    """Start publishers until one does: a new broker makes its coordinators while the first clients ask."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            made = publisher()
            try:
                await made.start()
            except Transient:
                await made.close()
            else:
                return made
