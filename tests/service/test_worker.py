"""A worker over ports in memory: what it lets go of, it lets go of in time."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from handlers.ports import JournalRow, Ownership, Turn
from service import worker as module
from service.adapters import Adapters
from service.broker.publishers import Elsewhere
from service.settings import Settings
from service.telemetry import Telemetry
from service.worker import Worker
from tests.eventually import assert_eventually
from tests.fakes.machines import compiled, create, door, sent
from tests.fakes.ports import MemoryBroker, MemoryLog, MemoryPublisher, ScriptedGuards, numbered
from tests.fakes.store import MemoryStore


class AssignedLog(MemoryLog):
    """A log that is told of its consumer."""

    consumer: object = None

    async def reads(self) -> bool:
        """Say whether records would come."""
        return self.fetching


class StillStore(MemoryStore):
    """A store that stands still once a turn is to be written."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()

    async def apply(self, _owned: Ownership, _turn: Turn) -> Ownership:
        """Never answer."""
        self.reached.set()
        await asyncio.Event().wait()
        raise AssertionError


class StillPublisher(MemoryPublisher):
    """A publisher whose broker never answers."""

    async def publish(self, _rows: Sequence[tuple[int, JournalRow]]) -> None:
        """Never answer."""
        await asyncio.Event().wait()


async def test_a_drain_that_is_cut_short_ends_where_nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The turn in flight is given up, and then what its partition had yet to publish."""
    monkeypatch.setattr(module, "DRAIN_SECONDS_MAX", 0.01)
    store, broker, log = StillStore(), MemoryBroker(), AssignedLog(end=10)
    store.add(compiled(door()))
    store.journal[0] = [JournalRow("reply", "k", "w", "t", -1, reply=b"{}")] * 3
    store.rows[0] = replace(store.rows[0], next_seq=4)
    worker = Worker(
        Settings(),
        bootstrap_servers="nobody:1",
        adapters=Adapters(store, ScriptedGuards(), lambda _: StillPublisher(broker), Elsewhere("nobody:1")),
        telemetry=Telemetry(),
    )
    monkeypatch.setattr(worker, "_log", log)
    worker._assigned([0])  # noqa: SLF001 - as the group's coordinator does
    async with asyncio.timeout(60):
        await assert_eventually(expected=True, actual=log.reads)
        worker._sort(numbered([sent(create("w"))]))  # noqa: SLF001 - as the consumer does
        await store.reached.wait()
        await worker._revoked([0])  # noqa: SLF001
    assert {} == worker.phases()
    assert [] == broker.seqs
