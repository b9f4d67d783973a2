"""Commands whose time has not come wait aside, hold nothing back, and come into the order when it has."""

from base64 import b64decode
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

from domain.instants import written
from handlers.commands import Wakeup
from handlers.placement import partition_of
from handlers.ports import JournalRow, Loaded, Ownership, ParkReason, Wanted
from handlers.ticks import ReceivedTick, read_tick
from tests.fakes.machines import compiled, create, door, move, sent
from tests.fakes.ports import CommandRecord, header
from tests.fakes.store import START, MemoryStore
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


def tick_at(at: datetime, part: int = 0) -> ReceivedTick:
    """Return a tick whose commands are all decided."""
    body = {"partition": part, "time": written(at), "commands_end_offset": 0, "emitter": "e"}
    tick = read_tick(CommandRecord(orjson.dumps(body), partition=part, topic="turnstile.scheduler"))
    assert isinstance(tick, ReceivedTick)
    return tick


async def fire(turns: Turns, at: datetime, part: int = 0) -> list[JournalRow]:
    """Let a tick fire whose commands are all decided; return the rows that it left."""
    turns.store.now = max(turns.store.now, at)
    rows, _ = await turns.fire(tick_at(at, part), part)
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


async def test_what_comes_too_early_may_be_sent_again_later(turns: Turns) -> None:
    """Its refusal binds no id; what a late tick would find forgotten is too early too."""
    body = move("w", "open", not_before=later(days=13, hours=23.5))
    assert ["accepted", "INVALID_COMMAND"] == await turns.outcomes(sent(create("w")), sent(body))
    turns.store.now = START + timedelta(hours=1)
    assert [] == await turns.outcomes(sent(body, timestamp=int(turns.store.now.timestamp() * 1000)))
    (record,) = resent(await fire(turns, START + timedelta(days=14, minutes=50)))
    record.timestamp = int(turns.store.now.timestamp() * 1000)
    assert ["accepted"] == await turns.outcomes(record)


async def test_a_command_from_the_end_of_time_can_be_delayed(turns: Turns) -> None:
    """Whatever the record's timestamp, as a producer may write it."""
    record = sent(move("w", "open", not_before=later(hours=2)), timestamp=2**62)
    assert ["accepted"] == await turns.outcomes(sent(create("w")), record)
    assert ["accepted"] == await turns.outcomes(*resent(await fire(turns, START + timedelta(hours=2))))


@dataclass
class Unloadable(MemoryStore):
    """A store in which the row of a workflow cannot be read while it is `broken`."""

    broken: bool = False

    async def load(self, owned: Ownership, wanted: Wanted) -> Loaded:
        """Load, or fail as a bug would."""
        if self.broken and wanted.workflow_ids:
            raise KeyError(wanted.workflow_ids[0])
        return await super().load(owned, wanted)


async def test_a_delayed_command_that_our_own_code_failed_on_still_waits_for_its_time() -> None:
    """Tried again it is found to be early: it is set aside like any other, and those behind it go on."""
    store = Unloadable()
    turns = Turns(store)
    store.add(compiled(door()))
    await turns.take(sent(create("w")))
    store.broken = True
    await turns.take(sent(move("w", "open", not_before=later(hours=5))))
    store.broken = False
    await turns.take(sent(move("w", "push")))
    assert [ParkReason.ERROR, ParkReason.BEHIND] == [record.parked.reason for record in store.waiting.values()]
    rows = []
    for seconds in (2, 3):
        store.now = START + timedelta(seconds=seconds)
        rows += await turns.take(wakeup=Wakeup(tick_at(store.now)))
    assert ["accepted"] == [outcome(reply) for reply in replies(rows)]
    assert ([ParkReason.DELAYED], 0) == ([each.parked.reason for each in store.waiting.values()], len(turns.parking[0]))
    assert ["accepted"] == await turns.outcomes(*resent(await fire(turns, START + timedelta(hours=5))))


async def test_what_is_sent_again_finds_its_partition_though_some_were_added() -> None:
    """It had been forwarded before it was set aside, and the topic grew meanwhile: its hops begin anew."""
    turns = Turns(MemoryStore(4))
    turns.store.add(compiled(door()))
    name = next(each for each in map(str, range(99)) if (partition_of(each, 2), partition_of(each, 4)) == (1, 3))
    turns.owned[1] = replace(await turns.store.claim(1, 1), n_parts=2)
    forwarded = header(sent(create(name, not_before=later(hours=1))), turnstile_hops="1")
    assert [] == await turns.take(forwarded, part=1)
    turns.owned[1] = replace(turns.owned[1], n_parts=4)
    record = forwarded
    for part in (1, 3):
        rows = await fire(turns, START + timedelta(hours=1), part) if part == 1 else await turns.take(record, part=1)
        ((where, record),) = [(orjson.loads(row.event or b"")["part"], *resent([row])) for row in rows]
        assert part == where
    assert ["accepted"] == await turns.outcomes(record, part=3)


@pytest.mark.parametrize(
    ("was", "by", "kind"), [(b"request_transition", b"an_older_word", "reply"), (b"{", b"", "dead_letter")]
)
async def test_what_this_build_cannot_read_any_more_stops_nothing(
    turns: Turns, was: bytes, by: bytes, kind: str
) -> None:
    """It was set aside by another one: when its time comes it is answered, or is a dead letter; others go on."""
    await turns.take(sent(create("w")), *(sent(move("w", way, not_before=later(hours=1))) for way in ("open", "push")))
    first = turns.store.waiting[0, 1]
    first.value = (first.value or b"").replace(was, by, 1)
    rows = await fire(turns, START + timedelta(hours=1))
    assert ([kind, "forward"], {}) == ([row.kind for row in rows], turns.store.waiting)
    assert (["INVALID_COMMAND"] if kind == "reply" else []) == [outcome(reply) for reply in replies(rows)]
    assert ["accepted"] == await turns.outcomes(*resent(rows[1:]))


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
