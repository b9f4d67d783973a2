"""A worker is killed again and again under load; every promise still holds when the last one has caught up."""

import asyncio
from pathlib import Path

import pytest

from service.app import Endpoints
from service.settings import Settings
from tests.e2e.audit import differences, look
from tests.e2e.load import keep_sending
from tests.e2e.outside import all_decided, busy, worker_process

pytestmark = pytest.mark.stack
KILLS = 3


@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
async def test_nothing_is_lost_or_doubled_by_kills(
    settings: Settings, endpoints: Endpoints, tmp_path: Path, delivery: str
) -> None:
    """Each command has one outcome, the topics say what the journal says, and each row is the fold of its events."""
    chosen = settings.model_copy(update={"delivery": delivery})
    enough = asyncio.Event()
    sending = asyncio.create_task(keep_sending(chosen, endpoints, enough, seed=7))
    try:
        async with worker_process(chosen, endpoints, tmp_path / "worker.log") as worker:
            for _ in range(KILLS):
                await busy(endpoints)
                await worker.kill()
                await worker.start()
            await busy(endpoints)
            enough.set()
            sent = await sending
            await all_decided(chosen, endpoints)
            assert 0 == await worker.stop()
    finally:
        enough.set()
        await sending
    seen = await look(chosen, endpoints)
    assert (sent, []) == (len(seen.commands), differences(seen, repeats=delivery == "at-least-once"))
