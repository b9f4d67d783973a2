"""Workers share the partitions; one that stops, dies or stands still costs time, never an outcome."""

import asyncio
import re
from pathlib import Path

import pytest

from service.app import Endpoints
from service.settings import Settings
from tests.e2e.audit import differences, look
from tests.e2e.load import keep_sending
from tests.e2e.outside import WorkerProcess, all_decided, busy, rows, worker_process
from tests.eventually import assert_eventually

pytestmark = pytest.mark.stack
SURROUNDINGS = 3  # the exit code of "broker, database, schema or topics are not as needed"


FOREIGN = {
    "update partition set cluster_id = 'another'": (
        r"this database belongs to Kafka cluster another, but the broker is \S+: give the broker"
    ),
    "update partition set n_parts = 12": (
        r"the commands topic has 3 partitions, but 12 were used: the topic was made anew"
    ),
    "update partition set n_parts = 2": (
        r"the commands topic has 3 partitions, the database knows 2: run `turnstile topics grow`"
    ),
}


async def test_a_worker_does_not_start_on_a_log_that_is_not_its_own(
    settings: Settings, endpoints: Endpoints, tmp_path: Path
) -> None:
    """On another cluster, or fewer or more partitions than it knows, `serve` ends, says why and what to do."""
    async with worker_process(settings, endpoints, tmp_path / "worker.log") as worker:
        await assert_eventually(settings.partitions, worker.owned)
        assert 0 == await worker.stop()
    known = (await rows(endpoints, "select cluster_id, n_parts from partition"))[0]
    for number, (change, said) in enumerate(FOREIGN.items()):
        log = tmp_path / f"{number}.log"
        await rows(endpoints, change)
        async with worker_process(settings, endpoints, log) as worker:
            assert SURROUNDINGS == await worker.ended()
        printed = " ".join(log.read_text().split())
        assert re.search(said, printed), printed
        await rows(endpoints, "update partition set cluster_id = $1, n_parts = $2", *known)


async def test_two_workers_share_and_survive_each_other(
    settings: Settings, endpoints: Endpoints, tmp_path: Path
) -> None:
    """One is stopped, one killed, one stands still until it is replaced: each command has one outcome all the same."""
    enough = asyncio.Event()
    sending = asyncio.create_task(keep_sending(settings, endpoints, enough, seed=11))
    try:
        async with (
            worker_process(settings, endpoints, tmp_path / "one.log") as one,
            worker_process(settings, endpoints, tmp_path / "two.log") as two,
        ):
            await _shared(one, two)
            await busy(endpoints)
            assert 0 == await one.stop()
            await assert_eventually(settings.partitions, two.owned)
            await busy(endpoints)
            await one.start()
            await _shared(one, two)
            await busy(endpoints)
            await two.kill()
            await assert_eventually(settings.partitions, one.owned)
            await two.start()
            await _shared(one, two)
            with one.standing_still():
                await assert_eventually(settings.partitions, two.owned)
                await busy(endpoints)
            await _shared(one, two)
            await busy(endpoints)
            enough.set()
            sent = await sending
            await all_decided(settings, endpoints)
            assert [0, 0] == [await one.stop(), await two.stop()]
            assert ["", ""] == [one.faults(), two.faults()]
    finally:
        enough.set()
        await sending
    seen = await look(settings, endpoints)
    assert (sent, []) == (len(seen.commands), differences(seen))


async def _shared(one: WorkerProcess, two: WorkerProcess) -> None:
    """Wait until both own partitions."""

    async def owners() -> int:
        return [await one.owned() > 0, await two.owned() > 0].count(True)

    await assert_eventually(2, owners)
