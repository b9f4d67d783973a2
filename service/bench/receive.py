"""The other process of the latency test: reads events as they become readable and notes when, on the machine's clock.

`python -m service.bench.receive SERVERS TOPIC PARTITIONS FILE` writes one line per event: command id, time in ns.
"""

import asyncio
import sys
from itertools import chain
from pathlib import Path
from time import monotonic_ns

import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts.envelope import HEADER_CAUSATION_ID

READY = "ready"
# While a fetch waits for idle partitions, those with records wait with it: a subscriber in a hurry lets none wait long.
FETCH_WAIT_MS = 10


async def receive(bootstrap_servers: str, topic: str, n_parts: int, path: Path) -> None:
    """Read from the topic's end until the process is stopped."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )
    await consumer.start()
    try:
        parts = [TopicPartition(topic, part) for part in range(n_parts)]
        consumer.assign(parts)
        for part, end in (await consumer.end_offsets(parts)).items():
            consumer.seek(part, end)
        with path.open("w", buffering=1) as out:
            out.write(f"{READY}\n")
            while True:
                found = await consumer.getmany(timeout_ms=1000)
                now = monotonic_ns()
                for record in chain.from_iterable(found.values()):
                    cause = dict(record.headers).get(HEADER_CAUSATION_ID)
                    if cause is not None:  # time alone is the cause of some
                        out.write(f"{cause.decode()} {now}\n")
    finally:
        await consumer.stop()


def received(path: Path) -> dict[str, int]:
    """Return when each command's event was first received, in ns; the last line may be half written."""
    lines = path.read_text().splitlines(keepends=True)[1:]
    pairs = [line.split() for line in reversed(lines) if line.endswith("\n")]
    return {command_id: int(time) for command_id, time in pairs}


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(receive(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
