"""Reads a partition's parked commands back: their order at each claim, their bytes when they are looked at again."""

from base64 import b64decode
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from handlers.ports import Ownership, Parked, ParkedRecord, ParkReason
from service.store.pool import Connection, faults_of

_SIZE = "octet_length(headers) + coalesce(octet_length(key), 0) + coalesce(octet_length(value), 0)"
_FIELDS = (
    "record_offset, workflow_id, command_id::text, reason, detail, parked_at, attempts, not_before, expires_at, "
    f"{_SIZE} as size"
)
PARKED = f"select {_FIELDS} from parked where part = $1 and reason <> 'delayed' order by record_offset"  # noqa: S608 - names of ours
_RECORDS = f"select {_FIELDS}, topic, broker_ms, key, value, headers from parked where part = $1"  # noqa: S608 - as above
RECORDS = f"{_RECORDS} and record_offset = any ($2) order by record_offset"
DELAYED = f"{_RECORDS} and reason = 'delayed' and not_before <= $2 order by not_before limit $3"


async def load_parked(connection: Connection, owned: Ownership) -> list[Parked]:
    """Return what a partition has parked, by offset."""
    with faults_of():
        return [_parked(row) for row in await connection.fetch(PARKED, owned.part)]


async def load_parked_records(connection: Connection, owned: Ownership, offsets: Sequence[int]) -> list[ParkedRecord]:
    """Return parked commands with their records, by offset."""
    with faults_of():
        rows = await connection.fetch(RECORDS, owned.part, list(offsets))
    return [_record(owned.part, row) for row in rows]


async def load_delayed(connection: Connection, owned: Ownership, until: datetime, limit: int) -> list[ParkedRecord]:
    """Return delayed commands whose time has come, the earliest first."""
    with faults_of():
        rows = await connection.fetch(DELAYED, owned.part, until, limit)
    return [_record(owned.part, row) for row in rows]


def _record(part: int, row: Any) -> ParkedRecord:  # noqa: ANN401 - the driver's row
    return ParkedRecord(
        topic=row["topic"],
        partition=part,
        offset=row["record_offset"],
        timestamp=row["broker_ms"],
        key=row["key"],
        value=row["value"],
        headers=[(name, None if value is None else b64decode(value)) for name, value in orjson.loads(row["headers"])],
        parked=_parked(row),
    )


def _parked(row: Any) -> Parked:  # noqa: ANN401 - the driver's row
    offset, workflow_id, command_id, reason, *others = tuple(row)[: len(Parked._fields)]
    return Parked(offset, workflow_id, command_id, ParkReason(reason), *others)
