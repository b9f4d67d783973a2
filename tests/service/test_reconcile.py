"""SLAs and timers as the store has them: reconciled, listed and reported, and each planted fault named."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import orjson
import pytest

from domain.instants import written
from handlers.ticks import Clock
from service.app import Endpoints
from service.cli.exits import Exit
from service.settings import Settings
from service.store import verify
from service.store.pool import SCHEMA
from service.store.reconcile import reconcile
from tests.fakes.machines import create, move
from tests.service.command_line import CommandLine
from tests.service.lived import lived

pytestmark = pytest.mark.stack
NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
TICKET: dict[str, Any] = {
    "name": "shop.ticket",
    "version": 1,
    "states": {"new": {"initial": True}, "asked": {"category": "waiting"}, "shelved": {}, "done": {}},
    "transitions": [
        {"name": "ask", "from": ["new"], "to": "asked"},
        {"name": "shelve", "from": ["new", "asked"], "to": "shelved"},
        {"name": "finish", "from": ["new", "asked", "shelved"], "to": "done"},
        {"name": "reopen", "from": ["done"], "to": "new"},
    ],
    "slas": [
        {
            "name": "reply",
            "target": "60m",
            "warning": "10m",
            "holds": ["shelved"],
            "stops": ["done"],
            "impact": "penalty",
            "ladder": [{"after": "0s", "alert": "team"}, {"after": "90m", "alert": "lead"}],
        }
    ],
}


def after(minutes: float) -> datetime:
    """Return the instant so long after nine."""
    return NINE + timedelta(minutes=minutes)


def _life() -> Iterator[dict[str, Any] | datetime]:
    """Give a Monday: one kept and started again, one held, one broken and open, one broken and ended, one quick."""

    def at(minutes: float, body: dict[str, Any]) -> dict[str, Any]:
        return body | {"tenant": "acme", "occurred_at": written(after(minutes))}

    for name in ("kept", "held", "broken", "ended"):
        yield at(0, create(name, definition="shop.ticket", service_area="lab", type="sample"))
    yield at(20, move("ended", "ask"))
    yield at(30, move("kept", "finish"))
    yield at(40, move("held", "shelve"))
    yield after(80)
    yield at(90, move("ended", "finish"))
    yield at(100, move("kept", "reopen"))
    yield at(100, create("quick", definition="shop.ticket"))
    yield at(101, move("quick", "finish"))


@pytest.fixture
def database_url(servers: Endpoints) -> Iterator[str]:
    """Give a store with that Monday in it."""
    with lived(servers.database_url, [TICKET], _life(), clock=Clock(logical=True)) as given:
        yield given.database_url


@pytest.fixture
def turnstile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: Settings, database_url: str
) -> CommandLine:
    """Give the command line on it."""
    assert settings.database_url is None
    monkeypatch.setenv("TURNSTILE_DATABASE_URL", database_url)
    return CommandLine(monkeypatch, capsys)


async def _on(url: str, query: str) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(url, server_settings={"search_path": SCHEMA, "timezone": "UTC"})
    try:
        return [dict(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def test_a_sound_store_reconciles(database_url: str) -> None:
    """Runs before the latest, held, breached and ended ones are as their workflows say."""
    found = await reconcile(database_url)
    assert (3, 2, 2, 6, {}) == (found.open, found.due, found.timers, found.rows, found.found), found.first
    assert (await verify.verify(database_url)).sound


@pytest.mark.parametrize(
    ("statement", "kinds", "first"),
    [
        (
            "delete from timer where workflow_id = 'kept'",
            {"timer": 1},
            "kept: SLA reply has its next step at 2026-11-23 11:30:00+00, its timer is set for never: there is none",
        ),
        (
            "update timer set due_at = due_at - interval '1 us' where workflow_id = 'kept'",
            {"timer": 1},
            "11:30:00+00, its timer is set for 2026-11-23 11:29:59.999999+00",
        ),
        (
            "insert into timer select part, 'held', name, due_at from timer where workflow_id = 'kept'",
            {"timer": 1},
            "held: SLA reply has its next step nowhere, its timer is set for 2026-11-23 11:30:00+00",
        ),
        (
            "update timer set part = 1 where workflow_id = 'kept'",
            {"timer": 2},
            "kept: SLA reply has its next step nowhere",
        ),
        (
            "delete from sla where workflow_id = 'held'",
            {"sla_run": 1},
            "held: SLA reply was started 1 times, there are rows of 0",
        ),
        (
            "delete from sla where workflow_id = 'kept' and run = 1",
            {"sla_run": 1},
            "kept: SLA reply was started 2 times, there are rows of 1",
        ),
        (
            """insert into sla select part, 'nobody', name, run, status, is_open, started_at, due_at, next_at, body
                from sla where workflow_id = 'held'""",
            {"sla": 1},
            "the workflow nothing",
        ),
        (
            """update sla set is_open = true, body = (body::jsonb - 'stopped_at')::text
                where workflow_id = 'kept' and run = 1""",
            {"sla": 1},
            "kept: SLA reply, run 1: the row says",
        ),
        (
            """update sla set body = replace(body, '"penalty"', '"praise"') where workflow_id = 'broken'""",
            {"sla": 1},
            "broken: SLA reply, run 1: the row says",
        ),
        (
            "update sla set status = 'met' where workflow_id = 'ended'",
            {"sla_columns": 1},
            "ended: SLA reply, run 1: column status is met, its body says breached",
        ),
        (
            "update sla set next_at = null, due_at = null where workflow_id = 'broken'",
            {"sla_columns": 2},
            "broken: SLA reply, run 1: column due_at is null, its body says 2026-11-23 10:00:00+00",
        ),
    ],
)
async def test_a_planted_fault_is_named(database_url: str, statement: str, kinds: dict[str, int], first: str) -> None:
    """By `timers reconcile` and by `verify`, with what is wrong."""
    await _on(database_url, statement)
    result = await reconcile(database_url)
    assert kinds == result.found, result.first
    assert first in "\n".join(problem.what for problem in result.first), result.first
    assert kinds == (await verify.verify(database_url)).found


def test_what_the_command_line_says_of_a_sound_store(turnstile: CommandLine) -> None:
    """Counts and 0."""
    said = turnstile("timers", "reconcile")
    assert (Exit.DONE, "3 open SLAs, 2 with a next step, 2 timers, 6 rows: sound\n") == (said.code, said.out)


async def _forge(url: str) -> None:
    await _on(url, "delete from timer where workflow_id = 'kept'")


def test_what_the_command_line_says_of_a_fault(turnstile: CommandLine, database_url: str) -> None:
    """It ends with 1 and names the kind and the bad one, as text and as JSON."""
    asyncio.run(_forge(database_url))
    said = turnstile("timers", "reconcile")
    assert Exit.REFUSED == said.code
    assert "3 open SLAs, 2 with a next step, 1 timers, 6 rows: problems: 1 timer\n" == said.out
    assert "timer: kept: SLA reply" in said.err
    told = orjson.loads(turnstile("timers", "reconcile", "--json").out)
    assert (False, {"timer": 1}) == (told["sound"], told["problems"])
    assert ["timer"] == [problem["kind"] for problem in told["first"]]


def test_the_next_timers_are_listed(turnstile: CommandLine) -> None:
    """The earliest first; by time, workflow, partition and number."""

    def listed(*words: str) -> list[tuple[str, str, str]]:
        said = turnstile("timers", "list", *words, "--json")
        assert Exit.DONE == said.code, said.err
        found = [orjson.loads(line) for line in said.out.splitlines()]
        assert {0} >= {each["partition"] for each in found}
        return [(each["workflow_id"], each["due_at"], each["status"]) for each in found]

    kept, broken = ("kept", written(after(150)), "on_track"), ("broken", written(after(150)), "breached")
    assert [broken, kept] == listed()
    assert [broken] == listed("--limit", "1")
    assert [kept] == listed("--workflow", "kept")
    assert [broken, kept] == listed("--partition", "0", "--before", "2026-11-23T12:30:01+01:00")
    assert (
        [] == listed("--before", "2026-11-23T11:30:00Z") == listed("--partition", "1") == listed("--workflow", "held")
    )
    assert {"kept", "broken", "11:30:00", "shop.ticket"} <= set(turnstile("timers", "list").out.split())
    assert Exit.USAGE == turnstile("timers", "list", "--before", "noon").code
    assert Exit.USAGE == turnstile("timers", "list", "--before", "3").code


async def test_what_reports_read(database_url: str) -> None:
    """Each run with its durations; the breaches with those that are open first."""
    found = await _on(database_url, "select * from sla_metrics order by workflow_id, run")
    assert [("broken", 1), ("ended", 1), ("held", 1), ("kept", 1), ("kept", 2), ("quick", 1)] == [
        (row["workflow_id"], row["run"]) for row in found
    ]
    broken, ended, held, kept, again, _ = found
    assert {
        "workflow_id": "ended",
        "root_id": "ended",
        "definition": "shop.ticket",
        "tenant": "acme",
        "service_area": "lab",
        "type": "sample",
        "sla": "reply",
        "run": 1,
        "status": "breached",
        "is_open": False,
        "started_at": after(0),
        "due_at": after(60),
        "breached_at": after(60),
        "stopped_at": after(90),
        "reckoned_at": after(90),
        "target_seconds": 3600,
        "actual_seconds": 5400,
        "breach_seconds": 1800,
        "held_seconds": 0,
        "closed_seconds": 0,
        "business_impact": "penalty",
        "rungs": 1,
    } == ended
    assert ("met", 1800, None, 0) == tuple(
        kept[name] for name in ("status", "actual_seconds", "breach_seconds", "rungs")
    )
    assert ("on_track", after(100), None) == tuple(again[name] for name in ("status", "started_at", "stopped_at"))
    assert (True, None, Decimal(2400)) == (held["is_open"], held["due_at"], held["actual_seconds"])
    assert (True, "breached", None, after(60), 1) == tuple(
        broken[name] for name in ("is_open", "status", "breach_seconds", "breached_at", "rungs")
    )
    breaches = await _on(database_url, "select workflow_id, breached_for from v_sla_breaches")
    assert ["broken", "ended"] == [row["workflow_id"] for row in breaches]
