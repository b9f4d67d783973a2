"""`get --at` and `diff` over rows of a real store: every version there was, and what is not there."""

import asyncio
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import orjson
import pytest

from domain.instants import read, written
from handlers.commands import CommandsHandler, Taken, Wakeup
from handlers.parking import Parking
from service.app import Endpoints
from service.cli.exits import Exit
from service.definitions.files import read_definition
from service.predicates.cel import CelEngine
from service.settings import Settings
from service.store import schema
from service.store.adapter import PostgresStore
from service.store.definitions import apply_definition
from service.store.partitions import ensure
from service.store.pool import fresh_database, open_pool
from service.store.reads import get_workflow
from tests.fakes.machines import command, create, door, move
from tests.fakes.ports import CommandRecord, numbered
from tests.service.test_cli import CommandLine

pytestmark = pytest.mark.stack
LIVES: dict[str, list[str | dict[str, Any]]] = {
    "ended": ["open", "shut", "push", "open", "brick"],
    "painted": ["open", {"colour": "blue", "size": {"height": 2}}, {"colour": None, "size": {"width": 1}}, "shut"],
    "failed": ["open", "jam", "recover", {"note": "oiled"}, "brick", {"note": "over"}],
    "new": [],
}


class Past(NamedTuple):
    """A database, and each workflow's row as it was at each version."""

    url: str
    rows: dict[str, list[bytes]]


@pytest.fixture(scope="module")
def past(servers: Endpoints) -> Iterator[Past]:
    """Give a store in which a few workflows have lived, one command a turn."""
    with asyncio.Runner() as runner:
        database = fresh_database(servers.database_url, f"p{uuid4().hex[:12]}")
        url = runner.run(database.__aenter__())
        try:
            yield Past(url, runner.run(_live(url)))
        finally:
            runner.run(database.__aexit__(None, None, None))


async def _live(url: str) -> dict[str, list[bytes]]:
    rows: dict[str, list[bytes]] = {name: [] for name in LIVES}
    await schema.migrate(url)
    pool = await open_pool(url, size=2)
    try:
        async with pool.acquire() as connection:
            await ensure(connection, cluster_id="c", n_parts=1)
            text = orjson.dumps(door()).decode()
            parsed = read_definition(text)
            assert parsed.definition is not None, parsed.findings
            await apply_definition(connection, parsed, parsed.definition, text, applied_by="a test")
        store = PostgresStore(pool, owner="me", damper=timedelta(seconds=1))
        handler, owned = CommandsHandler(store, CelEngine()), await store.claim(0, 1)
        for offset, (name, body) in enumerate(_commands()):
            value, now_ms = orjson.dumps(body | {"requested_by": "ann", "reason": "so"}), int(time.time() * 1000)
            record = numbered([CommandRecord(value, timestamp=now_ms)], first=offset)
            owned = await handler.take_turn(owned, record, Wakeup(), parking=Parking(), applied=_ignore)
            async with pool.acquire() as connection:
                found = await get_workflow(connection, name)
            assert found is not None
            rows[name].append(found.body)
    finally:
        await pool.close()
    return rows


def _commands() -> list[tuple[str, dict[str, Any]]]:
    found = [(name, create(name, metadata={"colour": "red"})) for name in LIVES]
    for name, steps in LIVES.items():
        for number, step in enumerate(steps):
            if isinstance(step, dict):
                found.append((name, command("update_metadata", name, f"{name} {number}", metadata=step)))
            else:
                found.append((name, move(name, step, f"{name} {number}")))
    return found


def _ignore(_: Taken) -> None:
    """Publish nothing."""


@pytest.fixture
def turnstile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: Settings, past: Past
) -> CommandLine:
    """Give the command line on that store."""
    assert settings.database_url is None
    monkeypatch.setenv("TURNSTILE_DATABASE_URL", past.url)
    return CommandLine(monkeypatch, capsys)


def test_every_version_is_as_it_was_recorded(turnstile: CommandLine, past: Past) -> None:
    """By its number, and by the times from its decision until the next."""
    assert [6, 5, 7, 1] == [len(rows) for rows in past.rows.values()]
    for name, rows in past.rows.items():
        for version, row in enumerate(rows, start=1):
            recorded = orjson.loads(row)
            since = recorded["updated_at"]
            until = written(_moment(rows[version]) - timedelta(microseconds=1)) if version < len(rows) else since
            for moment in (str(version), since, until):
                said = turnstile("get", name, "--at", moment, "--json")
                assert (Exit.DONE, recorded) == (said.code, orjson.loads(said.out)), (name, moment)
    assert orjson.loads(past.rows["ended"][-1])["state"] == "bricked"


def _moment(row: bytes) -> datetime:
    return read(orjson.loads(row)["updated_at"])


def test_a_moment_that_never_was(turnstile: CommandLine, past: Past) -> None:
    """Before the creation, beyond the last version, or of nobody: 1, and what there is."""
    created = orjson.loads(past.rows["ended"][0])["created_at"]
    before = written(read(created) - timedelta(microseconds=1))
    said = turnstile("get", "ended", "--at", before)
    assert (Exit.REFUSED, "") == (said.code, said.out)
    assert f"turnstile: ended did not exist at {before}: it was created at {created}\n" == said.err
    assert "ended has no version 7 yet: it is at version 6" in turnstile("get", "ended", "--at", "7").err
    assert "ended has no version 0: its first is 1" in turnstile("diff", "ended", "--from", "0").err
    assert "no workflow nobody" in turnstile("get", "nobody", "--at", "1").err
    assert "version 3 comes after version 2: swap" in turnstile("diff", "ended", "--from", "3", "--to", "2").err


def test_what_changed_between_two_moments(turnstile: CommandLine) -> None:
    """Fields before and after, down to those of the metadata, and the events between with who and why."""
    told = orjson.loads(turnstile("diff", "painted", "--from", "2", "--to", "4", "--json").out)
    assert (2, 4) == (told["from"]["version"], told["to"]["version"])
    assert [
        {"path": ["metadata", "colour"], "before": "red"},
        {"path": ["metadata", "size"], "after": {"height": 2, "width": 1}},
    ] == [each for each in told["changed"] if each["path"][0] == "metadata"]
    assert {"version", "sequence", "updated_at", "metadata"} == {each["path"][0] for each in told["changed"]}
    assert [(3, "ann", "so"), (4, "ann", "so")] == [
        (event["sequence"], event["actor"], event["reason"]) for event in told["events"]
    ]
    shown = turnstile("diff", "painted")
    assert Exit.DONE == shown.code
    assert {"metadata.size", "previous_state", "METADATA_UPDATED", "ann"} <= set(shown.out.split())
    assert "nothing changed\n" in turnstile("diff", "new").out
