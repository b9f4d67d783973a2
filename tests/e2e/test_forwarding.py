"""Producers whose partitioner is not murmur2 are served: what lands elsewhere is sent on and decided at home."""

from collections import Counter

import pytest

from handlers.placement import partition_of
from service.app import Endpoints, Service, running
from service.settings import Settings
from tests.e2e.audit import differences, look
from tests.e2e.outside import all_decided, creation, header, ids_on, move, outcomes, put, read, rows, send
from tests.eventually import assert_eventually

pytestmark = pytest.mark.stack
WORKFLOWS = 30


def _astray(settings: Settings, workflow_id: str, by: int = 1) -> int:
    return (partition_of(workflow_id, settings.partitions) + by) % settings.partitions


def _forwarded(service: Service) -> int:
    return int(service.telemetry.registry.get_sample_value("turnstile_commands_forwarded_total") or 0)


async def test_commands_on_the_wrong_partition_are_decided_on_the_right_one(
    settings: Settings, endpoints: Endpoints
) -> None:
    """Each is decided once, in order, its reply comes on its root's partition, and the metric tells the operator."""
    names = [name for part in range(settings.partitions) for name in ids_on(part, 10, partitions=settings.partitions)]
    records = [put(creation(name), _astray(settings, name)) for name in names]
    records += [put(move(name, "ACTIVE"), _astray(settings, name)) for name in names]

    async def decided() -> Counter[str]:
        return Counter((await outcomes(settings, endpoints)).values())

    async with running(settings, endpoints) as service:
        await send(endpoints, settings.topics.commands, records)
        await assert_eventually(Counter(accepted=2 * WORKFLOWS), decided)
        await all_decided(settings, endpoints)
        assert 2 * WORKFLOWS == _forwarded(service)
    assert {name: (partition_of(name, settings.partitions), "ACTIVE", 2) for name in names} == {
        row["workflow_id"]: (row["part"], row["state"], row["version"])
        for row in await rows(endpoints, "select * from workflow")
    }
    seen = await look(settings, endpoints)
    assert [] == differences(seen)
    sent_on = [record for record in seen.commands if header(record, "turnstile_origin")]
    assert Counter({"1": 2 * WORKFLOWS}) == Counter(header(record, "turnstile_hops") for record in sent_on)


async def test_the_same_command_on_two_partitions_is_carried_out_once(settings: Settings, endpoints: Endpoints) -> None:
    """A producer that changed its partitioner between two tries is told of the repeat."""
    body = creation("w")
    async with running(settings, endpoints):
        for by in (0, 1, 2):
            await send(endpoints, settings.topics.commands, [put(body, _astray(settings, "w", by))])

        async def decided() -> Counter[str]:
            return Counter((await outcomes(settings, endpoints)).values())

        await assert_eventually(Counter(accepted=1, duplicate=2), decided)


async def test_a_command_is_not_sent_round_for_ever(settings: Settings, endpoints: Endpoints) -> None:
    """After two hops a command that is still astray is a dead letter; one hop more is left to one with a single hop."""
    once, often = ids_on(0, 2, partitions=settings.partitions)
    records = [
        put(creation(once), 1, [("turnstile_hops", b"1"), ("traceparent", b"00-a-b-01")]),
        put(creation(often), 1, [("turnstile_hops", b"2")]),
    ]

    async def decided() -> dict[str, str]:
        return await outcomes(settings, endpoints)

    async with running(settings, endpoints):
        await send(endpoints, settings.topics.commands, records)
        await assert_eventually({"0/0": "accepted", "1/1": "dead letter: TOO_MANY_HOPS"}, decided)
    (arrived,) = [record for record in await read(endpoints, settings.topics.commands) if record.partition == 0]
    assert ["2", "1/0", "00-a-b-01"] == [
        header(arrived, name) for name in ("turnstile_hops", "turnstile_origin", "traceparent")
    ]
    assert once.encode() == arrived.key
