"""Documents that are applied at the same moment: what they say of each other holds all the same."""

import asyncio
from datetime import timedelta

import orjson
import pytest

from domain.calendar import Calendar
from handlers.commands import CommandsHandler, Taken, Wakeup
from handlers.ports import ParkReason, Wanted
from service.app import Endpoints
from service.calendars.files import read_calendar
from service.definitions.files import read_definition
from service.slas.files import read_sla
from service.store import partitions
from service.store.adapter import NEWEST_SECONDS, PostgresStore
from service.store.calendars import CalendarError, apply_calendar
from service.store.definitions import apply_definition
from service.store.pool import Connection, open_connection, open_pool
from service.store.sla_config import apply_sla
from tests.fakes.machines import create, sent
from tests.fakes.ports import ScriptedGuards, numbered

pytestmark = pytest.mark.stack
OFFICE = """
name: shop.office
version: 1
time_zone: Europe/Vienna
week: {monday: "09:00-17:00", tuesday: "09:00-17:00"}
"""
SHORTER = OFFICE.replace("version: 1", "version: 2").replace('tuesday: "09:00-17:00"', 'tuesday: "09:00-12:00"')
PROMISE = """
name: shop.answering
version: 1
definition: alims.workflow
sla: {name: answer, target: 1d, calendar: shop.office, starts: [created], stops: [completed]}
"""
PROMISING = """
name: shop.desk
version: 1
states: {asked: {initial: true}, answered: {terminal: true}}
transitions: [{name: answer, from: asked, to: answered}]
slas: [{name: answer, target: 2d, calendar: shop.office}]
"""
PROMISELESS = PROMISING[: PROMISING.index("slas:")]


async def test_a_promise_and_the_calendar_that_would_not_know_its_day(endpoints: Endpoints) -> None:
    """The second waits for the first, and is refused for what it says."""
    first, second = [await open_connection(endpoints.database_url) for _ in range(2)]
    try:
        await _calendar(first, OFFICE)
        promise = read_sla(PROMISE)
        assert promise.config is not None, promise.findings
        async with first.transaction():
            assert await apply_sla(first, promise, promise.config, PROMISE, applied_by=None)
            applying = asyncio.create_task(_calendar(second, SHORTER))
            done, _ = await asyncio.wait({applying}, timeout=1)
            assert not done
        with pytest.raises(CalendarError, match="'1d' is unclear"):
            await applying
    finally:
        for each in (first, second):
            each.terminate()


@pytest.mark.parametrize("promised_by", ["definition", "configuration"])
async def test_what_promises_by_a_new_calendar_is_not_met_with_the_old_one(
    endpoints: Endpoints, promised_by: str
) -> None:
    """A worker that had just asked for the newest calendar asks again for what was applied after it."""
    pool = await open_pool(endpoints.database_url, size=2)
    store = PostgresStore(pool, owner="tests", damper=timedelta())
    try:
        async with pool.acquire() as connection:
            await _calendar(connection, OFFICE)
            await store.configured()
            await asyncio.sleep(0.7 * NEWEST_SECONDS)
            assert 1 == _version(await store.calendar("shop.office", None))
            await _calendar(connection, SHORTER + "working_day: 8h\n")
            if promised_by == "definition":
                promising = read_definition(PROMISING)
                assert promising.definition is not None, promising.findings
                await apply_definition(connection, promising, promising.definition, PROMISING, applied_by=None)
                await store.definition("shop.desk", 1)
            else:
                promise = read_sla(PROMISE)
                assert promise.config is not None, promise.findings
                await apply_sla(connection, promise, promise.config, PROMISE, applied_by=None)
                await asyncio.sleep(0.4 * NEWEST_SECONDS)
                await store.configured()
        assert 2 == _version(await store.calendar("shop.office", None))
    finally:
        await pool.close()


async def test_a_definition_of_a_later_build_holds_up_nobody_else(endpoints: Endpoints) -> None:
    """A command that needs it is set aside and tried again; its neighbour in the same turn has its outcome."""
    pool = await open_pool(endpoints.database_url, size=2)
    store = PostgresStore(pool, owner="tests", damper=timedelta())
    try:
        async with pool.acquire() as connection:
            await partitions.ensure(connection, cluster_id="c", n_parts=1)
            parsed = read_definition(PROMISELESS)
            assert parsed.definition is not None, parsed.findings
            await apply_definition(connection, parsed, parsed.definition, PROMISELESS, applied_by=None)
            later = {"name": "shop.desk", "version": 2, "invented": "later"}
            await connection.execute(
                "insert into definition (name, version, body, source, digest) values ('shop.desk', 2, $1, $1, '')",
                orjson.dumps(later).decode(),
            )
        handler = CommandsHandler(store, ScriptedGuards())
        owned = await store.claim(0, 1)
        parking = await handler.open(owned)
        records = numbered(
            [
                sent(create("new", definition="shop.desk")),
                sent(create("old", definition="shop.desk", definition_version=1)),
            ]
        )
        taken: list[Taken] = []
        owned = await handler.take_turn(owned, records, Wakeup(), parking=parking, applied=taken.append)
        loaded = await store.load(owned, Wanted(["new", "old"], (), ()))
        assert {"old"} == loaded.workflows.keys()
        (waiting,) = await store.parked(owned)
        assert ("new", ParkReason.ERROR) == (waiting.workflow_id, waiting.reason)
    finally:
        await pool.close()


def _version(calendar: Calendar | None) -> int | None:
    return None if calendar is None else calendar.version


async def _calendar(connection: Connection, text: str) -> bool:
    parsed = read_calendar(text)
    assert parsed.calendar is not None, parsed.findings
    return await apply_calendar(connection, parsed, parsed.calendar, text, applied_by=None)
