"""Where a measurement runs: servers of its own or given ones, and there a database and topics that nobody else has."""

import platform
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from service.app import Endpoints
from service.bench.scale import BenchError, Say
from service.broker.cluster import TopicsError, admin
from service.broker.cursor import cursor_group
from service.broker.topics import create_topics
from service.definitions.files import read_definition
from service.local.stack import LocalStack, erase
from service.settings import Delivery, Settings
from service.store import schema
from service.store.definitions import apply_definition
from service.store.pool import open_connection
from service.store.throwaway import DURABILITY, throwaway, told

DEFINITION = "bench.ring"
GUARDED = "bench.guarded"
GUARD = "workflow.version > 0 && actor.name != '' && (!has(command.context.hold) || command.context.hold == false)"
STATES = ("A", "B")
RING = f"""
name: {DEFINITION}
version: 1
kind: workflow
description: Two states and the ways between them, without guard or limit.
states: {{A: {{initial: true}}, B: {{}}}}
transitions:
  - {{name: forth, from: A, to: B}}
  - {{name: back, from: B, to: A}}
"""
GUARDED_RING = f"""
name: {GUARDED}
version: 1
kind: workflow
description: The same with a CEL guard on every way, which looks at the workflow, the command and the actor.
states: {{A: {{initial: true}}, B: {{}}}}
transitions:
  - {{name: forth, from: A, to: B, guard: "{GUARD}"}}
  - {{name: back, from: B, to: A, guard: "{GUARD}"}}
"""


@dataclass(frozen=True, slots=True)
class Ground:
    """The servers of a run, a folder for what it leaves meanwhile, and what the database says of itself."""

    chosen: Settings
    given: Endpoints
    folder: Path
    database: dict[str, str]

    @property
    def external(self) -> bool:
        """Say whether the broker is somebody's, so that topics must not stay."""
        return self.chosen.bootstrap_servers is not None


@dataclass(frozen=True, slots=True)
class Place:
    """One part's own database and topics, as the settings of its worker."""

    settings: Settings
    folder: Path
    bootstrap_servers: str
    database_url: str

    @property
    def cursor_group(self) -> str:
        """The group under which the relay keeps its cursor in Kafka."""
        return cursor_group(self.settings.group_id)

    @property
    def parts(self) -> list[TopicPartition]:
        """Every partition of the commands topic."""
        return [TopicPartition(self.settings.topics.commands, part) for part in range(self.settings.partitions)]


@asynccontextmanager
async def ground(chosen: Settings, say: Say) -> AsyncIterator[Ground]:
    """Run the servers that the settings do not give, in a folder that is gone afterwards; raises BenchError."""
    chosen.data_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=chosen.data_dir.resolve()))
    stack = LocalStack(
        folder,
        broker=chosen.bootstrap_servers is None,
        database=chosen.database_url is None,
        benchmark=True,
        report=say,
    )
    try:
        async with stack as local:
            given = Endpoints(
                chosen.bootstrap_servers or local.bootstrap_servers, chosen.database_url or local.database_url
            )
            yield Ground(chosen, given, folder, await durable(given.database_url))
    finally:
        await erase(folder)
        with suppress(OSError):
            chosen.data_dir.rmdir()


async def durable(database_url: str) -> dict[str, str]:
    """Return what the database says of its durability; raises BenchError where it promises less than it seems to."""
    found = await told(database_url)
    lax = [name for name in DURABILITY if found[name] == "off"]
    if lax:
        raise BenchError(
            f"no figure: the database has {' and '.join(lax)} off, so what it says is committed may be lost; "
            "turn it on, or let the benchmark run its own database by leaving TURNSTILE_DATABASE_URL out"
        )
    return found


@asynccontextmanager
async def place(ground: Ground, name: str, *, delivery: Delivery = "exactly-once") -> AsyncIterator[Place]:
    """Make a database and topics for one part, with the definitions that the parts use."""
    token = f"{name}-{secrets.token_hex(4)}"
    async with throwaway(ground.given.database_url, f"turnstile-bench-{token}") as database_url:
        await durable(database_url)
        settings = ground.chosen.model_copy(
            update={
                "bootstrap_servers": ground.given.bootstrap_servers,
                "database_url": database_url,
                "prefix": f"bench-{token}",
                "group_id": f"bench-{token}",
                "delivery": delivery,
                "http_port": 0,
                "log_level": "warning",
            }
        )
        await schema.migrate(database_url)
        for text in (RING, GUARDED_RING):
            await define(database_url, text)
        broker = ground.given.bootstrap_servers
        try:
            await create_topics(broker, settings.topics, settings.partitions, settings.replication)
            yield Place(settings, ground.folder, broker, database_url)
        finally:
            if ground.external:
                await _forget(broker, settings)


def machine(ground: Ground) -> dict[str, str]:
    """Return the versions that a figure was made with."""
    return {
        "postgresql": ground.database["server_version"],
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


async def define(database_url: str, text: str) -> None:
    """Apply a definition of the benchmark's own."""
    parsed = read_definition(text)
    if parsed.definition is None:
        raise BenchError(f"the benchmark's definition does not check: {parsed.findings}")
    connection = await open_connection(database_url)
    try:
        await apply_definition(connection, parsed, parsed.definition, text, applied_by="turnstile bench")
    finally:
        await connection.close()


async def _forget(bootstrap_servers: str, settings: Settings) -> None:
    with suppress(KafkaError, TopicsError):
        async with admin(bootstrap_servers) as client:
            await client.delete_topics(list(settings.topics.all()))
