"""One world from one seed: workers, broker, database, load and faults; safe throughout, then healed, then live.

The worker is the product's own, `service/worker.py` and all that it runs; only its clients and its store's adapter
are simulated. Everything that is random comes from the seed.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

import structlog

from handlers.ports import Publisher
from service.adapters import Adapters
from service.broker.publishers import Elsewhere, TransactionalPublisher
from service.settings import Settings
from service.telemetry import Telemetry
from service.worker import Worker
from tests.fakes.machines import compiled
from tests.simulation.clients import NETWORK, Network, installed
from tests.simulation.database import Database, StoreOverLink
from tests.simulation.group import Group
from tests.simulation.guards import LateGuards
from tests.simulation.kafka import PARTS, Kafka
from tests.simulation.load import DEFINITIONS, Producers
from tests.simulation.loop import StalledError, seeded_loop
from tests.simulation.network import Link, Surroundings, Weather
from tests.simulation.safety import Safety, Violation
from tests.simulation.trouble import Seat, Trouble

LIVE_SECONDS_MAX = 90.0
LOOK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a seed: `digest` is the same wherever it is run again."""

    seed: int
    violations: Sequence[Violation]
    digest: str
    struck: Counter[str]
    steps: int


@dataclass(frozen=True, slots=True)
class Maker:
    """What one worker's publishers are made with; `kept` is for a mutant that throws none away."""

    worker: str
    given: dict[str, Any]
    kept: dict[int, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a world is built of; a mutant of the protocol gives others."""

    database: type[Database] = Database
    during: Callable[[], AbstractContextManager[object]] = nullcontext
    publisher: Callable[[int, Maker], Publisher] = lambda part, maker: TransactionalPublisher(part, **maker.given)


PRODUCT = Parts()
_WORLD: "ContextVar[World]" = ContextVar("world")


@cache
def _settings(turn_records_max: int) -> Settings:
    return Settings(prefix="turnstile", group_id="sim", partitions=PARTS, turn_records_max=turn_records_max)


@cache
def _telemetry() -> Telemetry:
    return Telemetry()


def simulate(seed: int, *, parts: Parts = PRODUCT, say: Callable[[str], None] | None = None) -> Outcome:
    """Run one world to its end."""
    with installed(), _logs_noted(), parts.during():
        return World(seed, parts, say).run()


class World:
    """Everything that one seed makes."""

    def __init__(self, seed: int, parts: Parts, say: Callable[[str], None] | None) -> None:
        self._seed = seed
        self._parts = parts
        self._chaos = Random(f"{seed} chaos")
        self._loop = seeded_loop(Random(f"{seed} steps"))
        self._say = say
        self._struck: Counter[str] = Counter()
        self._around = Surroundings(self._loop, Random(f"{seed} network"), self._struck, self.note)
        self._settings = _settings(self._chaos.choice((1, 2, 4, 500)))
        self._topics = self._settings.topics
        self._safety = Safety(self._topics, parts=PARTS)
        self._weathers = {"database": _weather(self._chaos), "broker": _weather(self._chaos)}
        self._guards = Weather(request_lost=self._chaos.choice((0, 0.3)), slow=self._chaos.choice((0, 0.3)))
        self._servers = {name: self._loop.process(name) for name in self._weathers}
        self._database = parts.database(self._around, parts=PARTS, committed=self._safety.committed)
        self._database.slow_seconds = self._chaos.choice((0, 0, 3.0))
        self._kafka = Kafka(self._around, shown=self._safety.shown)
        self._group = Group(self._around, parts=PARTS)
        self._safety.database, self._safety.kafka = self._database, self._kafka
        self._seats = [Seat(number, self._start) for number in range(self._chaos.choice((2, 3)))]
        for document in DEFINITIONS:
            self._database.add(compiled(document))

    def run(self) -> Outcome:
        """Live through it."""
        try:
            self._loop.run_until_complete(self._live())
        except StalledError as stalled:
            self._safety.broken("live", str(stalled))
        except Exception as error:  # noqa: BLE001 - the seed must be named, whatever is wrong
            self._safety.broken("the simulation itself", repr(error))
        for failure in self._loop.failures:
            self._safety.broken("no fault of ours", failure)
        outcome = Outcome(
            self._seed, list(self._safety.violations), self._loop.digest, self._struck.copy(), self._loop.steps
        )
        self._loop.bury()
        return outcome

    def note(self, text: str) -> None:
        """Keep what happened in the digest, and tell who listens."""
        self._loop.note(text)
        if self._say is not None:
            self._say(f"{self._loop.time():9.4f}  {text}")

    def failed(self, text: str) -> None:
        """Hear of a fault that stops a worker or a partition."""
        self._safety.broken("no fault of ours", text)

    async def _live(self) -> None:
        chaos, loop = self._chaos, self._loop
        loop.create_task(self._group.sweep(), context=loop.context_of(self._servers["broker"]))
        producers = Producers(self._around, self._kafka, self._topics, parts=PARTS)
        for seat in self._seats:
            seat.fill()
        trouble = Trouble(self._around, chaos, self._group)
        seconds = 5 + 8 * chaos.random()
        ticking = asyncio.create_task(producers.tick(self._database))
        troubling = asyncio.create_task(trouble.strike(self._seats, interval=chaos.choice((0.3, 0.8, 2.0))))
        await producers.send(Random(f"{self._seed} load"), number=10 + int(14 * chaos.random()), seconds=seconds * 0.7)
        await asyncio.sleep(max(seconds - loop.time(), 0))
        troubling.cancel()
        await asyncio.gather(troubling, return_exceptions=True)
        self._heal()
        producers.probe()
        await self._become_live(producers)
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)

    async def _become_live(self, producers: Producers) -> None:
        safety, loop = self._safety, self._loop
        until = loop.time() + LIVE_SECONDS_MAX
        while not safety.violations and not safety.settled():
            if loop.time() > until:
                safety.broken("live", "; ".join(safety.unsettled()) or "a transaction stays open")
            await asyncio.sleep(LOOK_SECONDS)
        if not safety.violations:
            safety.look_back(producers.sent)
        rows = [row for journal in self._database.journal.values() for row in journal]
        replies = [row.reply for row in rows if row.reply is not None]
        self._struck["commands decided"] += len(replies)
        self._struck["commands refused"] += sum(b'"rejected"' in reply for reply in replies)
        self._struck["commands forwarded"] += sum(row.kind == "forward" for row in rows)
        self._struck["steps of SLAs"] += sum(b'"category":"sla"' in (row.event or b"") for row in rows)
        self._struck["alerts"] += sum(row.kind == "alert" for row in rows)
        self._struck["dead letters"] += sum(row.kind == "dead_letter" for row in rows)

    def _start(self, seat: Seat) -> None:
        """Start a worker in a process of its own."""
        loop, around = self._loop, self._around
        name = f"worker-{seat.number}.{seat.starts}"
        process = seat.process = loop.process(name)
        to_database = Link(around, "database", self._servers["database"], self._weathers["database"])
        to_broker = Link(around, "broker", self._servers["broker"], self._weathers["broker"])
        network = Network(around, name, self._kafka, self._group, to_broker)
        context = seat.context = loop.context_of(process)
        context.run(NETWORK.set, network)
        context.run(_WORLD.set, self)
        elsewhere = Elsewhere("simulated")
        given = {
            "bootstrap_servers": "simulated", "topics": self._topics, "group_id": self._settings.group_id,
            "elsewhere": elsewhere,
        }  # fmt: skip
        maker = Maker(name, given)
        adapters = Adapters(
            store=StoreOverLink(around, self._database, to_database),
            guards=LateGuards(around, self._guards),
            publisher=lambda part: self._parts.publisher(part, maker),
            elsewhere=elsewhere,
        )
        self.note(f"{name} starts")

        async def serve() -> None:
            seat.worker = Worker(
                self._settings, bootstrap_servers="simulated", adapters=adapters, telemetry=_telemetry()
            )
            try:
                await seat.worker.start()
                await seat.worker.failed()
            except Exception as fault:  # noqa: BLE001 - whatever stops a worker is a violation
                self.failed(f"{name} ends: {fault!r}")

        loop.create_task(serve(), context=context)

    def _heal(self) -> None:
        self.note("healed")
        for weather in (*self._weathers.values(), self._guards):
            weather.refused = weather.request_lost = weather.answer_lost = weather.late = weather.slow = 0.0
        self._database.slow_seconds = 0.0
        for process in self._loop.processes:
            process.disarm()
            process.paused = False
        for seat in self._seats:
            seat.fill()


def _weather(chaos: Random) -> Weather:
    """Return bad weather of some kinds only: what always happens together hides what happens alone."""
    level = chaos.choice((0.0, 0.02, 0.08))
    drawn = [level * chaos.random() if chaos.random() < 0.6 else 0.0 for _ in range(5)]
    return Weather(drawn[0], drawn[1], drawn[2], drawn[3], drawn[4], chaos.choice((0.1, 2.0, 9.0)))


@contextmanager
def _logs_noted() -> Iterator[None]:
    """Let the product's log lines be part of the trace, and hear of those that must not come."""

    def note(_: object, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        world = _WORLD.get(None)
        if world is not None:
            world.note(" ".join(f"{name}={value}" for name, value in event.items()))
            if event["event"] in {"partition.halted", "partition.failed"}:
                world.failed(str(event))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[note], wrapper_class=structlog.BoundLogger, cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)
