"""One partition's life in this worker: claim, recover, seek, then turn after turn until it is revoked.

The consumer group's assignment is a hint; the row in the store, fenced by epoch and turn, is the owner.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

import structlog

from handlers.batch import Inbox
from handlers.commands import CommandsHandler, Taken, Wakeup, not_taken
from handlers.decode import ids_of
from handlers.faults import Parted, Transient
from handlers.parking import Parking
from handlers.ports import Claims, LastDecided, Log, Ownership, Record
from handlers.ticks import TicksAhead
from service.relay import Relay
from service.telemetry import Telemetry

BACKOFF_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
# What timers left is published before more of them fire: else replies to commands would come behind all of it.
FIRING_BACKLOG_MAX = 300
LOOK_AGAIN_SECONDS = 0.02

log = structlog.get_logger()


class Phase(StrEnum):
    """Where a partition is in its life here."""

    CLAIMING = "claiming"
    ACTIVE = "active"
    DRAINING = "draining"
    HALTED = "halted"
    CLOSED = "closed"


class PartitionOwner:
    """Owns one assigned partition; `run` ends when `drain` was called, or with a fault that is ours."""

    def __init__(
        self,
        part: int,
        *,
        log_of_commands: Log,
        claims: Claims,
        handler: CommandsHandler,
        relays: Callable[[Ownership], Relay],
        telemetry: Telemetry,
        turn_records_max: int,
    ) -> None:
        self.part = part
        self.inbox = Inbox(part, log_of_commands)
        self.phase = Phase.CLAIMING
        self.reason: str | None = None
        self._log = log_of_commands
        self._claims = claims
        self._handler = handler
        self._relays = relays
        self._telemetry = telemetry
        self._turn_records_max = turn_records_max
        self._draining = False
        self._called = asyncio.Event()
        self._doubt: str | None = None
        self._relay: Relay | None = None

    async def run(self) -> None:
        """Claim and take turns until drained; after a transient fault, or in doubt, claim again."""
        failures = 0
        while not self._draining:
            self.phase = Phase.CLAIMING
            self._called.clear()
            self._doubt = None
            began = asyncio.get_running_loop().time()
            try:
                await self._own()
            except Transient as fault:
                if asyncio.get_running_loop().time() - began > BACKOFF_SECONDS[-1]:
                    failures = 0
                self._telemetry.claims_lost.inc()
                log.warning("partition.claim_again", part=self.part, reason=str(fault))
                await self._pause(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                failures += 1
            except Parted as parted:
                await self._halt(parted.reason)
            finally:
                self.inbox.shut()
        self.phase = Phase.CLOSED
        self._telemetry.halted.labels(self.part).set(0)

    def drain(self) -> None:
        """Take no more; finish the turn in flight and what can be published."""
        self._draining = True
        self._call()

    def look_again(self, doubt: str) -> None:
        """Claim the partition anew, also a halted one: what was known of it may no longer hold."""
        self._doubt = doubt
        self._call()

    def _call(self) -> None:
        self._called.set()
        self.inbox.wake()
        if self._relay is not None:
            self._relay.waive_room()

    async def _own(self) -> None:
        owned = await self._claims.claim(self.part, self._log.generation())
        if owned.halted is not None:
            raise Parted(self.part, owned.halted)
        self._relay = relay = self._relays(owned)
        try:
            try:
                last = await self._recover(owned, relay)
            except Parted as parted:
                await self._claims.note_halted(owned, parted.reason)
                raise
            publishing = asyncio.create_task(relay.run(), name=f"relay-{self.part}")

            def ended(_: object) -> None:
                relay.waive_room()  # whoever waits for room would wait for ever
                self.inbox.wake()

            publishing.add_done_callback(ended)
            try:
                await self._take_turns(owned, last, relay, publishing)
            finally:
                self.phase = Phase.DRAINING
                relay.stop()
                await publishing
        finally:
            await relay.close()

    async def _recover(self, owned: Ownership, relay: Relay) -> LastDecided | None:
        """Publish what is left, find the place in the log; return the command before it if it is known."""
        await relay.start()
        start, end = await self._log.bounds(self.part)
        if not start <= owned.next_offset <= end:
            if owned.next_offset == 0 and owned.turn == 0:
                raise Parted(
                    self.part,
                    f"the commands topic starts at {start}, and this store has decided nothing of it yet; "
                    "commands were deleted before anyone read them",
                )
            raise Parted(
                self.part,
                f"the store has decided up to offset {owned.next_offset}, the commands topic holds {start} to {end}; "
                "see docs/operations.md, parted log",
            )
        last = await self._claims.last_decided(owned) if start < owned.next_offset else None
        if last is not None and last.offset < start:
            last = None
        self.inbox.open_at(owned.next_offset if last is None else last.offset)
        self.phase = Phase.ACTIVE
        self.reason = None
        self._telemetry.halted.labels(self.part).set(0)
        log.info("partition.active", part=self.part, epoch=owned.epoch, offset=owned.next_offset, backlog=relay.backlog)
        return last

    async def _take_turns(
        self, owned: Ownership, last: LastDecided | None, relay: Relay, publishing: "asyncio.Task[None]"
    ) -> None:
        def applied(taken: Taken) -> None:
            relay.committed(taken.first_seq, taken.turn.rows)
            self._telemetry.applied(self.part, taken)
            for offset, failure in taken.turn.failures:
                log.error("command.isolated", part=self.part, offset=offset, exc_info=failure)

        def ending() -> bool:
            return self._draining or publishing.done()

        timed_out = self._telemetry.guard_timeouts.inc
        parking = await self._handler.open(owned, wake=self.inbox.wake, timed_out=timed_out)
        ahead = TicksAhead()
        self._telemetry.slas.reached(self.part, owned.tick_time)
        try:
            while not ending():
                await self.inbox.arrived()
                await relay.room()
                if ending():
                    break
                if self._doubt is not None:
                    raise Transient(self._doubt)
                unpublished = relay.backlog
                records = self.inbox.take(self._turn_records_max)
                while records and records[0].offset < owned.next_offset:
                    await self._recognise(owned, records.pop(0), last)
                owned = replace(owned, published_seq=relay.cursor)
                tick, earlier, bad_ticks = self.inbox.take_ticks()
                if records or tick is not None or bad_ticks or parking.due:
                    wakeup = Wakeup(tick, bad_ticks, earlier, ahead.add)
                    with self._telemetry.turn_seconds.time():
                        owned = await self._handler.take_turn(owned, records, wakeup, parking=parking, applied=applied)
                    self.inbox.put_back(not_taken(owned, records))
                    self._telemetry.parking(self.part, parking, owned.tick_time)
                owned = await self._fire(owned, ahead, parking, applied, unpublished)
        finally:
            parking.close()
            self._telemetry.parking(self.part, None, None)

    async def _fire(
        self,
        owned: Ownership,
        ahead: TicksAhead,
        parking: Parking,
        applied: Callable[[Taken], None],
        unpublished: int,
    ) -> Ownership:
        """Take the steps that are due, so many at a time that commands have their turns between.

        `unpublished` rows were waiting before the turn that was just taken: what that has left does not count.
        """
        decided = self.inbox.decided(owned.next_offset)
        tick = ahead.reached(decided)
        if tick is None:
            return owned
        if unpublished > FIRING_BACKLOG_MAX:
            asyncio.get_running_loop().call_later(LOOK_AGAIN_SECONDS, self.inbox.wake)
            return owned
        self._telemetry.slas.reached(self.part, tick.tick.time)
        owned, more = await self._handler.fire(owned, tick, parking=parking, applied=applied)
        if not more:
            ahead.fired()
            owned = await self._handler.pass_over(owned, decided)
        if more or parking.due:
            self.inbox.wake()
        return owned

    async def _recognise(self, owned: Ownership, record: Record, last: LastDecided | None) -> None:
        """Hold a record before the next offset against the command that was decided there.

        A topic that was made anew and has grown since has offsets like the old one's, and other records.
        """
        found = ids_of(record)
        if last is None or last.offset != record.offset or found is None or found.command_id == last.command_id:
            return
        reason = (
            f"the store has decided command {last.command_id} at offset {record.offset}, the topic holds "
            f"{found.command_id} there: it was made anew; see docs/operations.md, parted log"
        )
        await self._claims.note_halted(owned, reason)
        raise Parted(self.part, reason)

    async def _halt(self, reason: str) -> None:
        self.inbox.shut()
        self.phase = Phase.HALTED
        self.reason = reason
        self._telemetry.halted.labels(self.part).set(1)
        log.error("partition.halted", part=self.part, reason=reason)
        await self._called.wait()

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._called.wait(), seconds)
        except TimeoutError:
            return
