"""`verify` finds nothing on a sound store, and every kind of planted fault by name."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from contracts.rejections import Code
from handlers.commands import CommandsHandler, Taken, Wakeup
from handlers.faults import Fenced
from handlers.parking import Parking
from handlers.placement import partition_of
from service.app import Endpoints
from service.definitions.files import read_definition
from service.predicates.cel import CelEngine
from service.store import schema, verify
from service.store.adapter import PostgresStore
from service.store.adoption import Standing, adopt, standing
from service.store.definitions import apply_definition
from service.store.partitions import ensure, halt, states
from service.store.pool import SCHEMA, fresh_database, open_pool
from service.store.problems import SHOWN_MAX
from service.store.reads import (
    Filter,
    Page,
    get_workflow,
    history,
    last_change,
    list_workflows,
    outcomes,
    outcomes_of_command,
    reading,
    refusals,
)
from tests.fakes.machines import command, door, identified
from tests.fakes.ports import CommandRecord, numbered

pytestmark = pytest.mark.stack
DOOR = "shop.door"
PARTS = 2
WORKFLOWS = [f"w{number}" for number in range(8)]
FIRST = WORKFLOWS[0]


def rewritten(old: str, new: str, sequence: int = 2) -> str:
    """Return the statement that forges an event of the first workflow."""
    return f"""
        update journal set event = convert_to(replace(convert_from(event, 'UTF8'), '{old}', '{new}'), 'UTF8')
         where workflow_id = 'w0' and sequence = {sequence}
    """  # noqa: S608 - a test's own words


@pytest.fixture
async def database_url(servers: Endpoints) -> AsyncIterator[str]:
    """Give a database in which eight doors were created, opened, shut and bricked up, and one push was refused."""
    async with fresh_database(servers.database_url, f"v{uuid4().hex[:12]}") as url:
        await schema.migrate(url)
        await _decide(url)
        yield url


async def _decide(url: str) -> None:
    pool = await open_pool(url, size=2)
    try:
        async with pool.acquire() as connection:
            await ensure(connection, cluster_id="c", n_parts=PARTS)
            text = orjson.dumps(door(max_open=100)).decode()
            parsed = read_definition(text)
            assert parsed.definition is not None, parsed.findings
            await apply_definition(connection, parsed, parsed.definition, text, applied_by="a test")
        store = PostgresStore(pool, owner="me", damper=timedelta(seconds=1))
        handler = CommandsHandler(store, CelEngine())
        for part in range(PARTS):
            bodies = [body for each in WORKFLOWS if partition_of(each, PARTS) == part for body in _commands(each)]
            now_ms = int(time.time() * 1000)
            records = numbered(CommandRecord(orjson.dumps(body), partition=part, timestamp=now_ms) for body in bodies)
            await handler.take_turn(await store.claim(part, 1), records, Wakeup(), parking=Parking(), applied=_ignore)
    finally:
        await pool.close()


def _ignore(_: Taken) -> None:
    """Publish nothing."""


def _commands(workflow_id: str) -> list[dict[str, object]]:
    moves = [("open", "open"), ("shut", "shut"), ("pull", "ajar"), ("brick", "bricked")]
    created = command(
        "create_workflow", workflow_id, f"create {workflow_id}", definition=DOOR, service_area=f"area {workflow_id}"
    )
    return [
        created,
        *(
            command("request_transition", workflow_id, f"{name} {workflow_id}", transition=name, requested_by=target)
            for name, target in moves
        ),
    ]


async def _plant(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, server_settings={"search_path": SCHEMA})
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


FORGED_ADOPTION = """
update journal
   set event = convert_to(
           (convert_from(event, 'UTF8')::jsonb || '{"incarnation": "00000000-0000-0000-0000-000000000000"}')::text,
           'UTF8')
 where kind = 'adopted'
"""


async def _adopt(url: str, *, next_seq: int) -> tuple[Standing, UUID]:
    """Halt partition 0 and take it up again from a row on."""
    pool = await open_pool(url, size=1)
    try:
        async with pool.acquire() as connection:
            await halt(connection, [0], "restored")
            before = await standing(connection, 0)
            assert before is not None
            incarnation = await adopt(connection, before, cluster_id="c", next_offset=7, next_seq=next_seq, by="a test")
            with pytest.raises(Fenced):
                await adopt(connection, before, cluster_id="c", next_offset=7, next_seq=next_seq, by="another")
            return before, incarnation
    finally:
        await pool.close()


async def test_an_adopted_partition_is_sound(database_url: str) -> None:
    """The journal goes on behind a gap that its row names, earlier events keep their incarnation; adopted once."""
    before, incarnation = await _adopt(database_url, next_seq=100)
    found = await verify.verify(database_url)
    assert (True, {}) == (found.sound, found.found)
    async with reading(database_url) as connection:
        after = await standing(connection, 0)
    assert (
        replace(
            before,
            epoch=before.epoch + 1,
            incarnation=incarnation,
            next_offset=7,
            next_seq=101,
            published_seq=100,
            halted=None,
        )
        == after
    )
    assert incarnation != before.incarnation


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("delete from journal where part = 0 and seq = 3", "journal"),
        ("update journal set seq = 99 where kind = 'adopted'", "journal"),
        (FORGED_ADOPTION, "event_id"),
        ("delete from journal where kind = 'adopted'", "event_id"),
    ],
)
async def test_an_adoption_hides_nothing_else(database_url: str, statement: str, kind: str) -> None:
    """Another gap is still found, and an event under an id that its incarnation does not give."""
    await _adopt(database_url, next_seq=100)
    await _plant(database_url, statement)
    assert kind in (await verify.verify(database_url)).found


async def test_a_sound_store_has_no_problem(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is folded, batch after batch, and nothing is found."""
    monkeypatch.setattr(verify, "WORKFLOWS_AT_ONCE", 3)
    seen: list[verify.Progress] = []
    result = await verify.verify(database_url, seen.append)
    assert (8, 8 * 4, {}, []) == (result.workflows, result.events, result.found, result.first)
    assert [verify.Progress(done, 8) for done in (0, 3, 6, 8)] == seen


async def test_an_empty_store_is_sound(servers: Endpoints) -> None:
    """Nothing is no fault."""
    async with fresh_database(servers.database_url, f"v{uuid4().hex[:12]}") as url:
        await schema.migrate(url)
        assert (await verify.verify(url)).sound


@pytest.mark.parametrize(
    ("statement", "kinds", "first"),
    [
        (
            """update workflow set body = replace(body, '"red"', '"blue"') where workflow_id = 'w0'""",
            {"fold": 1},
            "w0: its row is not what its history gives",
        ),
        (
            rewritten('"red"', '"blue"', sequence=1),
            {"fold": 1},
            "w0: its row is not what its history gives",
        ),
        (
            "update workflow set tenant = 'other' where workflow_id = 'w0'",
            {"columns": 1},
            "w0: its column tenant is other, its body says None",
        ),
        (
            "update workflow set is_open = true where workflow_id = 'w0'",
            {"columns": 1, "open_count": 1},
            "w0: its column is_open is True, its body says False",
        ),
        (
            rewritten('"version":2', '"version":3'),
            {"version": 2},
            "w0: event 2 has version 3, must have 2",
        ),
        (
            "update journal set sequence = 12 where workflow_id = 'w0' and sequence = 2",
            {"sequence": 1},
            "w0: event 3 stands where event 2 is due",
        ),
        (
            "update journal set event = '{}' where workflow_id = 'w0' and sequence = 2",
            {"history": 1},
            "w0: event 2 cannot be folded: KeyError('sequence')",
        ),
        (
            rewritten('"transition":"open"', '"transition":"shut"'),
            {"transition": 1},
            "w0: event 2 takes shut from shut to open, which shop.door version 1 does not have",
        ),
        (
            "update workflow set state = 'ablaze' where workflow_id = 'w0'",
            {"state": 1, "columns": 1},
            "w0: ablaze is no state of shop.door version 1",
        ),
        (
            "update definition set version = 2",
            {"definition": 8},
            "shop.door version 1 is not in the store",
        ),
        (
            "delete from workflow_id where workflow_id = 'w0'",
            {"registry": 1},
            "w0: the registry has partition none and root none, the row partition",
        ),
        (
            "update open_count set open = 5",
            {"open_count": 1},
            "shop.door: 0 are open, its counter says 5",
        ),
        ("delete from open_count", {"open_count": 1}, "shop.door: 0 are open, its counter says nothing"),
        (
            "delete from workflow where workflow_id = 'w0'",
            {"history": 1, "registry": 1},
            "w0: it has events and no row",
        ),
        (
            "delete from journal where workflow_id = 'w0' and sequence is not null",
            {"history": 1, "journal": 2},
            "w0: it has a row and no events",
        ),
        (
            "update partition set next_seq = next_seq + 1 where part = 1",
            {"journal": 1},
            "partition 1: its next row",
        ),
        (
            "delete from journal where kind = 'reply' and workflow_id = 'w0'",
            {"journal": 1},
            "comes after row",
        ),
        (
            """update journal set command_id = (select command_id from journal j
                where j.workflow_id = 'w0' and j.sequence = 1) where workflow_id = 'w0' and sequence = 2""",
            {"outcome": 1},
            "of root w0 has 2 outcomes",
        ),
    ],
)
async def test_a_planted_fault_is_named(database_url: str, statement: str, kinds: dict[str, int], first: str) -> None:
    """Each kind of fault is found, and the bad row is named with what is wrong."""
    await _plant(database_url, statement)
    result = await verify.verify(database_url)
    assert kinds == result.found, result.first
    assert first in "\n".join(problem.what for problem in result.first), result.first


async def test_an_event_id_that_was_not_made_here_is_found(database_url: str) -> None:
    """Ids follow from the partition's incarnation, so a foreign one shows in every event of the partition."""
    part = partition_of(FIRST, PARTS)
    await _plant(database_url, f"update partition set incarnation = gen_random_uuid() where part = {part}")  # noqa: S608 - a number
    result = await verify.verify(database_url)
    there = sum(partition_of(each, PARTS) == part for each in WORKFLOWS)
    assert {"event_id": 4 * there} == result.found
    assert SHOWN_MAX >= len(result.first)


async def test_what_people_read_of_it(database_url: str) -> None:
    """Rows, pages, histories and outcomes are those of the commands."""
    async with reading(database_url) as connection:
        found = await get_workflow(connection, FIRST)
        assert found is not None
        assert ("bricked", 4, False) == (found.workflow.state, found.workflow.version, found.is_open)
        assert None is await get_workflow(connection, "nobody")
        listed = await list_workflows(
            connection, Filter(definition=DOOR), Page("workflow_id", descending=False, limit=2, offset=1)
        )
        assert (["w1", "w2"], 8) == ([row.workflow.workflow_id for row in listed.rows], listed.total)
        assert 0 == (await list_workflows(connection, Filter(is_open=True))).total
        assert 1 == (await list_workflows(connection, Filter(service_area="area w3"))).total
        events = [orjson.loads(body) for body in await history(connection, FIRST)]
        assert [1, 2, 3, 4] == [event["sequence"] for event in events]
        assert [4] == [orjson.loads(body)["sequence"] for body in await history(connection, FIRST, after=3)]
        last = await last_change(connection, FIRST)
        assert last is not None
        assert events[-1] == last.event
        refused = await refusals(connection, FIRST)
        assert [Code.GUARD_DENIED] == [outcome.reply["rejection"]["code"] for outcome in refused]
        assert [] == await refusals(connection, FIRST, since=last)
        assert 5 == len(await outcomes(connection, FIRST))
        bound = await outcomes_of_command(connection, UUID(identified(f"pull {FIRST}")))
        assert refused == bound
        assert PARTS == len(await states(connection))


async def test_reads_cannot_write(database_url: str) -> None:
    """The connection for reads refuses a change."""
    async with reading(database_url) as connection:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("delete from workflow")


async def test_no_schema_is_said_plainly(servers: Endpoints) -> None:
    """A read on an empty database says what to run."""
    async with fresh_database(servers.database_url, f"v{uuid4().hex[:12]}") as url:
        with pytest.raises(schema.SchemaError, match="turnstile db migrate"):
            async with reading(url) as connection:
                await get_workflow(connection, FIRST)
