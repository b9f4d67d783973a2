"""A definition's new version is taken up under load: at once for what is new, not at all for what is under way."""

import asyncio
from collections import Counter
from datetime import timedelta
from itertools import count
from uuid import uuid4

import pytest

from service.app import Endpoints, running
from service.settings import Settings
from tests.e2e.audit import differences, look
from tests.e2e.outside import all_decided, command, creation, define, outcomes, producer, put, rows, value
from tests.eventually import assert_eventually

pytestmark = pytest.mark.stack
PICKED_UP_MAX = timedelta(seconds=1)
WANTED = 60
ROUND_SECONDS = 0.05

ORDER = """
name: shop.parcel
version: 1
states: {ordered: {initial: true}, packed: {}, sent: {terminal: true}}
transitions:
  - {name: prepare, from: ordered, to: packed, guard: command.workflow_id != ''}
  - {name: send, from: packed, to: sent}
limits: {max_open: 100000}
"""
# The same commands lead through another state.
CHECKED = ORDER.replace("version: 1", "version: 2").replace("packed", "checked")


def _move(workflow_id: str, transition: str) -> dict[str, object]:
    return command(workflow_id, transition=transition)


async def _keep_ordering(settings: Settings, endpoints: Endpoints, enough: asyncio.Event) -> list[str]:
    """Create a workflow a round, and move along those of some rounds ago; returns where the commands were put."""
    sent = []
    async with producer(endpoints) as opened:
        for number in count():
            bodies = [creation(f"p-{number}", "shop.parcel")]
            bodies += [_move(f"p-{number - 5}", "prepare")] if number >= 5 else []
            bodies += [_move(f"p-{number - 40}", "send")] if number >= 40 else []
            records = [put(body) for body in bodies]
            futures = [await opened.send(settings.topics.commands, each.value, each.key) for each in records]
            sent += [f"{place.partition}/{place.offset}" for place in await asyncio.gather(*futures)]
            if enough.is_set():
                return sent
            await asyncio.sleep(ROUND_SECONDS)
    raise AssertionError("it goes on until it is enough")


async def _created(endpoints: Endpoints, version: int) -> int:
    query = "select count(*) from workflow where definition = 'shop.parcel' and definition_version = $1"
    return min(int(await value(endpoints, query, version)), WANTED)


async def test_a_new_version_is_picked_up_without_missing_a_beat(settings: Settings, endpoints: Endpoints) -> None:
    """By the store's clock nothing is created on the old one a second later; no command is lost or refused for it."""
    await define(endpoints, ORDER)
    enough = asyncio.Event()
    async with running(settings, endpoints):
        ordering = asyncio.create_task(_keep_ordering(settings, endpoints, enough))
        await assert_eventually(WANTED, lambda: _created(endpoints, 1))
        await define(endpoints, CHECKED)
        await assert_eventually(WANTED, lambda: _created(endpoints, 2))
        enough.set()
        places = await ordering
        await all_decided(settings, endpoints)
        found = await outcomes(settings, endpoints)
        seen = await look(settings, endpoints)
    assert Counter(accepted=len(places)) == Counter(found[place] for place in places)
    assert [] == differences(seen)
    applied_at = await value(endpoints, "select applied_at from definition where name = 'shop.parcel' and version = 2")
    created = await rows(endpoints, "select workflow_id, definition_version, created_at from workflow")
    versions = {row["workflow_id"]: row["definition_version"] for row in created}
    late = [
        row["workflow_id"]
        for row in created
        if row["definition_version"] == 1 and row["created_at"] > applied_at + PICKED_UP_MAX
    ]
    early = [row["workflow_id"] for row in created if row["definition_version"] == 2 and row["created_at"] < applied_at]
    assert ([], []) == (late, early)
    # Each went the way of the version that it was created on, some of them long after the new one was there.
    moved = await rows(
        endpoints,
        """
        select workflow_id, convert_from(event, 'utf8')::jsonb ->> 'to_state' as state,
               (convert_from(event, 'utf8')::jsonb ->> 'timestamp')::timestamptz > $1 as after
          from journal where convert_from(event, 'utf8')::jsonb ->> 'transition' = 'prepare'
        """,
        applied_at,
    )
    ways = Counter((versions[row["workflow_id"]], row["state"]) for row in moved)
    assert {(1, "packed"), (2, "checked")} == set(ways)
    assert any(row["after"] for row in moved if versions[row["workflow_id"]] == 1)


async def test_what_is_under_way_stays_on_its_version(settings: Settings, endpoints: Endpoints) -> None:
    """A workflow ends by the version it began with, though the worker meets the newer one first."""
    old, new = f"w-{uuid4()}", f"w-{uuid4()}"
    await define(endpoints, ORDER)
    async with running(settings, endpoints):
        await _sent(settings, endpoints, creation(old, "shop.parcel"))
    await define(endpoints, CHECKED)
    async with running(settings, endpoints):
        bodies = [creation(new, "shop.parcel"), _move(new, "prepare"), _move(old, "prepare"), _move(old, "send")]
        await _sent(settings, endpoints, *bodies)
    states = await rows(endpoints, "select workflow_id, definition_version, state from workflow")
    assert {(old, 1, "sent"), (new, 2, "checked")} == {tuple(row) for row in states}


async def _sent(settings: Settings, endpoints: Endpoints, *bodies: dict[str, object]) -> None:
    async with producer(endpoints) as opened:
        for body in bodies:
            record = put(body)
            await opened.send_and_wait(settings.topics.commands, record.value, record.key)
    await all_decided(settings, endpoints)
