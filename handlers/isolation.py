"""What becomes of a record on which our own code failed: parked and tried again, in the end a dead letter with a reply.

Too many of them in one partition mean that it is not the record: then the failure stops the process.
"""

from contextlib import suppress
from datetime import datetime
from pathlib import Path
from traceback import extract_tb

from contracts.dead_letters import DeadLetterReason
from contracts.rejections import Code
from domain.instants import written
from handlers.decode import Readable, decode, ids_of
from handlers.limits import Limits
from handlers.parking import Parking, not_before, parked_record
from handlers.ports import Parked, ParkedRecord, ParkReason, Record, Turn
from handlers.written import answer_unbound, dead_letter

ATTEMPTS_MAX = 5


def isolated(
    record: Record, failure: Exception, *, now: datetime, parking: Parking, limits: Limits, turn: Turn
) -> Turn:
    """Fill a turn with what becomes of one record; raises the failure beyond the limit of such records."""
    turn.failures.append((record.offset, failure))
    if not isinstance(record, ParkedRecord):
        _make_room(failure, parking, limits)
        turn.parked.append(parked_record(record, _first(record, failure, now)))
        return turn
    parked = record.parked
    attempts = parked.attempts + 1 if parked.reason is ParkReason.ERROR else 1
    if attempts > ATTEMPTS_MAX:
        _bury(record, failure, now, turn)
        return turn
    if parked.reason is not ParkReason.ERROR:
        _make_room(failure, parking, limits)
    turn.postponed.append(
        parked._replace(
            reason=ParkReason.ERROR, detail=place_of(failure), attempts=attempts, not_before=not_before(now, attempts)
        )
    )
    return turn


def occurred_at(record: Record) -> datetime | None:
    """Return a record's own time; None if it has none, or if that is what our own code fails on."""
    received = None
    with suppress(Exception):
        received = decode(record, command_bytes_max=len(record.value or b""))
    return received.command.occurred_at if isinstance(received, Readable) else None


def place_of(failure: Exception) -> str:
    """Say what failed where, without the values: they may be anybody's."""
    frames = extract_tb(failure.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(failure).__name__}{where}"


def _make_room(failure: Exception, parking: Parking, limits: Limits) -> None:
    if parking.failing >= limits.failing_max:
        raise failure


def _first(record: Record, failure: Exception, now: datetime) -> Parked:
    ids = ids_of(record)
    return Parked(
        offset=record.offset,
        workflow_id="" if ids is None else ids.workflow_id,
        command_id=None if ids is None else ids.command_id,
        reason=ParkReason.ERROR,
        detail=place_of(failure),
        parked_at=now,
        attempts=1,
        not_before=not_before(now, 1),
    )


def _bury(record: ParkedRecord, failure: Exception, now: datetime, turn: Turn) -> None:
    times = f"our own code failed on it {ATTEMPTS_MAX + 1} times"
    turn.rows.append(dead_letter(record, DeadLetterReason.INTERNAL_ERROR, f"{times}: {place_of(failure)}"))
    ids = ids_of(record)
    if ids is not None:
        problem = f"{times}; it is kept as a dead letter of partition {record.partition}, offset {record.offset}"
        turn.rows.append(answer_unbound(ids, problem, written(now), Code.INTERNAL_ERROR))
    turn.unparked.append(record.parked)
