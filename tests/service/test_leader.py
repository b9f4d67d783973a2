"""Who leads: one at a time, and none that is frozen."""

import asyncio
from functools import partial

import pytest

from service.app import Endpoints
from service.store.leader import Leader, LeaderLostError
from tests.eventually import assert_eventually

pytestmark = pytest.mark.stack


def leader(servers: Endpoints, silent_seconds_max: float = 60.0) -> Leader:
    """Return one that would have the job of this test."""
    return Leader(servers.database_url, "a job of tests", silent_seconds_max=silent_seconds_max)


async def _place(of: Leader) -> str:
    return "leads" if await of.try_lead() else "waits"


async def test_one_leads_until_it_is_gone(servers: Endpoints) -> None:
    """Another one has to wait for as long as the first one's session is there."""
    async with leader(servers) as second:
        async with leader(servers) as first:
            assert (True, False) == (await first.try_lead(), await second.try_lead())
        await assert_eventually("leads", partial(_place, second))


async def test_one_that_is_frozen_leads_no_more(servers: Endpoints) -> None:
    """It says nothing, so the database lets the next one lead; the first one finds out when it goes on."""
    async with leader(servers, silent_seconds_max=2) as frozen, leader(servers) as other:
        assert await frozen.try_lead()
        for _ in range(25):
            await asyncio.sleep(0.1)
            await frozen.clock()
        assert not await other.try_lead()
        await assert_eventually("leads", partial(_place, other))
        with pytest.raises(LeaderLostError):
            await frozen.clock()


async def test_one_whose_session_ends_as_it_speaks_is_told_so(servers: Endpoints) -> None:
    """The driver has several words for it; each means that it leads no more, and none ends whoever would lead."""

    async def speaks(after_seconds: float) -> None:
        async with leader(servers, silent_seconds_max=0.02) as short:
            await short.clock()
            await asyncio.sleep(after_seconds)
            await short.clock()

    ends = [speaks(0.016 + number / 2000) for number in range(16)]
    found = [
        *await asyncio.gather(*ends, return_exceptions=True),
        *await asyncio.gather(speaks(1), return_exceptions=True),
    ]
    assert {LeaderLostError} == {type(each) for each in found if each is not None}
