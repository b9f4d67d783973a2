"""One partition's life in this worker: claim, recover, seek, then turn after turn until it is revoked.

The consumer group's assignment is a hint; the row in the store, fenced by epoch and turn, is the owner.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

import structlog

from handlers.batch import Inbox
from handlers.commands import CommandsHandler, Taken, Wakeup
from handlers.faults import Fenced, Parted, Transient
from handlers.ports import Claims, Log, Ownership
from service.relay import Relay
from service.telemetry import Telemetry

BACKOFF_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

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
        self._draining = asyncio.Event()
        self._relay: Relay | None = None

    async def run(self) -> None:
        """Claim and take turns until drained; after a transient fault claim again."""
        failures = 0
        while not self._draining.is_set():
            self.phase = Phase.CLAIMING
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

    def drain(self) -> None:
        """Take no more; finish the turn in flight and what can be published."""
        self._draining.set()
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
                await self._recover(owned, relay)
            except Parted:
                await self._still_mine(owned)
                raise
            publishing = asyncio.create_task(relay.run(), name=f"relay-{self.part}")

            def ended(_: object) -> None:
                relay.waive_room()  # whoever waits for room would wait for ever
                self.inbox.wake()

            publishing.add_done_callback(ended)
            try:
                await self._take_turns(owned, relay, publishing)
            finally:
                self.phase = Phase.DRAINING
                relay.stop()
                await publishing
        finally:
            await relay.close()

    async def _recover(self, owned: Ownership, relay: Relay) -> None:
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
        self.inbox.open_at(owned.next_offset)
        self.phase = Phase.ACTIVE
        self.reason = None
        log.info("partition.active", part=self.part, epoch=owned.epoch, offset=owned.next_offset, backlog=relay.backlog)

    async def _still_mine(self, owned: Ownership) -> None:
        """Claim once more before a halt: who was overtaken compares its own old figures with another's new ones."""
        again = await self._claims.claim(self.part, self._log.generation())
        if (again.epoch, again.turn) != (owned.epoch + 1, owned.turn):
            raise Fenced(f"partition {self.part} was taken by another owner before it was recovered")

    async def _take_turns(self, owned: Ownership, relay: Relay, publishing: "asyncio.Task[None]") -> None:
        def applied(taken: Taken) -> None:
            relay.committed(taken.first_seq, taken.turn.rows)
            self._telemetry.applied(self.part, taken)

        while not self._draining.is_set() and not publishing.done():
            await self.inbox.arrived()
            await relay.room()
            if self._draining.is_set() or publishing.done():
                break
            records = self.inbox.take(self._turn_records_max)
            tick, bad_ticks = self.inbox.take_ticks()
            if records or tick is not None or bad_ticks:
                owned = replace(owned, published_seq=relay.cursor)
                with self._telemetry.turn_seconds.time():
                    owned = await self._handler.take_turn(owned, records, Wakeup(tick, bad_ticks), applied=applied)

    async def _halt(self, reason: str) -> None:
        self.inbox.shut()
        self.phase = Phase.HALTED
        self.reason = reason
        self._telemetry.halted.labels(self.part).set(1)
        log.error("partition.halted", part=self.part, reason=reason)
        await self._draining.wait()
        self._telemetry.halted.labels(self.part).set(0)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._draining.wait(), seconds)
        except TimeoutError:
            return
