"""The client of a round, called off: whatever the broker does, it is soon gone."""

import asyncio
from pathlib import Path

import pytest

from service.app import Endpoints
from service.cli.surroundings import prepare
from service.local.stack import LocalStack, erase
from service.settings import Settings
from tests.e2e.load import commands
from tests.eventually import PATIENCE_SECONDS, assert_eventually
from tests.faults.sender import Sender, spoilt

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]
WAITING = 200
"""So many records without an answer are more than were on their way when the broker died."""


async def test_a_client_that_is_called_off_does_not_wait_for_a_broker_that_is_away(
    settings: Settings, tmp_path: Path
) -> None:
    """Records wait for a dead broker when the round ends as Ctrl-C ends it."""
    stack = LocalStack(tmp_path / "servers")
    async with stack as local:
        endpoints = Endpoints(local.bootstrap_servers, local.database_url)
        await prepare(settings, endpoints)
        stream = spoilt(commands(seed=1, workflows=10), seed=1, partitions=settings.partitions)
        sender = Sender(settings, endpoints, stream)

        async def answered() -> bool:
            return any(sent.place for sent in sender.log)

        async def waiting() -> bool:
            return sum(sent.place is None for sent in sender.log) > WAITING

        async def play() -> None:
            async with sender.running():
                await asyncio.Event().wait()

        playing = asyncio.create_task(play())
        await assert_eventually(expected=True, actual=answered)
        await stack.kill_broker()
        await assert_eventually(expected=True, actual=waiting)
        playing.cancel()
        await asyncio.wait({playing}, timeout=PATIENCE_SECONDS)
        assert playing.cancelled()
    await erase(tmp_path / "servers")
