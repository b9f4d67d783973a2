"""What an outsider has: records put on and read from the topics, rows read with plain SQL, a worker as a process."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from handlers.placement import partition_of
from service.app import Endpoints
from service.definitions.files import read_definition
from service.settings import Settings
from service.store.definitions import apply_definition
from service.store.pool import SCHEMA, open_pool
from tests.eventually import PATIENCE_SECONDS, assert_eventually

TURNSTILE = Path(sys.executable).with_name("turnstile")
READ_SECONDS_MAX = 60

Headers = Sequence[tuple[str, bytes | None]]


class Put(NamedTuple):
    """A record to put on a topic, as any producer might."""

    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Headers = ()


def command(workflow_id: str, command_type: str = "request_transition", **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a command's body with an id of its own."""
    return {"command_type": command_type, "command_id": str(uuid4()), "workflow_id": workflow_id, **fields}


def creation(workflow_id: str, definition: str = "alims.workflow", **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the body of a creation."""
    return command(workflow_id, "create_workflow", definition=definition, **fields)


def move(workflow_id: str, target_state: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
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
    """Read what is committed on a topic now, each partition in its order.

    The ends are those of a reader of everything: a commit is answered before its marker is in the log.
    """
    found = [record async for record in committed(endpoints, topic, await end_offsets(endpoints, topic))]
    return sorted(found, key=lambda record: (record.partition, record.offset))


async def committed(
    endpoints: Endpoints, topic: str, ends: Mapping[int, int], *, seconds_max: float = READ_SECONDS_MAX
) -> AsyncIterator[ConsumerRecord]:
    """Read what is committed on a topic up to its partitions' ends, as it comes."""
    left = dict(ends)
    async with committed_reader(endpoints, topic) as consumer, asyncio.timeout(seconds_max):
        while left:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    yield record
            positions = {part: await consumer.position(TopicPartition(topic, part)) for part in left}
            left = {part: end for part, end in left.items() if positions[part] < end}


@asynccontextmanager
async def committed_reader(endpoints: Endpoints, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer of what is committed on a topic, from its beginning on."""
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
        yield consumer
    finally:
        await consumer.stop()


async def end_offsets(endpoints: Endpoints, topic: str) -> dict[int, int]:
    """Return the next offset of each partition."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=endpoints.bootstrap_servers)
    await consumer.start()
    try:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(consumer.assignment())
    finally:
        await consumer.stop()
    return {key.partition: end for key, end in ends.items()}


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


async def all_decided(settings: Settings, endpoints: Endpoints, *, deadline_seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until every command on the topic is decided and every row published."""

    async def left() -> dict[int, tuple[int, int]]:
        ends = await end_offsets(endpoints, settings.topics.commands)
        found = {}
        for row in await rows(endpoints, "select * from partition"):
            found[row["part"]] = (ends[row["part"]] - row["next_offset"], row["next_seq"] - row["published_seq"])
        return {part: behind for part, behind in found.items() if behind != (0, 0)}

    nothing: dict[int, tuple[int, int]] = {}
    await assert_eventually(nothing, left, deadline_seconds=deadline_seconds, poll_seconds=0.2)


async def busy(endpoints: Endpoints, *, turns: int = 10, deadline_seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until some turns more are taken."""

    async def taken() -> int:
        return int(await value(endpoints, "select coalesce(sum(turn), 0) from partition"))

    goal = await taken() + turns

    async def reached() -> str:
        return "busy" if await taken() >= goal else "waiting"

    await assert_eventually("busy", reached, deadline_seconds=deadline_seconds)


def environment(settings: Settings, endpoints: Endpoints) -> dict[str, str]:
    """Return the environment in which the command line meets the test's servers and settings."""
    outer = {name: text for name, text in os.environ.items() if not name.startswith("TURNSTILE_")}
    given = settings.model_dump(mode="json", exclude_unset=True) | {
        "bootstrap_servers": endpoints.bootstrap_servers,
        "database_url": endpoints.database_url,
        "log_level": "info",
    }
    return outer | {f"TURNSTILE_{name.upper()}": str(setting) for name, setting in given.items()}


async def turnstile(
    settings: Settings, endpoints: Endpoints, *words: str, source: Path | None = None
) -> tuple[int, bytes]:
    """Run the command line to its end, of another release's `source` if given; returns exit code and output."""
    process = await asyncio.create_subprocess_exec(
        *program(source),
        *words,
        env=environment(settings, endpoints),
        cwd=source,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    printed, _ = await process.communicate()
    return await process.wait(), printed


def program(source: Path | None) -> list[str]:
    """Return the command of this release, or of the release whose source is there: it is run from its folder."""
    return [str(TURNSTILE)] if source is None else [sys.executable, "-m", "service"]


class WorkerProcess:
    """A worker that can be killed: `turnstile serve`, or what else serves, in a process of its own."""

    def __init__(
        self,
        settings: Settings,
        endpoints: Endpoints,
        log: Path,
        command: Sequence[str | Path] = (TURNSTILE, "serve"),
        cwd: Path | None = None,
    ) -> None:
        self._cwd = cwd
        self._settings = settings
        self._endpoints = endpoints
        self._log = log
        self._command = command
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; it joins the group in its own time."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=environment(self._settings, self._endpoints),
                cwd=self._cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        """Return its process id while it runs."""
        assert self._process is not None
        return self._process.pid

    async def owned(self) -> int:
        """Return how many partitions are its own."""
        if self._process is None:
            return 0
        owner = f"{socket.gethostname()}:{self._process.pid}"
        return int(await value(self._endpoints, "select count(*) from partition where owner = $1", owner))

    async def kill(self) -> None:
        """End it as a crash would; it must not have ended by itself."""
        assert (None, "") == (self._process and self._process.returncode, self.faults())
        await self._end(signal.SIGKILL)

    async def ended(self) -> int:
        """Wait until it ends by itself; returns its exit code."""
        assert self._process is not None
        async with asyncio.timeout(30):
            return await self._process.wait()

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Let it do nothing during the block, as if its machine were paused."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    async def end(self) -> None:
        """See to it that it is gone."""
        await self._end(signal.SIGKILL)

    def faults(self) -> str:
        """Return the lines of its log that speak of a fault of ours."""
        said = self._log.read_text() if self._log.exists() else ""
        return "\n".join(line for line in said.splitlines() if "Traceback" in line or "partition.failed" in line)

    async def stop(self) -> int:
        """End it as an operator would; returns its exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        process = self._process
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(number)
        async with asyncio.timeout(PATIENCE_SECONDS):
            code = await process.wait()
        self._process = None  # until then there is one to end, whatever became of the waiting
        return code


@asynccontextmanager
async def worker_process(
    settings: Settings,
    endpoints: Endpoints,
    log: Path,
    command: Sequence[str | Path] = (TURNSTILE, "serve"),
    cwd: Path | None = None,
) -> AsyncIterator[WorkerProcess]:
    """Run a worker as a process that is gone after the block, whatever happened in it."""
    process = WorkerProcess(settings, endpoints, log, command, cwd)
    await process.start()
    try:
        yield process
    finally:
        await process.end()
