"""Logs that part from their store under a worker, or before one starts: halted, seen, never skipped; then adopted."""

from collections.abc import Sequence
from itertools import chain

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import KafkaError

from service.app import Endpoints, Service, running
from service.ownership import Phase
from service.settings import Settings
from tests.e2e.guards import HangingGuards
from tests.e2e.outside import (
    all_decided,
    creation,
    end_offsets,
    ids_on,
    move,
    outcomes,
    put,
    read_json,
    send,
    turnstile,
    value,
)
from tests.eventually import assert_eventually

pytestmark = pytest.mark.stack
HALT_SECONDS = 60


async def create(settings: Settings, endpoints: Endpoints, part: int, number: int) -> list[str]:
    """Send commands that create workflows on one partition, ids in capitals as some write them; returns their names."""
    names = ids_on(part, number, partitions=settings.partitions)
    bodies = [body | {"command_id": body["command_id"].upper()} for body in map(creation, names)]
    await send(endpoints, settings.topics.commands, [put(body, part) for body in bodies])
    return names


async def delete_before(settings: Settings, endpoints: Endpoints, part: int, offset: int) -> None:
    """Have the broker delete the commands before an offset, as retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=endpoints.bootstrap_servers)
    await admin.start()
    try:
        key = TopicPartition(settings.topics.commands, part)
        assert {key: offset} == await admin.delete_records({key: RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()


async def make_anew(settings: Settings, endpoints: Endpoints) -> None:
    """Delete the commands topic and make another of its name."""
    topic = settings.topics.commands
    admin = AIOKafkaAdminClient(bootstrap_servers=endpoints.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([topic])

        async def made() -> bool:
            try:
                await admin.create_topics([NewTopic(topic, settings.partitions, 1)])
            except KafkaError:
                return False
            return topic in await admin.list_topics()

        await assert_eventually(expected=True, actual=made)
    finally:
        await admin.close()


async def all_active(service: Service, settings: Settings) -> None:
    """Wait until the worker takes turns of each partition."""

    async def active() -> list[Phase]:
        return [phase for phase, _ in service.worker.phases().values()]

    await assert_eventually([Phase.ACTIVE] * settings.partitions, active, deadline_seconds=HALT_SECONDS)


async def halted(service: Service, part: int, start: str) -> None:
    """Wait until one partition is halted for a reason that starts so."""

    async def found() -> tuple[Phase, str]:
        phase, reason = service.worker.phases()[part]
        return phase, (reason or "")[: len(start)]

    await assert_eventually((Phase.HALTED, start), found, deadline_seconds=HALT_SECONDS)


async def decided(endpoints: Endpoints, names: Sequence[str]) -> None:
    """Wait until all of these workflows exist."""

    async def there() -> int:
        return int(await value(endpoints, "select count(*) from workflow where workflow_id = any ($1)", list(names)))

    await assert_eventually(len(names), there, deadline_seconds=HALT_SECONDS)


async def test_a_running_worker_never_jumps_over_deleted_commands(settings: Settings, endpoints: Endpoints) -> None:
    """Where retention overtakes a partition it halts, others go on; adopted, it goes on from the log's start.

    aiokafka by itself would read on at the end, and nobody would hear of the commands in between.
    """
    async with running(settings, endpoints) as service:
        await all_active(service, settings)
        known = await create(settings, endpoints, 0, 3)
        await decided(endpoints, known)
        consumer = service.worker.consumer
        assert consumer is not None
        consumer.pause(TopicPartition(settings.topics.commands, 0))
        lost = await create(settings, endpoints, 0, 4)
        await delete_before(settings, endpoints, 0, 5)
        consumer.resume(TopicPartition(settings.topics.commands, 0))
        await halted(service, 0, "the store has decided up to offset 3, the commands topic holds 5 to 7")
        await decided(endpoints, await create(settings, endpoints, 1, 2))
        assert 3 == await value(endpoints, "select next_offset from partition where part = 0")

        assert (0, b'{"partition":0,"resumed":true}\n') == await turnstile(
            settings, endpoints, "partitions", "resume", "0", "--json"
        )
        await halted(service, 0, "the store has decided up to offset 3, the commands topic holds 5 to 7")
        shown = await turnstile(settings, endpoints, "partitions", "adopt", "0")
        assert 0 == shown[0]
        assert b"the log starts at 5, the store has decided up to 3: 2 records are gone undecided" in shown[1]
        assert b"nothing is changed yet" in shown[1]
        assert 3 == await value(endpoints, "select next_offset from partition where part = 0")
        assert 0 == (await turnstile(settings, endpoints, "partitions", "adopt", "0", "--yes"))[0]
        await decided(endpoints, lost[2:])
        await all_decided(settings, endpoints)
        assert 0 == await value(endpoints, "select count(*) from workflow where workflow_id = any ($1)", lost[:2])
    assert 0 == (await turnstile(settings, endpoints, "verify"))[0]


async def test_a_running_worker_does_not_mind_what_it_has_decided(settings: Settings, endpoints: Endpoints) -> None:
    """Deleting commands that are decided parts nothing."""
    async with running(settings, endpoints) as service:
        await all_active(service, settings)
        await decided(endpoints, await create(settings, endpoints, 0, 3))
        await delete_before(settings, endpoints, 0, 3)
        await decided(endpoints, await create(settings, endpoints, 0, 3))
        await all_active(service, settings)


async def test_a_starting_worker_halts_where_commands_were_deleted(settings: Settings, endpoints: Endpoints) -> None:
    """What was deleted while nobody ran is seen at the claim, and remembered: the next worker does not claim it."""
    async with running(settings, endpoints) as service:
        await all_active(service, settings)
        await decided(endpoints, await create(settings, endpoints, 2, 2))
    await create(settings, endpoints, 2, 3)
    await delete_before(settings, endpoints, 2, 4)
    reason = "the store has decided up to offset 2, the commands topic holds 4 to 5"
    async with running(settings, endpoints) as service:
        await halted(service, 2, reason)
        await decided(endpoints, await create(settings, endpoints, 1, 2))
    epoch = await value(endpoints, "select epoch from partition where part = 2")
    async with running(settings, endpoints) as service:
        await halted(service, 2, reason)
    assert epoch == await value(endpoints, "select epoch from partition where part = 2")


async def test_a_topic_made_anew_is_decided_from_its_beginning(settings: Settings, endpoints: Endpoints) -> None:
    """Offsets of the former topic mean nothing: the partition halts, and adopting it skips none of the new commands."""
    async with running(settings, endpoints) as service:
        await all_active(service, settings)
        await decided(endpoints, await create(settings, endpoints, 0, 4))
    await make_anew(settings, endpoints)
    later = await create(settings, endpoints, 0, 2)
    async with running(settings, endpoints) as service:
        await halted(service, 0, "the store has decided up to offset 4, the commands topic holds 0 to 2")
        shown = await turnstile(settings, endpoints, "partitions", "adopt", "0", "--yes")
        assert b"it was made anew, so commands are decided from its first offset 0 on" in shown[1]
        await decided(endpoints, later)
        await all_active(service, settings)


async def test_a_topic_made_anew_that_has_grown_past_the_old_one_is_seen(
    settings: Settings, endpoints: Endpoints
) -> None:
    """Its offsets look right; its records are not those that were decided, and none of them is jumped over."""
    async with running(settings, endpoints) as service:
        await all_active(service, settings)
        known = await create(settings, endpoints, 0, 4)
        await decided(endpoints, known)
    await make_anew(settings, endpoints)
    later = await create(settings, endpoints, 0, 6)
    async with running(settings, endpoints) as service:
        await halted(service, 0, "the store has decided command ")
        shown = await turnstile(settings, endpoints, "partitions", "adopt", "0", "--yes")
        assert b"its records are others than those decided: it was made anew" in shown[1]
        await decided(endpoints, [*known, *later])
        await all_decided(settings, endpoints)
        await all_active(service, settings)
    assert 0 == (await turnstile(settings, endpoints, "verify"))[0]


async def test_what_was_parked_outlives_its_topic(settings: Settings, endpoints: Endpoints) -> None:
    """Commands parked from the former topic get their verdicts, and those of the new one at the same offsets theirs."""
    patient = settings.model_copy(update={"guard_seconds": 60.0})
    guards = HangingGuards(0, patient.partitions)
    guards.hang()
    old, new = ids_on(0, 2, partitions=patient.partitions)

    async def parked() -> int:
        return int(await value(endpoints, "select count(*) from parked"))

    async with running(patient, endpoints, choose=guards.choose) as service:
        await all_active(service, patient)
        await send(endpoints, patient.topics.commands, [put(creation(old)), put(move(old, "ACTIVE"))])
        await assert_eventually(1, parked, deadline_seconds=HALT_SECONDS)
    await make_anew(patient, endpoints)
    await send(endpoints, patient.topics.commands, [put(creation(new)), put(move(new, "ACTIVE"))])
    async with running(patient, endpoints, choose=guards.choose) as service:
        await halted(service, 0, "the store has decided ")
        assert 0 == (await turnstile(patient, endpoints, "partitions", "adopt", "0", "--yes"))[0]
        await assert_eventually(2, parked, deadline_seconds=HALT_SECONDS)
        guards.heal()

        async def active() -> int:
            return int(await value(endpoints, "select count(*) from workflow where state = 'ACTIVE'"))

        await assert_eventually(2, active, deadline_seconds=HALT_SECONDS)
        await all_active(service, patient)
    assert 0 == await parked()
    assert 0 == (await turnstile(patient, endpoints, "verify"))[0]


async def test_a_topic_made_anew_under_a_running_worker_halts(settings: Settings, endpoints: Endpoints) -> None:
    """The worker never takes the new topic for the one it read, and loses none of its commands."""
    async with running(settings, endpoints) as service:
        await all_active(service, settings)
        for part in range(settings.partitions):
            await decided(endpoints, await create(settings, endpoints, part, 5))
        await make_anew(settings, endpoints)
        later = [await create(settings, endpoints, part, 2) for part in range(settings.partitions)]

        async def halts() -> int:
            return int(await value(endpoints, "select count(*) from partition where halted is not null"))

        await assert_eventually(settings.partitions, halts, deadline_seconds=120)
        assert 0 == (await turnstile(settings, endpoints, "partitions", "adopt", "--all", "--yes"))[0]
        await decided(endpoints, list(chain(*later)))
        await all_active(service, settings)
    assert 0 == (await turnstile(settings, endpoints, "verify"))[0]


async def test_a_log_that_lost_its_end_goes_on_from_there(settings: Settings, endpoints: Endpoints) -> None:
    """Where what is left of the log is what was decided, adopting goes on at its end and decides nothing twice."""
    async with running(settings, endpoints) as service:
        await all_active(service, settings)
        await decided(endpoints, await create(settings, endpoints, 0, 4))
    before = await end_offsets(endpoints, settings.topics.events)
    # A broker does not cut its log when asked; to the store four left of six look like four there of six decided.
    await value(endpoints, "update partition set next_offset = 6 where part = 0 returning 1")
    async with running(settings, endpoints) as service:
        await halted(service, 0, "the store has decided up to offset 6, the commands topic holds 0 to 4")
        shown = await turnstile(settings, endpoints, "partitions", "adopt", "0", "--yes")
        assert b"it lost its end, and what is left was decided (offset 3 is the command that it was)" in shown[1]
        await all_active(service, settings)
        assert 4 == await value(endpoints, "select next_offset from partition where part = 0")
        later = await create(settings, endpoints, 0, 1)
        await decided(endpoints, later)
        await all_decided(settings, endpoints)
    events = await read_json(endpoints, settings.topics.events)
    assert before != await end_offsets(endpoints, settings.topics.events)
    assert 5 == len(events)


async def test_an_operator_halts_and_resumes_a_running_worker(settings: Settings, endpoints: Endpoints) -> None:
    """A halted partition's commands wait, others flow; resumed, it goes on within the same process."""
    async with running(settings, endpoints) as service:
        await all_active(service, settings)
        assert (0, b"partition 1 is halted\n") == await turnstile(
            settings, endpoints, "partitions", "halt", "1", "--reason", "a look at agency 7"
        )
        waiting = await create(settings, endpoints, 1, 3)
        await halted(service, 1, "a look at agency 7")
        await decided(endpoints, await create(settings, endpoints, 0, 3))
        told = [place for place in await outcomes(settings, endpoints) if place.startswith("1/")]
        assert ([], 0) == (told, await value(endpoints, "select next_offset from partition where part = 1"))
        assert 1 == (await turnstile(settings, endpoints, "partitions", "adopt", "0", "--yes"))[0]
        assert 1 == (await turnstile(settings, endpoints, "partitions", "resume", "17"))[0]
        assert 2 == (await turnstile(settings, endpoints, "partitions", "resume"))[0]
        assert (0, b"partition 1 is resumed\n") == await turnstile(settings, endpoints, "partitions", "resume", "1")
        await decided(endpoints, waiting)
        await all_active(service, settings)
