"""Reads records with a header whose name is no UTF-8, which C clients can write and every broker takes.

aiokafka cannot: it would fetch their batch for ever and read nothing beside it. It has no hook, so its reader of what
was fetched is replaced; batches are read as before, and once more, leniently, where that fails.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_LENGTH_AT = 8
_FRAME_BYTES = 12  # the offset and the length before what the length counts


def install() -> None:
    """Let the consumers of this process read such records; again does nothing."""
    fetcher.MemoryRecords = LenientRecords


class LenientRecords(MemoryRecords):  # type: ignore[misc] # aiokafka has no types
    """What was fetched of one partition, batch by batch."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._fetched = memoryview(data)
        self._at = 0

    def next_batch(self) -> Any:  # noqa: ANN401 - aiokafka has no types
        """Return the next batch, None after the last."""
        batch = super().next_batch()
        begin = self._at
        self._at += _FRAME_BYTES + int.from_bytes(self._fetched[begin + _LENGTH_AT : begin + _FRAME_BYTES])
        if not isinstance(batch, DefaultRecordBatch) or batch.is_control_batch:
            return batch
        return _Batch(batch, self._fetched[begin : self._at])


class _Batch:
    """A batch that is read a second time if it must; its reader skips the offsets that it had already."""

    def __init__(self, batch: Any, data: memoryview) -> None:  # noqa: ANN401 - aiokafka has no types
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the batch has
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._batch
        except UnicodeDecodeError:
            slow = _DefaultRecordBatchPy(self._data)
            slow._maybe_uncompress()  # noqa: SLF001 - see above
            slow._buffer = _LenientBytes(slow._buffer)  # noqa: SLF001
            yield from slow


class _LenientBytes(bytearray):
    """Bytes whose slices decode whatever they hold; names are all that aiokafka decodes."""

    def __getitem__(self, place: Any) -> Any:  # noqa: ANN401 - an index or a slice
        found = super().__getitem__(place)
        return _LenientBytes(found) if isinstance(place, slice) else found

    def decode(self, encoding: str = "utf-8", _errors: str = "replace") -> str:
        return super().decode(encoding, "replace")
