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

from contracts.predicates import Verdict
from domain.guards import Question
from handlers.ports import Publisher
from service.adapters import Adapters
from service.broker.publishers import Elsewhere, TransactionalPublisher
from service.settings import Settings
from service.telemetry import Telemetry
from service.worker import Worker
from tests.fakes.machines import compiled
from tests.fakes.ports import ENGINE, ScriptedGuards
from tests.simulation.clients import NETWORK, Network, installed
from tests.simulation.database import Database, StoreOverLink
from tests.simulation.group import Group
from tests.simulation.kafka import Kafka
from tests.simulation.load import DEFINITIONS, Producers
from tests.simulation.loop import Process, StalledError, seeded_loop
from tests.simulation.network import Link, Surroundings, Weather
from tests.simulation.safety import Safety, Violation

PARTS = 2
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


class Seat:
    """Where a worker runs, dies and is started again."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.starts = 0
        self.process: Process | None = None
        self.worker: Worker | None = None


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
        self._seats = [Seat(number) for number in range(self._chaos.choice((2, 3)))]
        for document in DEFINITIONS:
            self._database.add(compiled(document))

    def run(self) -> Outcome:
        """Live through it."""
        try:
            self._loop.run_until_complete(self._live())
        except StalledError as stalled:
            self._safety.broken("live", str(stalled))
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
            self._start(seat)
        seconds = 5 + 8 * chaos.random()
        ticking = asyncio.create_task(producers.tick(self._database))
        troubling = asyncio.create_task(self._trouble(interval=chaos.choice((0.3, 0.8, 2.0))))
        await producers.send(Random(f"{self._seed} load"), number=10 + int(14 * chaos.random()), seconds=seconds * 0.7)
        await asyncio.sleep(max(seconds - loop.time(), 0))
        ticking.cancel()
        troubling.cancel()
        await asyncio.gather(ticking, troubling, return_exceptions=True)
        self._heal()
        producers.probe()
        await self._become_live(producers)

    async def _become_live(self, producers: Producers) -> None:
        safety, loop = self._safety, self._loop
        until = loop.time() + LIVE_SECONDS_MAX
        while not safety.violations and not safety.settled():
            if loop.time() > until:
                safety.broken("live", "; ".join(safety.unsettled()) or "a transaction stays open")
            await asyncio.sleep(LOOK_SECONDS)
        if not safety.violations:
            safety.look_back(producers.sent)
        self._struck["commands decided"] += sum(
            row.reply is not None for journal in self._database.journal.values() for row in journal
        )
        self._struck["commands refused"] += sum(
            row.reply is not None and b'"rejected"' in row.reply
            for journal in self._database.journal.values()
            for row in journal
        )
        self._struck["commands forwarded"] += sum(
            row.kind == "forward" for journal in self._database.journal.values() for row in journal
        )
        self._struck["dead letters"] += sum(
            row.kind == "dead_letter" for journal in self._database.journal.values() for row in journal
        )

    async def _trouble(self, *, interval: float) -> None:
        """Let something happen to a worker again and again."""
        chaos = self._chaos
        kinds = [self._crash, self._pause, self._pause, self._stop, self._rebalance, self._evict]
        chaos.shuffle(kinds)
        kinds = kinds[: 1 + int(len(kinds) * chaos.random())]
        while True:
            await asyncio.sleep(2 * interval * chaos.random())
            seat = chaos.choice(self._seats)
            if seat.process is not None and not seat.process.paused:
                chaos.choice(kinds)(seat)

    def _start(self, seat: Seat) -> None:
        """Start a worker in a process of its own."""
        loop, around = self._loop, self._around
        seat.starts += 1
        name = f"worker-{seat.number}.{seat.starts}"
        process = seat.process = loop.process(name)
        to_database = Link(around, "database", self._servers["database"], self._weathers["database"])
        to_broker = Link(around, "broker", self._servers["broker"], self._weathers["broker"])
        network = Network(around, name, self._kafka, self._group, to_broker)
        context = loop.context_of(process)
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
            await seat.worker.start()
            try:
                await seat.worker.failed()
            except Exception as fault:  # noqa: BLE001 - whatever stops a worker is a violation
                self.failed(f"{name} ends: {fault!r}")

        loop.create_task(serve(), context=context)

    def _end(self, seat: Seat, process: Process, what: str) -> None:
        """Let a worker's process end at once, and start another later."""
        if process.dead:
            return
        self._struck[what] += 1
        self.note(f"{process.name}: {what}")
        self._loop.kill(process)
        if seat.process is process:
            seat.process = seat.worker = None
            self._loop.call_later(8 * self._chaos.random() ** 2, self._start_again, seat)

    def _start_again(self, seat: Seat) -> None:
        if seat.process is None:
            self._start(seat)

    def _crash(self, seat: Seat) -> None:
        process = seat.process
        if process is None:
            return
        self._arm(process, lambda: self._end(seat, process, "crashes"))

    def _pause(self, seat: Seat) -> None:
        process = seat.process
        if process is None:
            return
        seconds = 0.2 + 10 * self._chaos.random() ** 2
        evicted = self._chaos.random() < 0.5

        def pause() -> None:
            self._struck["pauses"] += 1
            self.note(f"{process.name} is paused for {seconds:.2f} s")
            process.paused = True
            if evicted:
                self._group.leave(process.name)
            self._loop.call_later(seconds, self._resume, process, context=self._loop.context_of(self._loop.outside))

        self._arm(process, pause)

    def _arm(self, process: Process, then: Callable[[], None]) -> None:
        """Let it happen in a little while, at any step, or just when a write of the process is on its way."""
        if self._chaos.random() < 0.5:
            process.light(int(200 * self._chaos.random() ** 2), then)
        else:
            process.alarm = then

    def _resume(self, process: Process) -> None:
        self.note(f"{process.name} goes on")
        process.paused = False

    def _stop(self, seat: Seat) -> None:
        process, worker = seat.process, seat.worker
        if process is None or worker is None:
            return
        seat.process = seat.worker = None
        self._struck["stops"] += 1
        self.note(f"{process.name} is asked to stop")
        context = self._loop.context_of(process)
        context.run(NETWORK.set, Network(self._around, process.name, self._kafka, self._group, self._to_broker()))
        context.run(_WORLD.set, self)

        async def stop() -> None:
            await worker.stop()
            self.note(f"{process.name} has stopped")
            if not process.dead:
                self._loop.kill(process)

        self._loop.create_task(stop(), context=context)
        self._loop.call_later(3 * self._chaos.random(), self._start_again, seat)

    def _rebalance(self, _: Seat) -> None:
        self._struck["rebalances forced"] += 1
        self._group.rebalance()

    def _evict(self, seat: Seat) -> None:
        """Let the group give a member up that works on and does not know."""
        if seat.process is not None:
            self._struck["members evicted"] += 1
            self.note(f"{seat.process.name} is evicted")
            self._group.leave(seat.process.name)

    def _to_broker(self) -> Link:
        return Link(self._around, "broker", self._servers["broker"], self._weathers["broker"])

    def _heal(self) -> None:
        self.note("healed")
        for weather in (*self._weathers.values(), self._guards):
            weather.refused = weather.request_lost = weather.answer_lost = weather.late = weather.slow = 0.0
        self._database.slow_seconds = 0.0
        for process in self._loop.processes:
            process.disarm()
            process.paused = False
        for seat in self._seats:
            self._start_again(seat)


class LateGuards:
    """The predicate engine: it may be slow, and then nobody may answer."""

    def __init__(self, around: Surroundings, weather: Weather) -> None:
        self._around = around
        self._weather = weather
        self._guards = ScriptedGuards()

    async def ask(self, questions: Sequence[Question]) -> list[Verdict]:
        """Answer, or say that nobody does."""
        chance = self._around.chance
        if chance.random() < self._weather.slow:
            self._around.struck["guards: late"] += 1
            await asyncio.sleep(3 * chance.random())
        else:
            await asyncio.sleep(0.002 * chance.random())
        if chance.random() < self._weather.request_lost:
            self._around.struck["guards: unavailable"] += 1
            return [Verdict(outcome="unavailable", cause="no answer", clause="?", engine=ENGINE) for _ in questions]
        return await self._guards.ask(questions)


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
