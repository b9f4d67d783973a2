"""The SLAs of a turn: the calendars they need, their rows and timers, and the turn that time alone takes.

A timer is a wake-up and never a decision: what is due says the workflow's own record. So one that is stale, or comes
twice, changes nothing but itself.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog

from domain.calendar import Calendar
from domain.decision import Circumstances
from domain.definition import Definition
from domain.instants import read, written
from domain.sla import Calendars, calendar_keys
from domain.sla_config import NOTHING, Configured, promised
from domain.sla_events import lapse
from domain.sla_terms import SlaTerms
from domain.workflow import Workflow
from handlers.breath import Breath
from handlers.decode import Readable, decode
from handlers.faults import Fault, Overlong
from handlers.ports import NO_RECORD, JournalRow, Loaded, Ownership, ParkedRecord, SlaRow, Store, Timer, Turn, Wanted
from handlers.ticks import Clock, ReceivedTick
from handlers.written import consequence_rows, event_row, forward_row, unread_row

TIMERS_OF_A_TICK = 500  # a tick that finds no more takes them all
TIMERS_OF_MANY = 100  # where there are more, commands have their turns between: some 30 ms
WORKFLOWS_A_TURN = 250
DELAYED_AT_ONCE = 16  # each is up to 512 KiB
STEPS_TO_SEND = 2  # of the loop: one begins the task, the next the store's own, which nobody cancels
POSTPONED = timedelta(minutes=1)
"""How long a timer waits on which our own code failed."""

log = structlog.get_logger()


Due = tuple[str, list[str]]
"""A workflow, and the SLAs of it whose timers are due."""


class Fired(NamedTuple):
    """What came of a tick: the ownership after it, and whether more timers may be due."""

    owned: Ownership
    more: bool


async def calendars_for(store: Store, workflow: Workflow | None, terms: Mapping[str, SlaTerms]) -> Calendars:
    """Return the calendars that a change of a workflow may need; raises LookupError where one is not there."""
    found = {}
    for name, version in calendar_keys(workflow, terms):
        calendar = await store.calendar(name, version)
        if calendar is None:
            raise LookupError(f"there is no calendar {name}{'' if version is None else f' version {version}'}")
        found[name, version] = calendar
    return found


def keep_slas(turn: Turn, before: Workflow | None, after: Workflow) -> None:
    """Have a turn write what it changed in a workflow's SLAs."""
    if after.slas is None:
        return
    old = (before and before.slas) or {}
    for name, body in after.slas.items():
        if old.get(name) != body:
            turn.slas.append(SlaRow(after.workflow_id, name, body))
            turn.timers.append(_timer(after.workflow_id, name, body.get("next_at")))


def keep_replaced(turn: Turn, before: Workflow | None, after: Workflow) -> None:
    """Have a turn write the runs that a change replaces by the next: the workflow itself has only the latest."""
    now = after.slas or {}
    for name, body in ((before and before.slas) or {}).items():
        if now[name]["run"] != body["run"]:
            turn.slas.append(SlaRow(after.workflow_id, name, body))


def _timer(workflow_id: str, name: str, next_at: str | None) -> Timer:
    return Timer(workflow_id, name, None if next_at is None else read(next_at))


async def fire(
    store: Store,
    clock: Clock,
    owned: Ownership,
    tick: ReceivedTick,
    *,
    applied: Callable[[Ownership, Ownership, Turn], None],
) -> Fired:
    """Take the steps that are due at a tick whose commands are all decided, a bounded number of them.

    `applied` hears of each turn that is committed, with the ownership before it and after. The next is decided while
    the store applies one, and applied only behind it: where one fails, those before it are written and none after it.
    """
    until = clock.due_until(tick)
    timers = await store.due(owned, until, TIMERS_OF_A_TICK + 1)
    many = len(timers) > TIMERS_OF_A_TICK
    delayed = await store.delayed(owned, tick.tick.time, DELAYED_AT_ONCE)
    if not timers and not delayed:
        return Fired(owned, more=False)
    by_workflow: dict[str, list[str]] = {}
    for timer in timers[:TIMERS_OF_MANY] if many else timers:
        by_workflow.setdefault(timer.workflow_id, []).append(timer.name)
    loaded, due = await _load(store, owned, list(by_workflow.items()))
    if clock.believed(tick, loaded.now) != tick.tick.time:
        return Fired(owned, more=False)
    now = clock.now(loaded.now, owned.tick_time)
    lapsing = Lapsing(store, owned.part, loaded, until, now, Circumstances(written(now), owned.incarnation, ""))
    decided_at = loaded.now if clock.logical else now
    turn = Turn(owned.next_offset, decided_at)
    breath = Breath()
    for record in delayed:
        turn.unparked.append(record.parked)
        turn.rows.append(resent_row(record, owned.part, written(now)))
        await breath.taken()
    applying: asyncio.Task[Ownership] | None = None
    try:
        for first in range(0, max(len(due), 1), WORKFLOWS_A_TURN):
            await lapsing.take_all(due[first : first + WORKFLOWS_A_TURN], turn)
            if applying is not None:
                owned = await applying
            applying = asyncio.create_task(_apply(store, owned, turn, applied))
            for _ in range(STEPS_TO_SEND):
                await asyncio.sleep(0)  # it is on its way before the next is decided
            turn = Turn(owned.next_offset, decided_at)
        if applying is not None:
            owned = await applying
    finally:
        if applying is not None:
            applying.cancel()  # what the store has begun it ends: the next claim finds it
    return Fired(owned, more=many or len(due) < len(by_workflow) or len(delayed) == DELAYED_AT_ONCE)


async def _load(store: Store, owned: Ownership, due: list[Due]) -> tuple[Loaded, list[Due]]:
    """Load the workflows of due timers, fewer where they take the store too long; returns those too."""
    while True:
        try:
            return await store.load(owned, Wanted(sorted(name for name, _ in due), (), ())), due
        except Overlong:
            if len(due) <= 1:
                raise
            due = due[: len(due) // 2]


async def _apply(
    store: Store, owned: Ownership, turn: Turn, applied: Callable[[Ownership, Ownership, Turn], None]
) -> Ownership:
    outcome = await store.apply(owned, turn)
    if not isinstance(outcome, Ownership):
        raise Fault(f"partition {owned.part}: a turn of timers met a conflict: {outcome}")
    applied(owned, outcome, turn)
    return outcome


def resent_row(record: ParkedRecord, part: int, now: str) -> JournalRow:
    """Return the row that sends a delayed command again, now that its time has come.

    It is as new there: partitions may have been added meanwhile, so its hops are counted anew. One that was set aside
    by another build, and that this one cannot read, is answered here as it would be there.
    """
    received = decode(record, command_bytes_max=len(record.value or b""))
    if not isinstance(received, Readable):
        return unread_row(received, now)
    return forward_row(received, part, received.command.root_id or received.command.workflow_id, hops=0)


@dataclass(slots=True)
class Lapsing:
    """What the steps of a tick are taken with; what many workflows need is asked for once."""

    store: Store
    part: int
    loaded: Loaded
    until: datetime
    now: datetime
    circumstances: Circumstances
    configured: Configured = NOTHING
    definitions: dict[tuple[str, int], Definition] = field(default_factory=dict)
    calendars: dict[tuple[str, int | None], Calendar] = field(default_factory=dict)

    async def take_all(self, due: Sequence[tuple[str, Sequence[str]]], turn: Turn) -> None:
        """Take what is due of several workflows; the timers of one on which our code fails wait a while."""
        breath = Breath()
        for workflow_id, names in due:
            await breath.taken()
            try:
                await self._take(workflow_id, names, turn)
            except Fault:
                raise
            except Exception:
                log.exception("timer.postponed", part=self.part, workflow_id=workflow_id)
                turn.timers += [Timer(workflow_id, name, self.now + POSTPONED) for name in names]

    async def _take(self, workflow_id: str, names: Sequence[str], turn: Turn) -> None:
        """Take what is due of one workflow, and put right the timers that were found."""
        before = self.loaded.workflows.get(workflow_id)
        after, standing = before, len(turn.timers)
        if before is not None and before.slas is not None:
            definition = self.definitions.get((before.definition, before.definition_version))
            if definition is None or not self.calendars.keys() >= calendar_keys(before, {}):
                definition = await self._ask(before)
            terms = promised(definition, self.configured, before)
            found = lapse(before, terms, until=self.until, calendars=self.calendars, circumstances=self.circumstances)
            if found is not None:
                accepted, late = found
                rows = [event_row(event, definition.event_types.prefix, NO_RECORD) for event in accepted.events]
                rows += consequence_rows(accepted, self.part, NO_RECORD, None)
                after = accepted.workflow
                turn.rows += rows
                turn.changed.append(after)
                turn.late += late
                keep_slas(turn, before, after)
        kept = {timer.name for timer in turn.timers[standing:]}
        slas = (after and after.slas) or {}
        turn.timers += [
            _timer(workflow_id, name, slas.get(name, {}).get("next_at")) for name in names if name not in kept
        ]

    async def _ask(self, workflow: Workflow) -> Definition:
        """Get to know what a workflow's steps are taken by; raises LookupError where some of it is not there."""
        name, version = workflow.definition, workflow.definition_version
        definition = await self.store.definition(name, version)
        if definition is None:
            raise LookupError(f"there is no definition {name} version {version}")
        self.configured = await self.store.configured()
        self.calendars.update(await calendars_for(self.store, workflow, {}))
        self.definitions[name, version] = definition
        return definition
