"""Measures what the other partitions notice when one partition's guards hang: `python -m tests.faults.hanging`.

Idle and hanging take turns in one run under one load, so that the machine's own noise is in both. It prints one JSON
object and ends with 1 where the ratio of the 99th percentiles is above its target, or no guard hung.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from service.app import Endpoints, running
from service.cli.surroundings import prepare
from service.local.stack import LocalStack, erase
from service.logs import configure
from service.settings import Settings
from service.store.pool import fresh_database
from tests.e2e.guards import HangingGuards
from tests.e2e.outside import all_decided, creation, ids_on, move, producer, put, value
from tests.eventually import assert_eventually

TARGET = 1.5
HANGING = 0
WORKFLOWS = 40
SETTLE_SECONDS_MAX = 120


class Load:
    """Guarded moves on every partition at one rate; the time from sending each to reading its event."""

    def __init__(self, settings: Settings, sender: AIOKafkaProducer, *, per_second: float) -> None:
        self._settings = settings
        self._sender = sender
        self._pause = 1 / per_second
        self._sent: dict[str, float] = {}
        self.taken: list[float] = []
        parts = range(settings.partitions)
        self.names = {part: ids_on(part, WORKFLOWS, partitions=settings.partitions) for part in parts}
        self._moves = {part: self._rounds(names) for part, names in self.names.items()}

    async def create(self) -> None:
        """Send the creations."""
        for names in self.names.values():
            for name in names:
                await self._send(creation(name))

    async def run(self, seconds: float) -> None:
        """Send at the rate for so long, a partition after the other."""
        clock = asyncio.get_running_loop().time
        due = clock()
        end = due + seconds
        for part in cycle(self.names):
            if due >= end:
                return
            await asyncio.sleep(max(0.0, due - clock()))
            due += self._pause
            body = next(self._moves[part])
            if part != HANGING:
                self._sent[body["command_id"]] = clock()
            await self._send(body)

    def heard(self, event: dict[str, Any]) -> None:
        """Take an event that was read."""
        sent = self._sent.pop(event["command_id"], None)
        if sent is not None:
            self.taken.append(asyncio.get_running_loop().time() - sent)

    async def open(self) -> int:
        """Count the measured commands whose event has not been read."""
        return len(self._sent)

    async def _send(self, body: dict[str, Any]) -> None:
        record = put(body)
        await self._sender.send(self._settings.topics.commands, record.value, record.key)

    @staticmethod
    def _rounds(names: list[str]) -> Iterator[dict[str, Any]]:
        for state in cycle(("ACTIVE", "PAUSED")):
            for name in names:
                yield move(name, state)


async def measure(settings: Settings, endpoints: Endpoints, *, rounds: int, seconds: float, rate: float) -> Any:  # noqa: ANN401 - JSON
    """Return the figures of a run."""
    guards = HangingGuards(HANGING, settings.partitions)
    idle: list[float] = []
    hanging: list[float] = []
    parked = 0

    async def waiting() -> int:
        return int(await value(endpoints, "select count(*) from parked"))

    async with (
        running(settings, endpoints, choose=guards.choose),
        producer(endpoints) as sender,
        _reading(settings, endpoints) as events,
    ):
        load = Load(settings, sender, per_second=rate)
        listening = asyncio.create_task(_listen(events, load))
        try:
            await load.create()
            await all_decided(settings, endpoints, deadline_seconds=SETTLE_SECONDS_MAX)
            await load.run(seconds / 2)  # warm
            for found, hang in [(idle, False), (hanging, True)] * rounds:
                await assert_eventually(0, load.open, deadline_seconds=SETTLE_SECONDS_MAX)
                load.taken = found
                if hang:
                    guards.hang()
                await load.run(seconds)
                await assert_eventually(0, load.open, deadline_seconds=SETTLE_SECONDS_MAX)
                if hang:
                    parked += await waiting()
                    guards.heal()
                    await assert_eventually(0, waiting, deadline_seconds=SETTLE_SECONDS_MAX)
        finally:
            listening.cancel()
    ratio = _p99(hanging) / _p99(idle)
    return {
        "idle_p99_ms": round(1000 * _p99(idle), 1),
        "hanging_p99_ms": round(1000 * _p99(hanging), 1),
        "idle_p50_ms": round(1000 * sorted(idle)[len(idle) // 2], 1),
        "hanging_p50_ms": round(1000 * sorted(hanging)[len(hanging) // 2], 1),
        "ratio": round(ratio, 3),
        "target": TARGET,
        "samples": {"idle": len(idle), "hanging": len(hanging)},
        "guards_hung": guards.struck,
        "parked_at_the_ends": parked,
        "partitions": settings.partitions,
        "commands_per_second": rate,
    }


def _p99(taken: list[float]) -> float:
    return sorted(taken)[max(0, len(taken) * 99 // 100 - 1)]


@asynccontextmanager
async def _reading(settings: Settings, endpoints: Endpoints) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        settings.topics.events,
        bootstrap_servers=endpoints.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _listen(events: AIOKafkaConsumer, load: Load) -> None:
    async for record in events:
        load.heard(orjson.loads(record.value))


async def _run(arguments: argparse.Namespace) -> Any:  # noqa: ANN401 - JSON
    name = f"hanging{uuid4().hex[:8]}"
    settings = Settings(prefix=name, group_id=name, http_port=0, partitions=arguments.partitions, log_level="error")
    folder = Path(tempfile.mkdtemp(prefix="turnstile-hanging-"))
    stack = LocalStack(folder)
    try:
        local = await stack.start()
        async with fresh_database(local.database_url, name) as database_url:
            endpoints = Endpoints(local.bootstrap_servers, database_url)
            await prepare(settings, endpoints)
            return await measure(
                settings, endpoints, rounds=arguments.rounds, seconds=arguments.seconds, rate=arguments.rate
            )
    finally:
        await stack.stop()
        await erase(folder)


def main() -> int:
    """Run the measurement, print it, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.hanging", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="idle and hanging phases of each kind")
    parser.add_argument("--seconds", type=float, default=15, help="length of a phase")
    parser.add_argument("--rate", type=float, default=60, help="commands a second, over all partitions")
    parser.add_argument("--partitions", type=int, default=6)
    configure(Settings(log_level="error"))
    found = asyncio.run(_run(parser.parse_args()))
    sys.stdout.write(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode() + "\n")
    return 0 if found["ratio"] <= TARGET and found["guards_hung"] > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
