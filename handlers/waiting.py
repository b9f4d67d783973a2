"""Which commands of a turn wait, and behind whom: for a guard, for one of their workflow that does, or for their time.

Where there is no room, guards that answer hold the partition back; where they do not, commands are refused.
"""

from datetime import datetime
from typing import Any

from contracts.rejections import Code
from domain.idempotency import DELAY_SPARE
from domain.instants import written
from domain.rejections import Refusal, refusal
from handlers.decode import Readable
from handlers.limits import Limits
from handlers.parking import Parking, entry, not_before, parked_record
from handlers.ports import Parked, ParkedRecord, ParkReason, Record, Turn
from handlers.written import storable

DETAIL_MAX = 500


class Waiting:
    """The parked commands of a partition as one turn leaves them."""

    def __init__(self, parking: Parking, limits: Limits, turn: Turn) -> None:
        self.full_at: int | None = None
        """The first offset for which there was no room while guards answer: the turn has to end before it."""
        self._parking = parking
        self._limits = limits
        self._turn = turn
        self._queues: dict[str, list[int]] = {}
        self._asked = False  # whether one is parked whose guard is being asked

    def ahead_of(self, workflow_id: str) -> int | None:
        """Return the offset of a workflow's first parked command, which a new one has to wait for."""
        queue = self._queues.get(workflow_id)
        if queue is not None:
            return queue[0] if queue else None
        parked = self._parking.queue(workflow_id)
        return parked[0].offset if parked else None

    def queue(self, workflow_id: str) -> list[int]:
        """Return the offsets of a workflow's parked commands, in their order."""
        queue = self._queues.get(workflow_id)
        if queue is None:
            queue = self._queues[workflow_id] = [parked.offset for parked in self._parking.queue(workflow_id)]
        return queue

    def stays(self, parked: Parked, now: datetime) -> bool:
        """Say whether a parked command is not to be looked at yet."""
        if self.queue(parked.workflow_id)[:1] != [parked.offset]:
            return True
        early = parked.not_before > now and not self._parking.is_asked(parked.offset)
        return early and not self._parking.is_over(parked, now)

    def settled(self, record: Record) -> None:
        """Let go of a parked command that has its outcome."""
        if isinstance(record, ParkedRecord):
            self.queue(record.parked.workflow_id).remove(record.offset)
            self._turn.unparked.append(record.parked)

    def postpone(self, parked: Parked, detail: str, now: datetime) -> None:
        """Let a parked command wait on, whose guard could not be asked."""
        attempts = parked.attempts + 1
        self._turn.postponed.append(
            parked._replace(
                reason=ParkReason.GUARD,
                detail=storable(detail)[:DETAIL_MAX],
                attempts=attempts,
                not_before=not_before(now, attempts),
            )
        )

    def park(
        self, received: Readable, reason: ParkReason, detail: str, now: datetime, *, attempts: int = 0
    ) -> Refusal | None:
        """Park a new command behind those of its workflow; return why not where it is refused for want of room."""
        workflow_id, offset = received.command.workflow_id, received.record.offset
        queue = self.queue(workflow_id)
        delayed = sum(each.parked.reason is ParkReason.DELAYED for each in self._turn.parked)
        held = len(self._parking) + len(self._turn.parked) - delayed - len(self._turn.unparked)
        crowded = len(queue) >= self._limits.parked_workflow_max
        full = held >= self._limits.parked_partition_max
        if not crowded and not full:
            until = not_before(now, attempts) if attempts else now
            parked = entry(received, reason, storable(detail)[:DETAIL_MAX], now, until)
            self._turn.parked.append(parked_record(received.record, parked._replace(attempts=attempts)))
            queue.append(offset)
            self._asked |= self._parking.is_asked(offset) and not attempts
            return None
        prompt = not crowded or self._parking.is_prompt(workflow_id, queue[0], self._limits.guard_budget_seconds)
        if prompt and (not full or self._parking.is_moving(asked=self._asked)):
            self.full_at = offset if self.full_at is None else min(offset, self.full_at)
            return None
        earlier = self._parking.queue(workflow_id)
        since = {"parked_since": written(earlier[0].parked_at)} if earlier else {}
        return unavailable(
            f"{detail}, and too many commands are parked already: {len(queue)} of the workflow, "
            f"{held} of the partition",
            "parked < parked_max",
            since | {"parked_of_workflow": len(queue), "parked_of_partition": held},
        )

    def overdue(self, parked: Parked, detail: str, now: datetime) -> Refusal | None:
        """Return why a parked command may not wait any longer, if so."""
        if not self._parking.is_old(parked, now):
            return None
        waited = (now - parked.parked_at).total_seconds()
        longest = self._limits.parked_age_max.total_seconds()
        return unavailable(
            f"it was parked for {waited:.0f} s and nobody answered: {detail}",
            "parked_s < parked_s_max",
            {"parked_at": written(parked.parked_at), "parked_s": waited, "parked_s_max": longest},
        )

    def is_early(self, received: Readable, now: datetime) -> bool:
        """Say whether a command's time has not come, and will while its id is remembered."""
        wanted, command = received.command.not_before, received.command
        if wanted is None or wanted <= now:
            return False
        since = min(received.broker_time, command.submitted_at or received.broker_time)
        return wanted - since < self._limits.window - DELAY_SPARE

    def delay(self, received: Readable, now: datetime) -> None:
        """Set a command aside until its time has come; it holds nothing back meanwhile."""
        record, until = received.record, received.command.not_before or now
        parked = entry(received, ParkReason.DELAYED, "its time has not come", now, until)
        if isinstance(record, ParkedRecord):  # our own code failed on it before it could be seen that it is early
            self.queue(record.parked.workflow_id).remove(record.offset)
            self._turn.postponed.append(parked)
        else:
            self._turn.parked.append(parked_record(record, parked))


def unavailable(message: str, clause: str, values: dict[str, Any]) -> Refusal:
    """Return the refusal of a command that may wait no longer; it may be sent again under the same id."""
    return refusal(Code.PREDICATE_UNAVAILABLE, message, clause=clause, values=values)
