"""What an outsider has: records put on and read from the topics, rows read with plain SQL, a worker as a process."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from handlers.placement import partition_of
from service.app import Endpoints
from service.definitions.files import read_definition
from service.settings import Settings
from service.store.definitions import apply_definition
from service.store.pool import SCHEMA, open_pool
from tests.eventually import assert_eventually

TURNSTILE = Path(sys.executable).with_name("turnstile")
READ_SECONDS_MAX = 60

Headers = Sequence[tuple[str, bytes | None]]


class Put(NamedTuple):
    """A record to put on a topic, as any producer might."""

    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Headers = ()


def command(workflow_id: str, command_type: str = "request_transition", **fields: object) -> dict[str, Any]:
    """Return a command's body with an id of its own."""
    return {"command_type": command_type, "command_id": str(uuid4()), "workflow_id": workflow_id, **fields}


def creation(workflow_id: str, definition: str = "alims.workflow", **fields: object) -> dict[str, Any]:
    """Return the body of a creation."""
    return command(workflow_id, "create_workflow", definition=definition, **fields)


def move(workflow_id: str, target_state: str, **fields: object) -> dict[str, Any]:
    """Return the body of a transition."""
    return command(workflow_id, target_state=target_state, **fields)


def put(body: Mapping[str, Any], partition: int | None = None, headers: Headers = ()) -> Put:
    """Return a command's record under its root's key."""
    return Put(orjson.dumps(body), str(body.get("root_id", body["workflow_id"])).encode(), partition, headers)


@asynccontextmanager
async def producer(endpoints: Endpoints, **options: Any) -> AsyncIterator[AIOKafkaProducer]:  # noqa: ANN401
    """Open a producer as other teams have it."""
    opened = AIOKafkaProducer(bootstrap_servers=endpoints.bootstrap_servers, acks="all", **options)
    await opened.start()
    try:
        yield opened
    finally:
        await opened.stop()


async def send(
    endpoints: Endpoints,
    topic: str,
    records: Iterable[Put],
    **options: Any,  # noqa: ANN401
) -> list[str]:
    """Send records in their order; returns where the broker put each: partition/offset."""
    async with producer(endpoints, **options) as opened:
        sent = [
            await opened.send(topic, each.value, each.key, partition=each.partition, headers=list(each.headers))
            for each in records
        ]
        places = await asyncio.gather(*sent)
    return [f"{place.partition}/{place.offset}" for place in places]


async def read(endpoints: Endpoints, topic: str) -> list[ConsumerRecord]:
    """Read what is committed on a topic now, each partition in its order."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=endpoints.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        found: list[ConsumerRecord] = []
        ends = await consumer.end_offsets(consumer.assignment())
        async with asyncio.timeout(READ_SECONDS_MAX):
            while ends:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found.extend(records)
                ends = {key: end for key, end in ends.items() if await consumer.position(key) < end}
        return sorted(found, key=lambda record: (record.partition, record.offset))
    finally:
        await consumer.stop()


async def read_json(endpoints: Endpoints, topic: str) -> list[dict[str, Any]]:
    """Read the values of a topic's records."""
    return [orjson.loads(record.value) for record in await read(endpoints, topic)]


async def outcomes(settings: Settings, endpoints: Endpoints) -> dict[str, str]:
    """Return what became of each record of the commands topic, by its place: a word, a code or a reason."""
    found: dict[str, str] = {}
    for record in await read(endpoints, settings.topics.replies):
        reply = orjson.loads(record.value)
        accepted = "duplicate" if reply.get("duplicate") else "accepted"
        found[header(record, "ce_id") or ""] = reply["rejection"]["code"] if "rejection" in reply else accepted
    for letter in await read_json(endpoints, settings.topics.dead_letters):
        if letter["topic"] == settings.topics.commands:
            found[f"{letter['partition']}/{letter['offset']}"] = f"dead letter: {letter['reason']}"
    return found


def header(record: ConsumerRecord, name: str) -> str | None:
    """Return a header's text."""
    return next((text.decode() for key, text in record.headers if key == name), None)


def ids_on(part: int, number: int, *, partitions: int) -> list[str]:
    """Return new ids whose place is one partition."""
    found: list[str] = []
    while len(found) < number:
        name = f"w-{uuid4()}"
        if partition_of(name, partitions) == part:
            found.append(name)
    return found


async def rows(endpoints: Endpoints, query: str, *arguments: object) -> list[asyncpg.Record]:
    """Ask the database."""
    connection = await asyncpg.connect(endpoints.database_url, server_settings={"search_path": SCHEMA})
    try:
        found: list[asyncpg.Record] = await connection.fetch(query, *arguments)
        return found
    finally:
        await connection.close()


async def value(endpoints: Endpoints, query: str, *arguments: object) -> Any:  # noqa: ANN401 - whatever was asked for
    """Ask the database for one value."""
    return (await rows(endpoints, query, *arguments))[0][0]


async def define(endpoints: Endpoints, text: str) -> None:
    """Apply a definition's YAML."""
    parsed = read_definition(text)
    assert parsed.definition is not None, parsed.findings
    pool = await open_pool(endpoints.database_url, size=1)
    try:
        async with pool.acquire() as connection:
            await apply_definition(connection, parsed, parsed.definition, text, applied_by="a test")
    finally:
        await pool.close()


async def all_decided(settings: Settings, endpoints: Endpoints, *, deadline_seconds: float = 30) -> None:
    """Wait until every command on the topic is decided and every row published."""

    async def left() -> dict[int, tuple[int, int]]:
        consumer = AIOKafkaConsumer(settings.topics.commands, bootstrap_servers=endpoints.bootstrap_servers)
        await consumer.start()
        try:
            ends = await consumer.end_offsets(consumer.assignment())
        finally:
            await consumer.stop()
        at = {row["part"]: row for row in await rows(endpoints, "select * from partition")}
        behind = {
            key.partition: (
                end - at[key.partition]["next_offset"],
                at[key.partition]["next_seq"] - at[key.partition]["published_seq"],
            )
            for key, end in ends.items()
        }
        return {part: each for part, each in behind.items() if each != (0, 0)}

    await assert_eventually({}, left, deadline_seconds=deadline_seconds, poll_seconds=0.2)


class WorkerProcess:
    """A worker that can be killed: `turnstile serve` in a process of its own."""

    def __init__(self, settings: Settings, endpoints: Endpoints, log: Path) -> None:
        self._settings = settings
        self._endpoints = endpoints
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; it joins the group in its own time."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                TURNSTILE, "serve", env=self._environment(), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )

    async def owned(self) -> int:
        """Return how many partitions are its own."""
        if self._process is None:
            return 0
        owner = f"{socket.gethostname()}:{self._process.pid}"
        return int(await value(self._endpoints, "select count(*) from partition where owner = $1", owner))

    async def kill(self) -> None:
        """End it as a crash would."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """End it as an operator would; returns its exit code."""
        return await self._end(signal.SIGTERM)

    def said(self) -> str:
        """Return what it logged."""
        return self._log.read_text() if self._log.exists() else ""

    async def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(number)
        async with asyncio.timeout(30):
            return await process.wait()

    def _environment(self) -> dict[str, str]:
        outer = {name: text for name, text in os.environ.items() if not name.startswith("TURNSTILE_")}
        given = self._settings.model_dump(mode="json", exclude_unset=True)
        return (
            outer
            | {f"TURNSTILE_{name.upper()}": str(setting) for name, setting in given.items()}
            | {
                "TURNSTILE_BOOTSTRAP_SERVERS": self._endpoints.bootstrap_servers,
                "TURNSTILE_DATABASE_URL": self._endpoints.database_url,
                "TURNSTILE_LOG_LEVEL": "info",
            }
        )


@asynccontextmanager
async def worker_process(settings: Settings, endpoints: Endpoints, log: Path) -> AsyncIterator[WorkerProcess]:
    """Run a worker as a process that is gone after the block, whatever happened in it."""
    process = WorkerProcess(settings, endpoints, log)
    await process.start()
    try:
        yield process
    finally:
        await process.kill()
