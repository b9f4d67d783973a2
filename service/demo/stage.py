"""Sets the stage: broker, database, a worker in a process of its own, and eyes on rows and events."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib.resources import files
from secrets import token_hex
from uuid import UUID

from aiokafka.errors import KafkaError

from client import Client, ClientError
from contracts.rejections import Code
from handlers.faults import Fault
from service.app import NotReadyError
from service.cli.surroundings import embedded, writing
from service.definitions.files import read_definition
from service.demo.checks import Check, Checklist
from service.demo.events import EventLog
from service.demo.machine import BOUNDED
from service.demo.rows import Rows
from service.demo.scenarios import Scenario
from service.demo.scene import Scene, close_all
from service.demo.screen import Screen
from service.demo.worker import WorkerProcess, working
from service.settings import Settings
from service.store.definitions import apply_definition
from service.store.pool import Connection

LEFT_SECONDS = 60.0
"""An open workflow of the demo that nothing has touched for so long was left by a run that was interrupted."""
WENT_WRONG = (ClientError, Fault, NotReadyError, KafkaError, OSError)


@dataclass(frozen=True, slots=True)
class Stage:
    """All that scenarios share; `run` tells this run's ids from others'."""

    run: str
    settings: Settings
    client: Client
    rows: Rows
    events: EventLog
    worker: WorkerProcess
    screen: Screen
    scenes: list[Scene] = field(default_factory=list)

    @property
    def refused(self) -> UUID | None:
        """Return the id of a command that a guard denied, for someone to ask why."""
        replies = (reply for scene in self.scenes for reply in scene.replies)
        denied = (reply for reply in replies if reply.rejection and reply.rejection.code is Code.GUARD_DENIED)
        return next((reply.command_id for reply in denied), None)

    def scene(self, name: str) -> Scene:
        """Return what a scenario of this name is given."""
        scene = Scene(
            name=name,
            prefix=f"demo-{self.run}-{name}-",
            settings=self.settings,
            client=self.client,
            rows=self.rows,
            events=self.events,
            worker=self.worker,
            screen=self.screen,
            checklist=Checklist(name, self.screen.check),
        )
        self.scenes.append(scene)
        return scene

    async def play(self, scenario: Scenario) -> list[Check]:
        """Play one scenario and return its checks; that it came to its end is one of them where it did not."""
        scene = self.scene(scenario.name)
        try:
            if not self.worker.running:
                await self.worker.stop()
                await self.worker.start()
            await scenario.play(scene)
        except WENT_WRONG as problem:
            scene.check("the scenario comes to its end", None, self.worker.complaint() or str(problem))
        with suppress(*WENT_WRONG):  # the next run closes what this one could not
            await scene.tidy()
        self.events.forget()
        return scene.checklist.made


@asynccontextmanager
async def staged(settings: Settings, screen: Screen) -> AsyncIterator[Stage]:
    """Bring up all that is needed, and take it down after the block."""
    run = token_hex(3)
    screen.say("starting the broker and the database")
    async with embedded(settings) as given:
        found = settings.model_copy(
            update={"bootstrap_servers": given.bootstrap_servers, "database_url": given.database_url}
        )
        screen.say("starting a worker")
        async with (
            working(found) as worker,
            writing(given.database_url) as opened,
            Client(given.bootstrap_servers, topics=found.topics) as client,
            EventLog(
                given.bootstrap_servers,
                found.topics.events,
                prefix=f"demo-{run}-",
                drop_repeats=found.delivery == "at-least-once",
            ) as events,
        ):
            await _apply_bounded(opened)
            rows = Rows(opened)
            await _close_leftovers(rows, client)
            yield Stage(run, found, client, rows, events, worker, screen)
            screen.say("stopping the worker, the broker and the database")


async def _apply_bounded(opened: Connection) -> None:
    text = files("service.demo").joinpath("bounded.yaml").read_text(encoding="utf-8")
    parsed = read_definition(text)
    if parsed.definition is None:
        raise NotReadyError(f"the demo's definition does not check: {parsed.findings}")
    await apply_definition(opened, parsed, parsed.definition, text, applied_by="demo")


async def _close_leftovers(rows: Rows, client: Client) -> None:
    left = {row.workflow_id: row for row in await rows.left_open("demo-", idle_seconds=LEFT_SECONDS)}
    left |= {row.workflow_id: row for row in await rows.left_open("demo-") if row.definition == BOUNDED}
    await close_all(list(left.values()), client)


def failed(checks: Sequence[Check]) -> list[Check]:
    """Return the checks that did not hold."""
    return [check for check in checks if not check.ok]
