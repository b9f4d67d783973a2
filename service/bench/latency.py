"""How long from a producer's send until another process receives the event, at a steady rate.

The sender keeps its timetable whatever the service does (an open loop), so a slow answer is never left out of the
figures. Beside it, an empty Kafka transaction: what no exactly-once answer can be faster than.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from math import ceil, inf
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import NamedTuple

from aiokafka import AIOKafkaProducer

from handlers.ports import JournalRow
from service.bench.load import Fleet
from service.bench.place import Ground, Place, place
from service.bench.receive import READY, received
from service.bench.scale import BenchError, Say, Scale
from service.bench.throughput import Course, course
from service.broker.publishers import Elsewhere, TransactionalPublisher
from service.local.process import Command, Watched, until
from service.settings import Delivery

WORKFLOWS = 1_200
ARRIVE_SECONDS_MAX = 60.0
FASTER = 0.95  # a window is faster than those before by at least this factor
NOTHING = JournalRow(kind="nothing", key=None, workflow_id=None, type="", record_offset=0)


class Quantiles(NamedTuple):
    """The middle and the slow end of many times, in milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Quantiles":
        """Return the nearest ranks."""
        ordered = sorted(seconds)
        middle, slow = (ordered[ceil(len(ordered) * share) - 1] * 1000 for share in (0.5, 0.99))
        return cls(middle, slow)


Window = Callable[[int, float], Awaitable[Quantiles]]


async def latency(ground: Ground, scale: Scale, delivery: Delivery, say: Say) -> Quantiles:
    """Measure one way of delivery."""
    what = f"latency {delivery}"
    async with place(ground, "latency", delivery=delivery) as where:
        fleet = Fleet(WORKFLOWS, where.settings.partitions)
        async with course(where, say) as runs:
            await runs.filling.fill(fleet.creates())
            await runs.filling.release()
            await runs.events.until_read(WORKFLOWS, runs.worker, f"{what}, creations (not counted)", say)
            async with measuring(where, runs, fleet, what) as window:
                say(f"{what}: {scale.rate} commands a second")
                return await _settled(partial(window, scale.rate), scale, what, say)


@asynccontextmanager
async def measuring(where: Place, runs: Course, fleet: Fleet, what: str) -> AsyncIterator[Window]:
    """Give what sends transitions at a rate for some seconds and tells how long their events took."""
    async with _receiver(where) as path, _sender(where) as producer:

        async def window(rate: int, seconds: float) -> Quantiles:
            sent = await _send(producer, where, fleet, rate, seconds)
            if not await until(lambda: sent.keys() <= received(path).keys(), ARRIVE_SECONDS_MAX):
                missing = len(sent.keys() - received(path).keys())
                raise BenchError(f"{what}: {missing} events did not come; {runs.worker.last_words()}")
            found = received(path)
            return Quantiles.of([(found[command_id] - at) / 1e9 for command_id, at in sent.items()])

        yield window


async def empty_transactions(ground: Ground, scale: Scale, say: Say) -> Quantiles:
    """Measure transactions that carry the cursor alone: the publisher's own, one producer per partition."""
    async with place(ground, "empty") as where:
        what = "empty transactions"
        say(f"{what}: {scale.rate} a second")
        elsewhere = Elsewhere(where.bootstrap_servers)
        publishers = [
            TransactionalPublisher(
                part,
                bootstrap_servers=where.bootstrap_servers,
                topics=where.settings.topics,
                group_id=where.settings.group_id,
                elsewhere=elsewhere,
            )
            for part in range(where.settings.partitions)
        ]
        try:
            for publisher in publishers:
                await publisher.start()

            async def window(seconds: float) -> Quantiles:
                lanes = _lanes(publishers, scale.rate, seconds)
                return Quantiles.of([time for lane in await asyncio.gather(*lanes) for time in lane])

            return await _settled(window, scale, what, say)
        finally:
            for publisher in publishers:
                await publisher.close()


async def _settled(window: Callable[[float], Awaitable[Quantiles]], scale: Scale, what: str, say: Say) -> Quantiles:
    """Measure one window after the other until two in a row are no faster than those before; then the one that counts.

    A broker that has just started compiles itself for its first ten thousand transactions, and each costs it five times
    what it costs later.
    """
    fastest, no_faster = inf, 0
    for _ in range(scale.warm_windows_max):
        warm = await window(scale.warm_seconds)
        say(f"{what}, warming up: p50 {warm.p50:.1f} ms")
        no_faster = 0 if warm.p50 < FASTER * fastest else no_faster + 1
        fastest = min(fastest, warm.p50)
        if no_faster == 2:  # noqa: PLR2004 - see above
            break
    figures = await window(scale.seconds)
    say(f"{what}: p50 {figures.p50:.1f} ms, p99 {figures.p99:.1f} ms")
    return figures


def _lanes(publishers: Sequence[TransactionalPublisher], rate: int, seconds: float) -> list[Awaitable[list[float]]]:
    """Give each partition its share of the rate, one after the other."""
    began, n_parts = monotonic() + 0.1, len(publishers)
    return [
        _commit(publisher, [began + number / rate for number in range(part, int(rate * seconds), n_parts)])
        for part, publisher in enumerate(publishers)
    ]


async def _commit(publisher: TransactionalPublisher, due: Sequence[float]) -> list[float]:
    """Commit one transaction at each time; one that is late begins at once. Return what each took, in seconds."""
    times = []
    for number, at in enumerate(due):
        await asyncio.sleep(max(0.0, at - monotonic()))
        started = monotonic()
        await publisher.publish([(number, NOTHING)])
        times.append(monotonic() - started)
    return times


async def _send(producer: AIOKafkaProducer, where: Place, fleet: Fleet, rate: int, seconds: float) -> dict[str, int]:
    """Send at the rate, late ones at once and none waiting for an answer; return when each was sent, in ns."""
    sent: dict[str, int] = {}
    deliveries = []
    began = monotonic() + 0.1
    for number, command in enumerate(fleet.transitions(int(rate * seconds))):
        await asyncio.sleep(max(0.0, began + number / rate - monotonic()))
        sent[command.command_id] = monotonic_ns()
        deliveries.append(
            await producer.send(where.settings.topics.commands, command.value, command.key, partition=command.part)
        )
    await asyncio.gather(*deliveries)
    return sent


@asynccontextmanager
async def _sender(where: Place) -> AsyncIterator[AIOKafkaProducer]:
    """Open the producer of a measurement."""
    producer = AIOKafkaProducer(bootstrap_servers=where.bootstrap_servers, enable_idempotence=True)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def _receiver(where: Place) -> AsyncIterator[Path]:
    """Run the process that receives, and give the file where it notes what came."""
    path = where.folder / f"{where.settings.prefix}.received"
    argv = [
        sys.executable,
        "-m",
        "service.bench.receive",
        where.bootstrap_servers,
        where.settings.topics.events,
        str(where.settings.partitions),
        str(path),
    ]
    log = where.folder / f"{where.settings.prefix}.receiver.log"
    process = Watched(Command(name="the receiver", argv=argv, log=log, cwd=Path.cwd()))
    try:
        if not await until(lambda: path.exists() and path.read_text().startswith(READY), ARRIVE_SECONDS_MAX):
            raise BenchError(f"the receiver does not start: {log.read_text(errors='replace')[-2000:]}")
        yield path
    finally:
        await process.stop()
