"""Reads what every broker takes and aiokafka cannot: it would fetch the batch for ever and read nothing beside it.

A header's name that is no UTF-8 is read leniently. What is compressed is unpacked here, within bounds: a batch of 1 MiB
may hold gigabytes. aiokafka has no hook, so its reader of what was fetched is replaced.
"""

from collections.abc import Iterator
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import Any

import cramjam
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords

from handlers.ports import Unread

UNPACKED_BYTES_MAX = 48 * 1024 * 1024
"""What a batch may have when unpacked, and after how much of it nothing more is read of one fetch."""
_LENGTH_AT = 8
_FRAME_BYTES = 12  # the offset and the length before what the length counts
_HEADER_BYTES = _DefaultRecordBatchPy.HEADER_STRUCT.size
_CODEC_AT = 22  # the low byte of the attributes
# Taken from the system as far as it is written.
_ROOM = memoryview(mmap(-1, _HEADER_BYTES + UNPACKED_BYTES_MAX, flags=MAP_PRIVATE | MAP_ANONYMOUS))
_XERIAL = b"\x82SNAPPY\0\0\0\0\1\0\0\0\1"


def install() -> None:
    """Let the consumers of this process read such records; again does nothing."""
    fetcher.MemoryRecords = LenientRecords


class LenientRecords(MemoryRecords):  # type: ignore[misc] # aiokafka has no types
    """What was fetched of one partition, batch by batch."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._fetched = memoryview(data)
        self._at = 0
        self._room = UNPACKED_BYTES_MAX

    def has_next(self) -> bool:
        """Say whether to go on: after large batches the others are fetched again, once these are taken in."""
        return self._room > 0 and super().has_next()

    def next_batch(self) -> Any:  # noqa: ANN401 - aiokafka has no types
        """Return the next batch, None after the last."""
        batch = super().next_batch()
        begin = self._at
        self._at += _FRAME_BYTES + int.from_bytes(self._fetched[begin + _LENGTH_AT : begin + _FRAME_BYTES])
        if not isinstance(batch, DefaultRecordBatch) or batch.is_control_batch:
            return batch
        packed = self._fetched[begin : self._at]
        plain = _unpacked(packed, batch.compression_type)
        if plain is None:
            self._room = 0
            return _Unread(batch, len(packed))
        self._room -= len(plain)
        return _Batch(batch, plain)


class _Batch:
    """A batch that is read a second time if it must; its reader skips the offsets that it had already."""

    def __init__(self, batch: Any, plain: bytes | memoryview) -> None:  # noqa: ANN401 - aiokafka has no types
        self._batch = batch
        self._plain = plain

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the batch has
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from DefaultRecordBatch(self._plain) if self._batch.compression_type else self._batch
        except UnicodeDecodeError:
            slow = _DefaultRecordBatchPy(self._plain[:_HEADER_BYTES])
            slow._buffer = _LenientBytes(self._plain)  # noqa: SLF001 - see above
            yield from slow


class _Unread:
    """A batch that would be too large: its records have their places and no more."""

    def __init__(self, batch: Any, size: int) -> None:  # noqa: ANN401 - aiokafka has no types
        self._batch = batch
        self._problem = f"its batch of {size} bytes does not fit into {UNPACKED_BYTES_MAX} when it is decompressed"

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the batch has
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        batch = self._batch
        for offset in range(batch.base_offset, batch.next_offset):
            yield _DefaultRecordPy(offset, batch.max_timestamp, batch.timestamp_type, None, Unread(self._problem), [])


def _unpacked(batch: memoryview, codec: int) -> bytes | memoryview | None:
    """Return a batch as if it had never been compressed, None where it does not become one within bounds."""
    unpack = _CODECS.get(codec)
    if unpack is None:
        return batch
    _ROOM[:_HEADER_BYTES] = batch[:_HEADER_BYTES]
    _ROOM[_CODEC_AT] &= ~DefaultRecordBatch.CODEC_MASK
    try:
        size = unpack(batch[_HEADER_BYTES:], _ROOM[_HEADER_BYTES:])
    except cramjam.DecompressionError:
        return None
    return bytes(_ROOM[: _HEADER_BYTES + size])


def _unpack_snappy(packed: memoryview, room: memoryview) -> int:
    """Unpack snappy, whole or in Java's blocks."""
    if packed[: len(_XERIAL)] != _XERIAL:
        return cramjam.snappy.decompress_raw_into(packed, room)
    at, size = len(_XERIAL), 0
    while at < len(packed):
        block = at + 4
        at = block + int.from_bytes(packed[at:block])
        size += cramjam.snappy.decompress_raw_into(packed[block:at], room[size:])
    return size


_CODECS = {
    DefaultRecordBatch.CODEC_GZIP: cramjam.gzip.decompress_into,
    DefaultRecordBatch.CODEC_SNAPPY: _unpack_snappy,
    DefaultRecordBatch.CODEC_LZ4: cramjam.lz4.decompress_into,
    DefaultRecordBatch.CODEC_ZSTD: cramjam.zstd.decompress_into,
}


class _LenientBytes(bytearray):
    """Bytes whose slices decode whatever they hold; names are all that aiokafka decodes."""

    def __getitem__(self, place: Any) -> Any:  # noqa: ANN401 - an index or a slice
        found = super().__getitem__(place)
        return _LenientBytes(found) if isinstance(place, slice) else found

    def decode(self, encoding: str = "utf-8", _errors: str = "replace") -> str:
        return super().decode(encoding, "replace")
