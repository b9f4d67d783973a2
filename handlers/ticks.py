"""What a tick does: it wakes its partition with the database's time. One that cannot be believed is a dead letter.

A tick has no exactly-once position: the newest wins, a lost one does not matter.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from contracts.dead_letters import DeadLetterReason
from contracts.ticks import Tick
from domain.zone import SINCE, UNTIL
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


@dataclass(frozen=True, slots=True)
class Clock:
    """What time it is in a decision: the database's, never behind the partition's ticks; `logical`, the ticks' alone.

    After `grace` a tick's timers are due, so that a command may still be on its way that was sent in time.
    """

    logical: bool = False
    grace: timedelta = timedelta(seconds=2)

    def now(self, database: datetime, tick_time: datetime | None, occurred_at: datetime | None = None) -> datetime:
        """Return a decision's time; `occurred_at` is a command's own and counts where time is logical.

        It counts up to where calendars end, as a tick does: beyond there is no time to add to.
        """
        if not self.logical:
            return database if tick_time is None else max(database, tick_time)
        told = [min(each, UNTIL) for each in (tick_time, occurred_at) if each is not None]
        return max(told) if told else database

    def due_until(self, tick: ReceivedTick) -> datetime:
        """Return up to when timers are due at a tick whose commands are all decided."""
        return tick.tick.time if self.logical else max(tick.tick.time, SINCE) - self.grace

    def believed(self, received: ReceivedTick, database: datetime) -> datetime | Unreadable:
        """Return the tick's time, unless it runs ahead of the database's clock."""
        ahead = received.tick.time - database
        if self.logical:
            problem = None if received.tick.time < UNTIL else "calendars end before it"
        else:
            problem = f"it is {ahead.total_seconds():.0f} s ahead of the database" if ahead > AHEAD_MAX else None
        return (
            received.tick.time if problem is None else Unreadable(received.record, DeadLetterReason.BAD_TICK, problem)
        )


class TicksAhead:
    """The ticks of a partition whose timers have not all fired: the one that may, the next one, and the newest.

    A tick may fire once the commands that were there before it are decided. The newest alone would never come to that
    while there are always more commands.
    """

    def __init__(self) -> None:
        self._firing: ReceivedTick | None = None
        self._next: ReceivedTick | None = None
        self._newest: ReceivedTick | None = None

    def add(self, tick: ReceivedTick) -> None:
        """Take a tick in that can be believed; one that waits for no more commands than the one before takes its place.

        So one that was forged, and claims more commands than there are, holds up nothing.
        """
        if self._next is None or tick.tick.commands_end_offset <= self._next.tick.commands_end_offset:
            self._next, self._newest = tick, None
        else:
            self._newest = tick

    def reached(self, decided: int) -> ReceivedTick | None:
        """Return the latest tick that may fire and has not fired whole, with what is before an offset decided."""
        while self._next is not None and self._next.tick.commands_end_offset <= decided:
            self._firing, self._next, self._newest = self._next, self._newest, None
        return self._firing

    def fired(self) -> None:
        """Hear that every timer of the tick has fired that was due."""
        self._firing = None
