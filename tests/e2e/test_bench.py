"""The benchmark: every figure is there, none is given where commits may be lost, and it leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from service.local.stack import LocalStack, erase

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(600)]

TURNSTILE = str(Path(sys.executable).with_name("turnstile"))
KEYS = {
    "transitions_per_second",
    "postgres_alone_per_second",
    "hot_workflow_per_second",
    "guarded_per_second",
    "latency_ms",
    "empty_transaction_ms",
    "worker_rss_bytes",
    "worker_cpu_us",
    "ratios",
    "settings",
}
SHORT = [
    "--quick",
    "--rounds",
    "1",
    "--transitions",
    "3000",
    "--workflows",
    "300",
    "--hot",
    "500",
    "--rate",
    "60",
    "--seconds",
    "2",
]


@pytest.fixture
async def database_url(tmp_path: Path) -> AsyncIterator[str]:
    """Give a database of its own."""
    folder = tmp_path / "database"
    async with LocalStack(folder, broker=False) as local:
        yield local.database_url
    await erase(folder)


def bench(data_dir: Path, *options: str, **settings: str) -> "subprocess.Popen[str]":
    """Start the command with its data in a folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TURNSTILE_")}
    cache = {name: value for name, value in os.environ.items() if name == "TURNSTILE_CACHE_DIR"}
    return subprocess.Popen(
        [TURNSTILE, "bench", *options],
        env={**inherited, **cache, "TURNSTILE_DATA_DIR": str(data_dir), **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def users_of(folder: Path) -> list[int]:
    """Return the processes that were started with a folder in their command line or environment."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                known = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            except OSError:
                continue
            if bytes(folder) in known:
                found.append(int(process.name))
    return found


def test_every_figure_is_there(tmp_path: Path) -> None:
    """A short run gives every key, figures above nothing, and the conditions they were made under."""
    data_dir = tmp_path / "data"
    with bench(data_dir, "--json", *SHORT) as process:
        out, err = process.communicate()
    assert 0 == process.returncode, err
    found = json.loads(out)
    assert KEYS == found.keys()
    for mode in ("exactly-once", "at-least-once"):
        assert 0 < found["latency_ms"][mode]["p50"] <= found["latency_ms"][mode]["p99"]
    assert 0 < found["empty_transaction_ms"]["p50"] <= found["empty_transaction_ms"]["p99"]
    for key in ("transitions_per_second", "postgres_alone_per_second", "hot_workflow_per_second", "guarded_per_second"):
        assert found[key] > 0
    if sys.platform == "linux":
        assert found["worker_rss_bytes"] > 10_000_000
        assert found["worker_cpu_us"] > 0
    ratio = found["transitions_per_second"] / found["postgres_alone_per_second"]
    assert ratio == pytest.approx(found["ratios"]["against_postgres"], abs=0.001)
    assert found["ratios"]["guarded_against_without"] > 0
    settings = found["settings"]
    assert ("on", "on", "on", "all") == tuple(
        settings[name] for name in ("fsync", "synchronous_commit", "full_page_writes", "acks")
    )
    assert (6, 500, 3000) == tuple(settings[key] for key in ("partitions", "turn_records_max", "transitions_per_round"))
    assert not data_dir.exists()


def test_remote_guards_are_measured_beside_none(tmp_path: Path) -> None:
    """On their own, with a policy engine that is gone afterwards, as are the worker and the servers."""
    data_dir = tmp_path / "data"
    with bench(data_dir, "--json", "--only", "remote", *SHORT) as process:
        out, err = process.communicate()
    assert 0 == process.returncode, err
    found = json.loads(out)
    assert (None, 0.005) == (found["transitions_per_second"], found["remote_guards"]["engine_answers_in_seconds"])
    for key in ("transitions_per_second", "without_guards_per_second"):
        assert found["remote_guards"][key] > 0
    assert not data_dir.exists()


@pytest.mark.parametrize("setting", ["fsync", "synchronous_commit", "full_page_writes"])
async def test_no_figure_where_commits_may_be_lost(tmp_path: Path, database_url: str, setting: str) -> None:
    """A database that does not keep what it commits would make any figure look good."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(f"alter system set {setting} = off")
        await connection.execute("select pg_reload_conf()")
    finally:
        await connection.close()
    with bench(tmp_path / "data", "--json", *SHORT, TURNSTILE_DATABASE_URL=database_url) as process:
        out, err = process.communicate()
    assert (1, "") == (process.returncode, out)
    assert f"the database has {setting} off" in err


@pytest.mark.skipif(sys.platform != "linux", reason="looks at other processes in /proc")
def test_interrupted_it_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the middle stops the worker and the servers, and removes their data."""
    data_dir = tmp_path / "data"
    with bench(data_dir, "--transitions", "1000000") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("spread, round 1"):
                break
        assert len(users_of(data_dir)) > 3
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert 130 == process.returncode
    assert not users_of(data_dir)
    assert not data_dir.exists()


def test_an_unknown_part_is_a_wrong_word(tmp_path: Path) -> None:
    """What does not exist cannot be run."""
    with bench(tmp_path / "data", "--only", "everything") as process:
        _, err = process.communicate()
    assert 2 == process.returncode
    assert "throughput" in err
