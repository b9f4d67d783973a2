"""The release before and this one side by side: the schema moves under load, workers are replaced one by one."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.app import Endpoints, running
from service.cli.surroundings import prepare
from service.settings import Settings
from service.store.pool import fresh_database
from tests.e2e.audit import differences, look
from tests.e2e.load import SECOND, keep_sending
from tests.e2e.outside import (
    WorkerProcess,
    all_decided,
    busy,
    command,
    creation,
    define,
    move,
    outcomes,
    program,
    put,
    rows,
    send,
    turnstile,
    worker_process,
)
from tests.eventually import assert_eventually

pytestmark = pytest.mark.stack
ROOT = Path(__file__).parents[2]
RELEASED = re.compile(r"^Commit ([0-9a-f]{40}), tag `v(0\.1\.0)`\.$", re.MULTILINE)


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the source of version 0.1.0, from the commit that the changelog names."""
    found = RELEASED.search((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert found is not None, "the changelog does not name the commit of version 0.1.0"
    folder = tmp_path_factory.mktemp("before")
    archive = folder / "source.tar"
    subprocess.run(["git", "archive", "-o", archive, found[1]], cwd=ROOT, check=True)
    source = folder / "source"
    source.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", source], check=True)
    return source


@pytest.fixture
async def old(servers: Endpoints, settings: Settings, before: Path) -> AsyncIterator[Endpoints]:
    """Give a database and topics as version 0.1.0 leaves them."""
    async with fresh_database(servers.database_url, settings.prefix) as database_url:
        given = Endpoints(servers.bootstrap_servers, database_url)
        for words in (("db", "migrate"), ("topics", "create")):
            assert 0 == (await turnstile(settings, given, *words, source=before))[0]
        yield given


async def test_workers_are_replaced_one_by_one_under_load(
    settings: Settings, old: Endpoints, before: Path, tmp_path: Path
) -> None:
    """Old and new workers overlap before and after the migration, one is killed and starts anew: nothing is lost."""
    enough = asyncio.Event()
    sending = asyncio.create_task(keep_sending(settings, old, enough, seed=11))
    try:
        async with (
            worker_process(settings, old, tmp_path / "old-1.log", [*program(before), "serve"], before) as first,
            worker_process(settings, old, tmp_path / "old-2.log", [*program(before), "serve"], before) as second,
        ):
            await busy(old)
            await prepare(settings, old)
            await busy(old)
            async with worker_process(settings, old, tmp_path / "new-1.log") as third:
                await assert_eventually("owner", lambda: _owns(third))
                await busy(old)
                await first.kill()
                await first.start()
                await assert_eventually("owner", lambda: _owns(first))
                await busy(old)
                assert 0 == await second.stop()
                async with worker_process(settings, old, tmp_path / "new-2.log") as fourth:
                    await assert_eventually("owner", lambda: _owns(fourth))
                    assert 0 == await first.stop()
                    await busy(old)
                    enough.set()
                    sent = await sending
                    await all_decided(settings, old)
                    faults = [worker.faults() for worker in (first, second, third, fourth)]
                    assert ["", "", "", ""] == faults
                    assert [0, 0] == [await third.stop(), await fourth.stop()]
    finally:
        enough.set()
        await sending
    seen = await look(settings, old)
    assert (sent, []) == (len(seen.commands), differences(seen))


async def test_the_release_before_starts_on_todays_schema(settings: Settings, old: Endpoints, before: Path) -> None:
    """A worker that goes back to the release before is not refused, and its `db migrate` takes nothing back."""
    await prepare(settings, old)
    version = await rows(old, "select version_num from schema_version")
    assert 0 == (await turnstile(settings, old, "db", "migrate", source=before))[0]
    assert 0 == (await turnstile(settings, old, "db", "check", source=before))[0]
    assert version == await rows(old, "select version_num from schema_version")


async def test_the_release_before_goes_on_with_a_migrated_workflow(
    settings: Settings, old: Endpoints, before: Path, tmp_path: Path
) -> None:
    """On its new version, by its new names; only the command itself it does not know, and binds no id for it."""
    await prepare(settings, old)
    await define(old, SECOND)
    migration = command("w", "migrate_workflow", to_version=2, reason="new names")
    again = command("w", "migrate_workflow", undo=True, reason="too early")
    async with running(settings, old):
        await send(old, settings.topics.commands, [put(creation("w", definition_version=1)), put(migration)])
        await all_decided(settings, old)
    async with worker_process(settings, old, tmp_path / "old.log", [*program(before), "serve"], before) as worker:
        places = await send(
            old, settings.topics.commands, [put(again), put(move("w", "ACTIVE")), put(move("w", "ON_HOLD"))]
        )
        await all_decided(settings, old)
        assert "" == worker.faults()
        assert 0 == await worker.stop()
    became = await outcomes(settings, old)
    assert ["INVALID_COMMAND", "accepted", "accepted"] == [became[place] for place in places]
    assert [("ON_HOLD", 2, 4)] == [
        tuple(row) for row in await rows(old, "select state, definition_version, version from workflow")
    ]
    async with running(settings, old):
        (place,) = await send(old, settings.topics.commands, [put(again)])
        await all_decided(settings, old)
    assert "INVALID_TRANSITION" == (await outcomes(settings, old))[place]


async def _owns(worker: WorkerProcess) -> str:
    return "owner" if await worker.owned() else "waiting"
