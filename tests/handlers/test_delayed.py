"""Commands whose time has not come wait aside, hold nothing back, and come into the order when it has."""

from base64 import b64decode
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

from domain.instants import written
from handlers.ports import JournalRow, ParkReason
from handlers.ticks import ReceivedTick, read_tick
from tests.fakes.machines import compiled, create, door, move, sent
from tests.fakes.ports import CommandRecord
from tests.fakes.store import START
from tests.fakes.turns import Turns, outcome, replies


@pytest.fixture
def turns() -> Turns:
    """Give one partition with a door."""
    given = Turns()
    given.store.add(compiled(door()))
    return given


def later(**after: float) -> str:
    """Return an instant after the start."""
    return written(START + timedelta(**after))


async def fire(turns: Turns, at: datetime) -> list[JournalRow]:
    """Let a tick fire whose commands are all decided; return the rows that it left."""
    tick = read_tick(
        CommandRecord(
            orjson.dumps({"partition": 0, "time": written(at), "commands_end_offset": 0, "emitter": "e"}),
            topic="turnstile.scheduler",
        )
    )
    assert isinstance(tick, ReceivedTick)
    turns.store.now = max(turns.store.now, at)
    rows, _ = await turns.fire(tick)
    return rows


def resent(rows: list[JournalRow]) -> list[CommandRecord]:
    """Return the records that rows send."""
    found = []
    for row in rows:
        document: dict[str, Any] = orjson.loads(row.event or b"")
        headers = [(name, b64decode(value)) for name, value in document["headers"]]
        found.append(CommandRecord(b64decode(document["value"]), key=document["key"].encode(), headers=headers))
    return found


async def test_a_delayed_command_is_decided_when_its_time_has_come(turns: Turns) -> None:
    """Those after it are not held back; it is sent again once, and then decided like any other."""
    rows = await turns.take(
        sent(create("w")), sent(move("w", "open", "late", not_before=later(minutes=5))), sent(move("w", "open"))
    )
    assert ["accepted", "accepted"] == [outcome(reply) for reply in replies(rows)]
    assert [ParkReason.DELAYED] == [record.parked.reason for record in turns.store.waiting.values()]
    assert [] == await fire(turns, START + timedelta(minutes=4.9))
    rows = await fire(turns, START + timedelta(minutes=5))
    assert ["forward"] == [row.kind for row in rows]
    assert ({}, []) == (turns.store.waiting, await fire(turns, START + timedelta(minutes=6)))
    assert ["INVALID_TRANSITION"] == await turns.outcomes(*resent(rows))


async def test_a_new_owner_knows_what_is_delayed(turns: Turns) -> None:
    """Nothing of it is in memory; it counts for no limit of parked commands."""
    await turns.take(sent(create("w")), sent(move("w", "open", not_before=later(hours=2))))
    turns.owned[0] = await turns.store.claim(0, 2)
    del turns.parking[0]
    assert ["accepted"] == await turns.outcomes(sent(move("w", "push")))
    assert 0 == len(turns.parking[0])
    assert ["accepted"] == await turns.outcomes(*resent(await fire(turns, START + timedelta(hours=2))))


async def test_a_command_whose_time_is_over_or_too_far_is_answered_at_once(turns: Turns) -> None:
    """What lies behind is decided; what lies beyond the memory of ids could run twice and is refused."""
    assert ["accepted", "accepted", "INVALID_COMMAND"] == await turns.outcomes(
        sent(create("w")),
        sent(move("w", "open", not_before=later(minutes=-1))),
        sent(move("w", "shut", not_before=later(days=20))),
    )


async def test_a_delayed_command_that_expires_meanwhile_is_refused(turns: Turns) -> None:
    """Its reply says so when its time comes."""
    await turns.take(sent(create("w")), sent(move("w", "open", not_before=later(hours=2), expires_at=later(hours=1))))
    rows = await fire(turns, START + timedelta(hours=2))
    turns.store.now = START + timedelta(hours=2)
    assert ["EXPIRED"] == await turns.outcomes(*resent(rows))


async def test_a_delayed_command_sent_twice_is_decided_once(turns: Turns) -> None:
    """Both wait; the second is answered as a repeat."""
    twice = [sent(move("w", "open", not_before=later(minutes=5))) for _ in range(2)]
    await turns.take(sent(create("w")), *twice)
    turns.store.now = START + timedelta(minutes=5)
    assert ["accepted", "accepted again"] == await turns.outcomes(*resent(await fire(turns, turns.store.now)))
