"""Guards of one partition hang: the others flow, nothing guarded passes, and each command still has one outcome."""

from functools import partial

import orjson
import pytest

from service.app import Endpoints, running
from service.settings import Settings
from tests.e2e.audit import differences, look
from tests.e2e.guards import HangingGuards
from tests.e2e.outside import (
    Put,
    all_decided,
    command,
    creation,
    ids_on,
    move,
    outcomes,
    put,
    rows,
    send,
    turnstile,
    value,
)
from tests.eventually import assert_eventually

pytestmark = pytest.mark.stack
HANGING, FLOWING = 0, 1
DEADLINE_SECONDS = 60


@pytest.fixture
def patient(settings: Settings) -> Settings:
    """Give settings under which nobody loses patience with a guard."""
    return settings.model_copy(update={"guard_seconds": 60.0})


def story(workflow_id: str) -> list[Put]:
    """Return a creation, two guarded moves, a change of metadata, a repeat of the first move, and a refusal."""
    first = move(workflow_id, "ACTIVE")
    bodies = [
        creation(workflow_id),
        first,
        command(workflow_id, "update_metadata", metadata={"seen": True}),
        move(workflow_id, "PAUSED"),
        first,
        move(workflow_id, "FAILED"),
    ]
    return [put(body) for body in bodies]


TOLD = ["accepted", "accepted", "accepted", "accepted", "duplicate", "INVALID_TRANSITION"]


async def parked(endpoints: Endpoints) -> int:
    """Count what is parked."""
    return int(await value(endpoints, "select count(*) from parked"))


async def told(settings: Settings, endpoints: Endpoints, places: list[str]) -> list[str]:
    """Return what became of the records at some places, those that have an outcome."""
    found = await outcomes(settings, endpoints)
    return [found[place] for place in places if place in found]


async def test_the_others_flow_and_after_healing_all_are_judged(patient: Settings, endpoints: Endpoints) -> None:
    """While they hang only creations pass there; then every parked command gets its verdict, in its order."""
    guards = HangingGuards(HANGING, patient.partitions)
    here = ids_on(HANGING, 3, partitions=patient.partitions)
    there = ids_on(FLOWING, 3, partitions=patient.partitions)
    async with running(patient, endpoints, choose=guards.choose):
        guards.hang()
        stuck = [await send(endpoints, patient.topics.commands, story(name)) for name in here]
        flowing = [await send(endpoints, patient.topics.commands, story(name)) for name in there]
        for places in flowing:
            told_there = partial(told, patient, endpoints, places)
            await assert_eventually(TOLD, told_there, deadline_seconds=DEADLINE_SECONDS)
        await assert_eventually(15, lambda: parked(endpoints), deadline_seconds=DEADLINE_SECONDS)
        assert [["accepted"]] * 3 == [await told(patient, endpoints, places) for places in stuck]
        assert 3 == guards.struck
        await _is_seen(patient, endpoints, here[0])
        guards.heal()
        await assert_eventually(0, lambda: parked(endpoints), deadline_seconds=DEADLINE_SECONDS)
        await all_decided(patient, endpoints)
        for places in stuck:
            assert TOLD == await told(patient, endpoints, places)
    seen = await look(patient, endpoints)
    assert (36, []) == (len(seen.commands), differences(seen))


async def _is_seen(settings: Settings, endpoints: Endpoints, workflow_id: str) -> None:
    """`partitions show` and `why` say how many wait, since when and why."""
    _, printed = await turnstile(settings, endpoints, "partitions", "show", str(HANGING), "--json")
    state = orjson.loads(printed)
    assert (HANGING, 15, True) == (state["partition"], state["parked"], state["parked_since"] is not None)
    _, printed = await turnstile(settings, endpoints, "why", workflow_id, "--json")
    waiting = orjson.loads(printed)["parked"]
    assert ["guard", "behind", "behind", "behind", "behind"] == [each["reason"] for each in waiting]
    assert [HANGING] * 5 == [each["partition"] for each in waiting]
    code, printed = await turnstile(settings, endpoints, "why", waiting[3]["command_id"])
    assert 0 == code
    whole = " ".join(printed.decode().split())
    assert "its guard has not answered yet" in whole
    assert "the command at offset" in whole


async def test_a_guard_that_never_answers_is_refused(settings: Settings, endpoints: Endpoints) -> None:
    """After its time the reply says so, what comes after it is judged, and the same command may be sent again."""
    hasty = settings.model_copy(update={"guard_seconds": 0.2})
    guards = HangingGuards(HANGING, hasty.partitions)
    (name,) = ids_on(HANGING, 1, partitions=hasty.partitions)
    again = put(move(name, "ACTIVE"))
    async with running(hasty, endpoints, choose=guards.choose) as service:
        guards.hang()
        records = [put(creation(name)), again, put(command(name, "update_metadata", metadata={"seen": True}))]
        places = await send(endpoints, hasty.topics.commands, records)
        expected = ["accepted", "PREDICATE_UNAVAILABLE", "accepted"]
        await assert_eventually(expected, lambda: told(hasty, endpoints, places), deadline_seconds=DEADLINE_SECONDS)
        assert 1 == service.telemetry.registry.get_sample_value("turnstile_guard_timeouts_total")
        guards.heal()
        places = await send(endpoints, hasty.topics.commands, [again])
        await assert_eventually(["accepted"], lambda: told(hasty, endpoints, places), deadline_seconds=DEADLINE_SECONDS)


async def test_a_stolen_and_a_stopped_partition_keep_what_is_parked(patient: Settings, endpoints: Endpoints) -> None:
    """Another claim fences the owner that parked, a stop hands over to the next: still one outcome each."""
    guards = HangingGuards(HANGING, patient.partitions)
    names = ids_on(HANGING, 2, partitions=patient.partitions)
    async with running(patient, endpoints, choose=guards.choose):
        guards.hang()
        stolen = await send(endpoints, patient.topics.commands, story(names[0]))
        await assert_eventually(5, lambda: parked(endpoints), deadline_seconds=DEADLINE_SECONDS)
        await rows(endpoints, "select * from claim_v2($1, 'a thief', 1000000, '0 s')", HANGING)
        await rows(endpoints, "update partition set group_generation = 0 where part = $1", HANGING)
        guards.heal()
        await assert_eventually(TOLD, lambda: told(patient, endpoints, stolen), deadline_seconds=DEADLINE_SECONDS)
        guards.hang()
        kept = await send(endpoints, patient.topics.commands, story(names[1]))
        await assert_eventually(5, lambda: parked(endpoints), deadline_seconds=DEADLINE_SECONDS)
    assert ["accepted"] == await told(patient, endpoints, kept)
    async with running(patient, endpoints):
        await assert_eventually(TOLD, lambda: told(patient, endpoints, kept), deadline_seconds=DEADLINE_SECONDS)
        await all_decided(patient, endpoints)
    seen = await look(patient, endpoints)
    assert (12, []) == (len(seen.commands), differences(seen))
