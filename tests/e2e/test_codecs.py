"""What producers compress is read, whatever codec they chose and however they batch."""

from collections.abc import Sequence

import pytest

from service.app import Endpoints, running
from service.settings import Settings
from tests.e2e.outside import Put, all_decided, creation, ids_on, move, outcomes, producer, put
from tests.eventually import assert_eventually

pytestmark = pytest.mark.stack
CODECS = ("gzip", "snappy", "lz4", "zstd")
PART = 2


async def _send_batch(endpoints: Endpoints, topic: str, records: Sequence[Put], codec: str | None) -> list[str]:
    """Send records as one batch of one partition; returns their places."""
    async with producer(endpoints, compression_type=codec, max_batch_size=512 * 1024) as opened:
        batch = opened.create_batch()
        for record in records:
            assert batch.append(timestamp=None, key=record.key, value=record.value) is not None
        place = await (await opened.send_batch(batch, topic, partition=PART))
    return [f"{PART}/{place.offset + number}" for number in range(len(records))]


async def test_every_codec_is_read(settings: Settings, endpoints: Endpoints) -> None:
    """A batch of creations and moves in each codec is decided record by record."""
    places: dict[str, list[str]] = {}
    async with running(settings, endpoints):
        for codec in CODECS:
            names = ids_on(PART, 20, partitions=settings.partitions)
            records = [put(body) for name in names for body in (creation(name), move(name, "ACTIVE"))]
            places[codec] = await _send_batch(endpoints, settings.topics.commands, records, codec)
        await all_decided(settings, endpoints)
    became = await outcomes(settings, endpoints)
    assert dict.fromkeys(CODECS, ["accepted"] * 40) == {
        codec: [became[place] for place in batch] for codec, batch in places.items()
    }


async def test_a_batch_may_mix_keys(settings: Settings, endpoints: Endpoints) -> None:
    """Commands of all partitions' roots, some without a key, in one batch of one partition: each is done once."""
    names = [name for part in range(settings.partitions) for name in ids_on(part, 10, partitions=settings.partitions)]
    records = [put(creation(name)) for name in names]
    records[::7] = [record._replace(key=None) for record in records[::7]]

    async def accepted() -> int:
        return list((await outcomes(settings, endpoints)).values()).count("accepted")

    async with running(settings, endpoints):
        await _send_batch(endpoints, settings.topics.commands, records, "lz4")
        await assert_eventually(len(names), accepted)
