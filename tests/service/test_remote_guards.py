"""Turns whose guards a remote engine judges: what becomes of commands while it cannot be asked, and afterwards."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

from contracts.ticks import Tick
from handlers.commands import Wakeup
from handlers.limits import Limits
from handlers.ports import JournalRow, ParkedRecord
from handlers.ticks import ReceivedTick
from service.predicates.dialects import PlainJson
from service.predicates.engines import Engines
from service.predicates.remote import Bounds, RemoteEngine
from service.predicates.transport import Http
from tests.eventually import assert_eventually
from tests.fakes.machines import compiled, create, move, sent
from tests.fakes.ports import CommandRecord
from tests.fakes.store import MemoryStore
from tests.fakes.turns import Turns, outcome, replies
from tests.policies.engine import ScriptedEngine, say, scripted_engine

GATE = "shop.gate"
BOUNDS = Bounds(patience_seconds=20.0, seconds=10.0, retries=0, failures_max=2, open_seconds=60.0)
LIMITS = Limits(guard_budget_seconds=20.0, guard_turn_seconds_max=20.0, guard_seconds_max=30.0)


def gate(on_unavailable: str) -> dict[str, object]:
    """Return a gate that a remote policy guards."""
    return {
        "name": GATE,
        "version": 1,
        "states": {"shut": {"initial": True}, "open": {}},
        "transitions": [
            {"name": "open", "from": "shut", "to": "open", "guard": {"remote": "gate/open"}},
            {"name": "shut", "from": "open", "to": "shut", "guard": "true"},
        ],
        "on_unavailable": on_unavailable,
    }


@asynccontextmanager
async def gates(
    on_unavailable: str, bounds: Bounds = BOUNDS, limits: Limits = LIMITS
) -> AsyncIterator[tuple[Turns, ScriptedEngine]]:
    """Open turns over one gate `w`, and the engine they ask."""
    store = MemoryStore()
    store.add(compiled(gate(on_unavailable)))
    async with scripted_engine() as scripted:
        engines = Engines(RemoteEngine(PlainJson(scripted.url, 100), Http(connections=8), bounds))
        turns = Turns(store, engines, limits)
        try:
            assert ["accepted"] == await turns.outcomes(sent(create("w", definition=GATE)))
            yield turns, scripted
        finally:
            await engines.close()


def failing(scripted: ScriptedEngine) -> None:
    """Let the engine answer with 500, whatever it says beside."""
    scripted.fault = lambda _, __, writer: say(writer, {"verdicts": [True]}, "500 Oh")


async def ticked(turns: Turns, seconds: float) -> list[JournalRow]:
    """Let time pass and take the turn of its tick."""
    turns.store.now += timedelta(seconds=seconds)
    tick = Tick(partition=0, time=turns.store.now, commands_end_offset=0, emitter="e")
    return await turns.take(wakeup=Wakeup(ReceivedTick(CommandRecord(b""), tick)))


def parked(turns: Turns) -> list[ParkedRecord]:
    """Return what is parked, in its order."""
    return [record for _, record in sorted(turns.store.waiting.items())]


async def test_a_denial_brings_the_policys_words() -> None:
    """The rejection names the policy, its reason and the values it gave, and does not invite to try again."""
    async with gates("reject") as (turns, _):
        (reply,) = await turns.replies(sent(move("w", "open", context={"deny": "late"})))
    rejection = reply["rejection"]
    assert "remote" == rejection["why"].pop("verdict")["engine"]
    assert (
        "GUARD_DENIED",
        "the guard of open denied it: it is to be denied",
        {"clause": "gate/open", "values": {"command.context.deny": "late"}},
        False,
    ) == (rejection["code"], rejection["message"], rejection["why"], rejection.get("retryable", False))


async def test_where_the_definition_rejects_the_same_command_may_be_sent_again() -> None:
    """It is refused with what went wrong, its id is not bound, and nothing is parked."""
    async with gates("reject") as (turns, scripted):
        failing(scripted)
        (reply,) = await turns.replies(sent(move("w", "open")))
        rejection = reply["rejection"]
        assert (
            "PREDICATE_UNAVAILABLE",
            "the guard of open could not be asked: the policy engine: it answered with status 500",
            True,
        ) == (rejection["code"], rejection["message"], rejection["retryable"])
        scripted.fault = None
        assert (["accepted"], []) == (await turns.outcomes(sent(move("w", "open"))), parked(turns))


async def test_where_it_waits_the_command_is_asked_about_on_ticks_until_the_engine_is_back() -> None:
    """Nothing is sent while the breaker is open, and it counts as a try; what comes behind keeps its order."""
    async with gates("wait", replace(BOUNDS, failures_max=1, open_seconds=1.0)) as (turns, scripted):
        failing(scripted)
        assert [] == await turns.take(sent(move("w", "open")), sent(move("w", "shut")))
        assert [1, 0] == [record.parked.attempts for record in parked(turns)]
        assert "its guard could not be asked: the policy engine: it answered with status 500" == (
            parked(turns)[0].parked.detail
        )
        assert [] == await ticked(turns, 1)
        assert (1, 2) == (len(scripted.requests), parked(turns)[0].parked.attempts)
        assert "is not asked for a while" in parked(turns)[0].parked.detail
        scripted.fault = None
        answered: list[JournalRow] = []

        async def judged() -> list[str]:
            answered.extend([*await ticked(turns, 60), *await turns.take()])
            return [outcome(reply) for reply in replies(answered)]

        await assert_eventually(["accepted", "accepted"], judged, poll_seconds=0.1)
        assert (2, []) == (len(scripted.requests), parked(turns))
        assert ("shut", 3) == (turns.workflow("w").state, turns.workflow("w").version)


async def test_where_it_waits_for_too_long_it_is_refused() -> None:
    """After the limit on age, in a way that does not bind its id."""
    limits = replace(LIMITS, parked_age_max=timedelta(seconds=10))
    async with gates("wait", limits=limits) as (turns, scripted):
        failing(scripted)
        assert [] == await turns.take(sent(move("w", "open")))
        assert ["PREDICATE_UNAVAILABLE"] == [outcome(reply) for reply in replies(await ticked(turns, 10))]
        scripted.fault = None
    async with gates("wait", limits=limits) as (turns, _):
        assert ["accepted"] == await turns.outcomes(sent(move("w", "open")))


async def test_a_turn_asks_about_all_its_workflows_in_one_request() -> None:
    """They do not wait for each other, and one of them that is denied is nobody else's trouble."""
    async with gates("reject") as (turns, scripted):
        names = [f"v{number}" for number in range(50)]
        await turns.take(*[sent(create(name, definition=GATE)) for name in names])
        deny = [{"context": {"deny": True}} if number % 7 == 0 else {} for number in range(50)]
        moves = [sent(move(name, "open", **context)) for name, context in zip(names, deny, strict=True)]
        told = {reply["workflow_id"]: outcome(reply) for reply in await turns.replies(*moves)}
        expected = {name: "GUARD_DENIED" if each else "accepted" for name, each in zip(names, deny, strict=True)}
        assert (expected, [50]) == (told, [len(each) for each in scripted.requests])


async def test_a_partition_that_is_let_go_of_leaves_nothing_behind() -> None:
    """Its questions are dropped with it, the other's are answered."""
    async with gates("wait", limits=replace(LIMITS, guard_budget_seconds=0)) as (turns, scripted):
        scripted.seconds = 0.05
        assert [] == await turns.take(sent(move("w", "open")))
        turns.parking.pop(0).close()
        assert ["accepted"] == [outcome(reply) for reply in replies(await _until_answered(turns, [await turns.take()]))]


async def _until_answered(turns: Turns, taken: list[list[JournalRow]]) -> list[JournalRow]:
    async def rows() -> int:
        taken.append(await turns.take())
        return sum(map(len, taken))

    await assert_eventually(1, rows, poll_seconds=0.01)
    return [row for each in taken for row in each]
