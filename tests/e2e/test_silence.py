"""A verb that waits for events says when the broker has gone away, and goes on when it is back."""

import asyncio
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from service.app import Endpoints
from service.broker.topics import create_topics
from service.local.stack import LocalStack, erase
from service.settings import Settings
from tests.e2e.outside import TURNSTILE, Put, environment, send

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


def changed(version: int) -> Put:
    """Return an event as the service publishes it."""
    about = {"workflow_id": "w", "root_id": "w", "definition": "d", "definition_version": 1, "to_state": "A"}
    event = about | {
        "event_id": str(uuid4()), "event_type": "MOVED", "category": "state", "severity": "info", "message": "it moved",
        "sequence": version, "version": version, "timestamp": "2026-11-22T09:00:00.000000Z",
    }  # fmt: skip
    return Put(orjson.dumps(event), b"w", 0, [("ce_type", b"turnstile.MOVED")])


async def test_watch_says_that_the_broker_is_away_and_goes_on(settings: Settings, tmp_path: Path) -> None:
    """Whoever looks at a silent screen knows whether nothing happens, or nothing is heard."""
    stack = LocalStack(tmp_path, database=False)
    async with stack as local, asyncio.timeout(90):
        endpoints = Endpoints(local.bootstrap_servers, "")
        await create_topics(local.bootstrap_servers, settings.topics, settings.partitions, settings.replication)
        process = await asyncio.create_subprocess_exec(
            TURNSTILE, "watch", "--count", "2", "--from-beginning",
            env=environment(settings, endpoints), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        assert process.stdout is not None
        assert "watching" in (await process.stderr.readline()).decode()
        await send(endpoints, settings.topics.events, [changed(1)])
        assert "it moved" in (await process.stdout.readline()).decode()
        await stack.kill_broker()
        assert "does not answer" in (await process.stderr.readuntil(b"Ctrl-C ends\n")).decode()
        await stack.start_broker()
        assert "answers again\n" in (await process.stderr.readline()).decode()
        await send(endpoints, settings.topics.events, [changed(2)])
        out, err = await process.communicate()
        assert (0, "it moved", "") == (process.returncode, out.decode().strip()[-8:], err.decode())
    await erase(tmp_path)
