"""How long from a producer's send until another process receives the event, at a steady rate.

The sender keeps its timetable whatever the service does (an open loop), so a slow answer is never left out of the
figures. Beside it, an empty Kafka transaction: what no exactly-once answer can be faster than.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from math import ceil
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import NamedTuple

from aiokafka import AIOKafkaProducer

from handlers.ports import JournalRow
from service.bench.load import Fleet
from service.bench.place import Ground, Place, place
from service.bench.receive import READY, received
from service.bench.scale import BenchError, Say, Scale
from service.bench.throughput import course
from service.broker.publishers import Elsewhere, TransactionalPublisher
from service.local.process import Command, Watched, until
from service.settings import Delivery

WORKFLOWS = 1_200
ARRIVE_SECONDS_MAX = 20.0
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


async def latency(ground: Ground, scale: Scale, delivery: Delivery, say: Say) -> Quantiles:
    """Measure one way of delivery."""
    what = f"latency {delivery}"
    async with place(ground, "latency", delivery=delivery) as where:
        fleet = Fleet(WORKFLOWS, where.settings.partitions)
        async with course(where, say) as runs:
            await runs.filling.fill(fleet.creates())
            await runs.filling.release()
            await runs.events.until_read(WORKFLOWS, runs.worker, f"{what}, creations (not counted)", say)
            async with _receiver(where) as path:
                say(f"{what}: {scale.rate} commands a second for {scale.warm_seconds + scale.seconds:.0f} s")
                sent = await _send(where, fleet, scale)
                if not await until(lambda: sent.keys() <= received(path).keys(), ARRIVE_SECONDS_MAX):
                    missing = len(sent.keys() - received(path).keys())
                    raise BenchError(f"{what}: {missing} events did not come; {runs.worker.last_words()}")
                found = received(path)
    measured = list(sent.items())[int(scale.warm_seconds * scale.rate) :]
    figures = Quantiles.of([(found[command_id] - at) / 1e9 for command_id, at in measured])
    say(f"{what}: p50 {figures.p50:.1f} ms, p99 {figures.p99:.1f} ms")
    return figures


async def empty_transactions(ground: Ground, scale: Scale, say: Say) -> Quantiles:
    """Measure transactions that carry the cursor alone: the publisher's own, one producer per partition."""
    async with place(ground, "empty") as where:
        say(f"empty transactions: {scale.rate} a second for {scale.warm_seconds + scale.seconds:.0f} s")
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
            began = monotonic() + 0.1
            lanes = (_commit(each, part, began, scale, len(publishers)) for part, each in enumerate(publishers))
            times = [time for lane in await asyncio.gather(*lanes) for time in lane]
        finally:
            for publisher in publishers:
                await publisher.close()
    figures = Quantiles.of(times)
    say(f"empty transactions: p50 {figures.p50:.1f} ms, p99 {figures.p99:.1f} ms")
    return figures


async def _commit(
    publisher: TransactionalPublisher, part: int, began: float, scale: Scale, n_parts: int
) -> list[float]:
    """Commit one partition's share of the rate; one that is late begins at once. Return what each took, in seconds."""
    times = []
    warm, end = began + scale.warm_seconds, began + scale.warm_seconds + scale.seconds
    number = 0
    while (due := began + (number * n_parts + part) / scale.rate) < end:
        await asyncio.sleep(max(0.0, due - monotonic()))
        started = monotonic()
        await publisher.publish([(number, NOTHING)])
        if due >= warm:
            times.append(monotonic() - started)
        number += 1
    return times


async def _send(where: Place, fleet: Fleet, scale: Scale) -> dict[str, int]:
    """Send at the rate, late ones at once and none waiting for an answer; return when each was sent, in ns."""
    producer = AIOKafkaProducer(bootstrap_servers=where.bootstrap_servers, enable_idempotence=True)
    await producer.start()
    sent: dict[str, int] = {}
    deliveries = []
    try:
        began = monotonic() + 0.1
        count = int(scale.rate * (scale.warm_seconds + scale.seconds))
        for number, command in enumerate(fleet.transitions(count)):
            await asyncio.sleep(max(0.0, began + number / scale.rate - monotonic()))
            sent[command.command_id] = monotonic_ns()
            deliveries.append(
                await producer.send(where.settings.topics.commands, command.value, command.key, partition=command.part)
            )
        await asyncio.gather(*deliveries)
    finally:
        await producer.stop()
    return sent


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
