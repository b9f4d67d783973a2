"""The broker: one Apache Kafka in KRaft mode that is its own controller, on the loopback, for one machine's work.

Its settings keep what real clusters keep (no unclean leaders, no topics by accident), less what takes many nodes.
"""

import asyncio
import base64
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from service.local.jars import class_path
from service.local.java import find_java
from service.local.ports import BROKER, CONTROLLER, HOST, choose_port, is_open
from service.local.process import Command, ProcessId, Watched, bring_up, finish
from service.local.state import recall, remember

NAME = "kafka"
_BUSY = ("Failed to acquire lock",)
_PORT, _CONTROLLER_PORT = "kafka_port", "kafka_controller_port"
_GRACE_SECONDS = 30.0
_JVM = ["-Xms96m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData"]
_QUICK_JVM = ["-XX:TieredStopAtLevel=1"]
_LOG_LEVEL = "-Dorg.apache.logging.log4j.level=ERROR"


def properties(*, port: int, controller_port: int, logs: str) -> str:
    """Return server.properties: `port` serves clients, `controller_port` the broker's own quorum of one.

    `logs` is a folder's name in the broker's own: Kafka would split a path at its commas, and read it as Latin-1.
    """
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{HOST}:{controller_port}
listeners=PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}
advertised.listeners=PLAINTEXT://{HOST}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}

# A client says what it wants: no topic by accident, no lost records by election.
auto.create.topics.enable=false
unclean.leader.election.enable=false

# One node is all the replicas there are.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

# A machine that slept for weeks still finds its place (24 days is the most Kafka takes for transactional ids);
# the transaction of a crashed producer ends within a second of its timeout.
offsets.retention.minutes=43200
transactional.id.expiration.ms=2147483647
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0

# Few threads, few internal partitions, and a cleaner that fits the heap.
num.network.threads=2
num.io.threads=4
background.threads=2
num.recovery.threads.per.data.dir=2
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=16777216
offsets.topic.num.partitions=10
transaction.state.log.num.partitions=10
share.coordinator.state.topic.num.partitions=1
"""


class Kafka:
    """The broker of one data folder."""

    name = NAME

    def __init__(
        self,
        data_dir: Path,
        *,
        cache_dir: Path,
        java: str | None,
        benchmark: bool,
        report: Callable[[str], None],
    ) -> None:
        self._data_dir, self._cache_dir, self._java, self._report = data_dir, cache_dir, java, report
        self._folder = data_dir / NAME
        self._logs = self._folder / "logs"
        self._jvm = [*_JVM, *([] if benchmark else _QUICK_JVM), _LOG_LEVEL, f"-Djava.io.tmpdir={self._folder / 'tmp'}"]
        self._run: list[str] = []
        self._class_path = ""
        self._server: Watched | None = None
        self.port = 0

    @property
    def endpoint(self) -> str:
        """The bootstrap servers."""
        return f"{HOST}:{self.port}"

    async def start(self, spawned: Callable[[ProcessId, int], None]) -> None:
        """Start on the data that is there, or format a new folder; return once the broker answers."""
        if not self._run:
            self._run = await self._found()
        configuration = self._configured()
        if not self._logs.is_dir():
            await self._format()
        self._server = await bring_up(
            self._command([*self._run, "kafka.Kafka", str(configuration)], self._data_dir / "kafka.log"),
            ready=self._ready,
            busy=_BUSY,
            spawned=lambda process: spawned(process, self.port),
        )

    async def stop(self) -> None:
        """Stop the broker cleanly."""
        if self._server is not None:
            await self._server.stop()
            self._server = None

    async def kill(self) -> None:
        """End the broker as a crash would."""
        if self._server is not None:
            await self._server.kill()
            self._server = None

    async def _found(self) -> list[str]:
        """Find Java and jars, and return the command that runs one of their classes."""
        given_up = threading.Event()
        try:
            java, jars = await asyncio.gather(
                asyncio.to_thread(find_java, self._java),
                asyncio.to_thread(class_path, self._cache_dir, self._report, given_up=given_up),
            )
        finally:
            given_up.set()
        self._class_path = ":".join(map(str, jars))
        return [str(java.executable), *self._jvm]

    def _configured(self) -> Path:
        """Write server.properties with the ports to use, and return its path."""
        temporary = self._folder / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        self.port = choose_port(BROKER, recall(self._data_dir, _PORT, int))
        controller_port = choose_port(CONTROLLER, recall(self._data_dir, _CONTROLLER_PORT, int))
        remember(self._data_dir, _PORT, self.port)
        remember(self._data_dir, _CONTROLLER_PORT, controller_port)
        path = self._folder / "server.properties"
        path.write_text(
            properties(port=self.port, controller_port=controller_port, logs=self._logs.name), encoding="utf-8"
        )
        return path

    async def _format(self) -> None:
        """Format beside the final place and rename, so that an interrupted format leaves nothing."""
        new = self._logs.with_name("logs.new")
        configuration = self._folder / "format.properties"
        await asyncio.to_thread(shutil.rmtree, new, ignore_errors=True)
        configuration.write_text(properties(port=0, controller_port=1, logs=new.name), encoding="utf-8")
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", f"--config={configuration}"]
        await finish(self._command([*self._run, *tool], self._data_dir / "kafka-format.log"))
        new.rename(self._logs)

    def _command(self, argv: list[str], log: Path) -> Command:
        # Java decodes paths, its own arguments among them, as the locale says.
        environment = {**os.environ, "CLASSPATH": self._class_path, "LC_ALL": "C.UTF-8"}
        return Command(
            name="Apache Kafka", argv=argv, log=log, cwd=self._folder, env=environment, grace_seconds=_GRACE_SECONDS
        )

    async def _ready(self, _process: ProcessId) -> bool:
        """Tell whether the broker is registered and answers a client."""
        if not is_open(self.port):
            return False
        admin = AIOKafkaAdminClient(bootstrap_servers=self.endpoint, request_timeout_ms=5000)
        try:
            await admin.start()
            cluster = await admin.describe_cluster()
        except (KafkaError, OSError):
            return False
        finally:
            await admin.close()
        return bool(cluster["brokers"])
