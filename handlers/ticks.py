"""What a tick does: it wakes its partition with the database's time. One that cannot be believed is a dead letter.

A tick has no exactly-once position: the newest wins, a lost one does not matter.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from contracts.dead_letters import DeadLetterReason
from contracts.ticks import Tick
from handlers.decode import Unreadable
from handlers.ports import Record

AHEAD_MAX = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class ReceivedTick:
    """A tick and the record it came in."""

    record: Record
    tick: Tick


def read_tick(record: Record) -> ReceivedTick | Unreadable:
    """Read one record of the scheduler topic."""
    try:
        tick = Tick.model_validate_json(record.value or b"")
    except ValidationError as error:
        return Unreadable(record, DeadLetterReason.BAD_TICK, f"not a tick: {error.errors()[0]['msg']}")
    if tick.partition != record.partition:
        return Unreadable(
            record, DeadLetterReason.BAD_TICK, f"a tick of partition {tick.partition} came on {record.partition}"
        )
    return ReceivedTick(record, tick)


def believed(received: ReceivedTick, now: datetime) -> datetime | Unreadable:
    """Return the tick's time, unless it runs ahead of the database's clock."""
    ahead = received.tick.time - now
    if ahead > AHEAD_MAX:
        return Unreadable(
            received.record, DeadLetterReason.BAD_TICK, f"it is {ahead.total_seconds():.0f} s ahead of the database"
        )
    return received.tick.time
