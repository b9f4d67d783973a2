"""What was fetched, read as aiokafka hands it on: whatever is compressed in it, and to what size."""

from collections.abc import Callable
from typing import Any, NamedTuple

import cramjam
import pytest
from aiokafka import TopicPartition
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchBuilderPy

from handlers.ports import Unread
from service.broker.lenient import UNPACKED_BYTES_MAX, LenientRecords

HEADER_BYTES = 61
MIB = 1024 * 1024


class Codec(NamedTuple):
    """How a batch is packed, and what it says of that."""

    number: int
    pack: Callable[[bytes], Any]


CODECS = {
    "none": Codec(DefaultRecordBatch.CODEC_NONE, bytes),
    "gzip": Codec(DefaultRecordBatch.CODEC_GZIP, gzip_encode),
    "snappy in blocks": Codec(DefaultRecordBatch.CODEC_SNAPPY, snappy_encode),
    "snappy": Codec(DefaultRecordBatch.CODEC_SNAPPY, cramjam.snappy.compress_raw),
    "lz4": Codec(DefaultRecordBatch.CODEC_LZ4, lz4_encode),
    "zstd": Codec(DefaultRecordBatch.CODEC_ZSTD, zstd_encode),
}
PACKING = pytest.mark.parametrize("codec", [codec for name, codec in CODECS.items() if name != "none"])


def batch(first: int, codec: Codec, *values: bytes) -> bytes:
    """Return a batch of records from an offset on."""
    builder = _DefaultRecordBatchBuilderPy(2, DefaultRecordBatch.CODEC_NONE, 0, -1, -1, -1, 1024 * MIB)
    for number, value in enumerate(values):
        builder.append(number, 1_000 + number, b"key", value, [("name", b"header")])
    made = bytearray(builder.build())
    made[HEADER_BYTES:] = bytes(memoryview(codec.pack(bytes(made[HEADER_BYTES:]))))
    made[:8] = first.to_bytes(8)
    made[8:12] = (len(made) - 12).to_bytes(4)
    made[22] |= codec.number
    return bytes(made)


def read(fetched: bytes, start: int = 0) -> tuple[list[tuple[int, bytes | None]], int]:
    """Return the records of what was fetched from an offset on, and from which to fetch next."""
    records = PartitionRecords(
        TopicPartition("t", 0),
        LenientRecords(fetched),
        aborted_transactions=None,
        fetch_offset=start,
        key_deserializer=None,
        value_deserializer=None,
        check_crcs=False,
        isolation_level=READ_COMMITTED,
    )
    return [(record.offset, record.value) for record in records], records.next_fetch_offset


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_batch_is_read_as_it_was_sent(codec: Codec) -> None:
    """Each record with its key, value, headers and time, one after the other."""
    values = [b"a" * 1000, b"", bytes(range(256)) * 100]
    sent = [(7 + number, 1_000 + number, b"key", value, [("name", b"header")]) for number, value in enumerate(values)]
    made = LenientRecords(batch(7, codec, *values)).next_batch()
    assert sent == [(record.offset, record.timestamp, record.key, record.value, record.headers) for record in made]


@PACKING
def test_a_batch_that_grows_beyond_bounds_is_not_unpacked(codec: Codec) -> None:
    """Its records have their places, and what comes behind it is fetched and read."""
    bomb = batch(5, codec, b"small", bytes(UNPACKED_BYTES_MAX))
    after = batch(7, codec, b"after")
    found, next_offset = read(bomb + after, 5)
    assert ([5, 6], 7) == ([offset for offset, _ in found], next_offset)
    for _, value in found:
        assert isinstance(value, Unread)
        assert f"its batch of {len(bomb)} bytes does not fit into {UNPACKED_BYTES_MAX}" in value.problem
    assert ([(7, b"after")], 8) == read(after, next_offset)


@PACKING
def test_a_batch_within_bounds_is_unpacked_whole(codec: Codec) -> None:
    """However small it was before."""
    value = bytes(UNPACKED_BYTES_MAX - 100)
    assert ([(0, value)], 1) == read(batch(0, codec, value))


def test_of_one_fetch_no_more_is_unpacked_than_one_batch_may_have() -> None:
    """What is left is fetched again, and nothing is passed over."""
    sizes = [UNPACKED_BYTES_MAX // 2] * 5
    batches = [batch(number, CODECS["zstd"], bytes(size)) for number, size in enumerate(sizes)]
    turns, at = [], 0
    while at < len(sizes):
        found, at = read(b"".join(batches[at:]), at)
        turns.append([offset for offset, _ in found])
    assert [[0, 1], [2, 3], [4]] == turns


def test_a_batch_that_cannot_be_unpacked_stops_nothing() -> None:
    """It came so from its producer, and would for ever."""
    broken = bytearray(batch(0, CODECS["lz4"], b"a" * 1000))
    broken[-12:-4] = b"\xff" * 8
    (only,), next_offset = read(bytes(broken))
    assert (0, 1) == (only[0], next_offset)
    assert isinstance(only[1], Unread)
