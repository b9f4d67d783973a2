"""A process from its start to a signal, with a service that only says how far it got."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from service import app, memory
from service.app import Endpoints, serve
from service.settings import Settings


class Stage:
    """A service that starts when it may."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_start = asyncio.Event()
        self.started = asyncio.Event()
        self.closed = False
        self.fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def running(self, *_: object, **__: object) -> AsyncIterator[SimpleNamespace]:
        """Start, and close in the end."""
        try:
            self.begun.set()
            await self.may_start.wait()
            yield SimpleNamespace(turns=None, worker=self)
        finally:
            await asyncio.sleep(0)
            self.closed = True

    async def failed(self) -> None:
        """Wait for a fault."""
        self.started.set()
        await self.fault


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Give a service that `serve` runs instead of the real one."""
    made = Stage()
    monkeypatch.setattr(app, "running", made.running)
    monkeypatch.setattr(app, "end_when_still", lambda *_, **__: None)
    monkeypatch.setattr(memory, "settle", lambda: None)
    return made


def serving() -> "asyncio.Task[None]":
    """Begin to serve."""
    return asyncio.create_task(serve(Settings(), Endpoints("nobody:1", "postgresql://nobody:1/none")))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_is_heard_before_the_service_has_started(stage: Stage, number: signal.Signals) -> None:
    """A worker may wait for a minute until the group gives it partitions."""
    process = serving()
    await stage.begun.wait()
    signal.raise_signal(number)
    async with asyncio.timeout(60):
        await process
    assert (stage.closed, stage.started.is_set()) == (True, False)


async def test_a_signal_closes_a_service_that_runs(stage: Stage) -> None:
    """Whoever repeats it does not cut that short."""
    stage.may_start.set()
    process = serving()
    await stage.started.wait()
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        await process
    assert stage.closed


async def test_a_fault_ends_the_process(stage: Stage) -> None:
    """It is raised once the service is closed."""
    stage.may_start.set()
    process = serving()
    await stage.started.wait()
    stage.fault.set_exception(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(60):
            await process
    assert stage.closed
