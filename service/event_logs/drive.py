"""Drives commands through the topics and waits for each one's reply, however often a worker or a broker stops."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby, islice
from typing import NamedTuple, Protocol

from pydantic import ValidationError

from contracts.rejections import Code
from contracts.replies import Reply
from contracts.topics import Topics
from service.event_logs.commands import Outgoing
from service.event_logs.wire import kafka_wire

REJECTIONS_MAX = 1_000
_POLL_S = 0.5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Wire(Protocol):
    """Where commands go and replies come from."""

    @property
    def waiting_for(self) -> str:
        """Say who has to act when nothing comes: a worker, or the broker."""

    async def send(self, commands: Sequence[Outgoing], /) -> None:
        """Write commands durably, those of one key in their order; wait as long as that takes."""

    async def replies(self, wait_s: float, /) -> Sequence[bytes]:
        """Return the next replies, anybody's; none after `wait_s` seconds."""


class Progress(NamedTuple):
    """How far a drive is; `waiting` is a line for people while nobody replies."""

    sent: int
    replied: int
    total: int | None
    waiting: str | None = None


class Ticks(Protocol):
    """Who moves logical time."""

    async def tick(self, time: datetime, /) -> None:
        """Say that it is so late after all commands that were sent."""


class Clockwork(NamedTuple):
    """How logical time moves on with the commands: a tick whenever it has passed a multiple of the step."""

    ticks: Ticks
    step: timedelta = timedelta(hours=1)


Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Pace:
    """How many commands may await a reply, how many go out at once, and how long silence may last (None: for ever)."""

    outstanding_max: int = 2_000
    batch_max: int = 500
    notice_s: float = 5.0
    silence_s_max: float | None = None


PACE = Pace()


class Refused(NamedTuple):
    """A command that was rejected; `asks` is the target state, None for a creation; `duplicate` as the reply says."""

    workflow_id: str
    command_id: str
    asks: str | None
    code: Code
    message: str
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class DriveResult:
    """What became of the commands: sent = accepted + the sum of `rejected` + unanswered.

    `duplicates` counts those among the answered whose outcome an earlier run had brought about. The first
    1,000 rejections are kept. `unanswered` is 0 unless the silence outlasted the pace's limit.
    """

    sent: int
    accepted: int
    rejected: Mapping[Code, int]
    duplicates: int
    rejections: tuple[Refused, ...]
    unanswered: int


async def drive(
    commands: Iterable[Outgoing],
    *,
    bootstrap_servers: str,
    topics: Topics,
    report: Report,
    total: int | None = None,
    pace: Pace = PACE,
    clockwork: Clockwork | None = None,
) -> DriveResult:
    """Send commands in their order through Kafka and await their replies; raises BrokerNotReadyError at the start.

    What an earlier run sent already comes back as a duplicate. Stops and restarts of workers and brokers on the way
    are waited for.
    """
    async with kafka_wire(bootstrap_servers, topics) as wire:
        return await drive_over(wire, commands, report=report, total=total, pace=pace, clockwork=clockwork)


async def drive_over(
    wire: Wire,
    commands: Iterable[Outgoing],
    *,
    report: Report,
    total: int | None = None,
    pace: Pace = PACE,
    clockwork: Clockwork | None = None,
) -> DriveResult:
    """Send commands over a wire and settle each with its reply."""
    tally = _Tally(outstanding_max=pace.outstanding_max)
    feeder = asyncio.create_task(_feed(wire, commands, tally, pace, clockwork))
    now = asyncio.get_running_loop().time
    heard_at = said_at = now()
    waiting: str | None = None
    try:
        while not feeder.done() or tally.outstanding:
            if feeder.done():
                feeder.result()
            settled = [tally.settle(reply) for reply in await wire.replies(min(_POLL_S, pace.notice_s))]
            if any(settled):
                heard_at = said_at = now()
                waiting = None
            elif pace.silence_s_max is not None and now() - heard_at >= pace.silence_s_max:
                break
            elif now() - said_at >= pace.notice_s:
                said_at = now()
                waiting = f"no reply for {said_at - heard_at:.0f} s; waiting for {wire.waiting_for}"
            report(Progress(tally.sent, tally.replied, total, waiting))
        if feeder.done():
            feeder.result()
    finally:
        feeder.cancel()
        await asyncio.gather(feeder, return_exceptions=True)
    return tally.result()


async def _feed(
    wire: Wire, commands: Iterable[Outgoing], tally: "_Tally", pace: Pace, clockwork: Clockwork | None
) -> None:
    """Send what there is room for, in order, one round after another; a tick before what happened in a new step."""
    rest = iter(commands)
    reached: datetime | None = None
    while batch := list(islice(rest, min(pace.batch_max, await tally.room()))):
        # Before the first wait, so that a drive that ends meanwhile counts what it did not come to send.
        tally.asked(batch)
        if clockwork is None:
            await wire.send(batch)
            continue
        for begun_at, found in groupby(batch, partial(_step_of, step=clockwork.step)):
            if begun_at is not None and begun_at != reached:
                await clockwork.ticks.tick(begun_at)
                reached = begun_at
            await wire.send(list(found))


def _step_of(command: Outgoing, *, step: timedelta) -> datetime | None:
    """Return when the step of time began in which a command happened."""
    return None if command.at is None else command.at - (command.at - _EPOCH) % step


@dataclass(slots=True)
class _Tally:
    """What was asked and not answered yet, and the answers so far."""

    outstanding_max: int
    outstanding: dict[str, Outgoing] = field(default_factory=dict)
    sent: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: Counter[Code] = field(default_factory=Counter)
    rejections: list[Refused] = field(default_factory=list)
    _answered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def replied(self) -> int:
        return self.sent - len(self.outstanding)

    async def room(self) -> int:
        """Wait until another command may go out; return how many."""
        while len(self.outstanding) >= self.outstanding_max:
            self._answered.clear()
            await self._answered.wait()
        return self.outstanding_max - len(self.outstanding)

    def asked(self, commands: Sequence[Outgoing]) -> None:
        self.sent += len(commands)
        self.outstanding.update((command.command_id, command) for command in commands)

    def settle(self, value: bytes) -> bool:
        """Take a reply; False if it is nobody's here. A command's second reply changes nothing."""
        try:
            reply = Reply.model_validate_json(value)
        except ValidationError:
            return False
        command = self.outstanding.get(str(reply.command_id))
        if command is None or command.workflow_id != reply.workflow_id:
            return False
        del self.outstanding[command.command_id]
        self._answered.set()
        self.duplicates += reply.duplicate
        if reply.rejection is None:
            self.accepted += 1
            return True
        self.rejected[reply.rejection.code] += 1
        if len(self.rejections) < REJECTIONS_MAX:
            code, message = reply.rejection.code, reply.rejection.message
            self.rejections.append(
                Refused(command.workflow_id, command.command_id, command.asks, code, message, reply.duplicate)
            )
        return True

    def result(self) -> DriveResult:
        return DriveResult(
            sent=self.sent,
            accepted=self.accepted,
            rejected=dict(self.rejected),
            duplicates=self.duplicates,
            rejections=tuple(self.rejections),
            unanswered=len(self.outstanding),
        )
