"""Documents that are applied at the same moment: what they say of each other holds all the same."""

import asyncio

import pytest

from service.app import Endpoints
from service.calendars.files import read_calendar
from service.slas.files import read_sla
from service.store.calendars import CalendarError, apply_calendar
from service.store.pool import Connection, open_connection
from service.store.sla_config import apply_sla

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


async def _calendar(connection: Connection, text: str) -> bool:
    parsed = read_calendar(text)
    assert parsed.calendar is not None, parsed.findings
    return await apply_calendar(connection, parsed, parsed.calendar, text, applied_by=None)
