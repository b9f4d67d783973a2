"""The SLAs of a turn: the calendars they need, their rows and timers, and the turn that time alone takes.

A timer is a wake-up and never a decision: what is due says the workflow's own record. So one that is stale, or comes
twice, changes nothing but itself.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog

from domain.decision import Accepted, Circumstances
from domain.instants import read, written
from domain.sla import Calendars, calendar_keys
from domain.sla_config import promising
from domain.sla_events import lapse
from domain.sla_terms import SlaTerms
from domain.workflow import Workflow
from handlers.decode import Readable, decode
from handlers.faults import Fault
from handlers.ports import NO_RECORD, JournalRow, Loaded, Ownership, ParkedRecord, SlaRow, Store, Timer, Turn, Wanted
from handlers.ticks import Clock, ReceivedTick
from handlers.written import consequence_rows, event_row, forward_row

TIMERS_AT_ONCE = 100  # some 30 ms: commands have their turns between
DELAYED_AT_ONCE = 16  # each is up to 512 KiB
YIELD_EVERY = 50
POSTPONED = timedelta(minutes=1)
"""How long a timer waits on which our own code failed."""

log = structlog.get_logger()


class Fired(NamedTuple):
    """What came of a tick: the ownership after it, the turn if there was one, and whether more timers may be due."""

    owned: Ownership
    turn: Turn | None
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


async def fire(store: Store, clock: Clock, owned: Ownership, tick: ReceivedTick) -> Fired:
    """Take the steps that are due at a tick whose commands are all decided, a bounded number of them."""
    timers = await store.due(owned, clock.due_until(tick), TIMERS_AT_ONCE)
    delayed = await store.delayed(owned, tick.tick.time, DELAYED_AT_ONCE)
    if not timers and not delayed:
        return Fired(owned, None, more=False)
    loaded = await store.load(owned, Wanted(sorted({timer.workflow_id for timer in timers}), (), ()))
    if clock.believed(tick, loaded.now) != tick.tick.time:
        return Fired(owned, None, more=False)
    now = clock.now(loaded.now, owned.tick_time)
    turn = Turn(owned.next_offset, loaded.now if clock.logical else now)
    for record in delayed:
        turn.unparked.append(record.parked)
        turn.rows.append(resent_row(record, owned.part))
    circumstances = Circumstances(written(now), owned.incarnation, "")
    lapsing = Lapsing(store, owned, loaded, clock.due_until(tick), circumstances)
    by_workflow: dict[str, list[str]] = {}
    for timer in timers:
        by_workflow.setdefault(timer.workflow_id, []).append(timer.name)
    for position, (workflow_id, names) in enumerate(by_workflow.items(), start=1):
        if position % YIELD_EVERY == 0:
            await asyncio.sleep(0)
        try:
            await lapsing.take(workflow_id, names, turn)
        except Fault:
            raise
        except Exception:
            log.exception("timer.postponed", part=owned.part, workflow_id=workflow_id)
            turn.timers += [Timer(workflow_id, name, now + POSTPONED) for name in names]
    outcome = await store.apply(owned, turn)
    if not isinstance(outcome, Ownership):
        raise Fault(f"partition {owned.part}: a turn of timers met a conflict: {outcome}")
    return Fired(outcome, turn, more=len(timers) == TIMERS_AT_ONCE or len(delayed) == DELAYED_AT_ONCE)


def resent_row(record: ParkedRecord, part: int) -> JournalRow:
    """Return the row that sends a delayed command again, now that its time has come."""
    received = decode(record, command_bytes_max=len(record.value or b""))
    if not isinstance(received, Readable):
        raise Fault(f"partition {part}: the delayed command at offset {record.offset} cannot be read any more")
    return forward_row(received, part, received.command.root_id or received.command.workflow_id)


class Lapsing(NamedTuple):
    """What the steps of a tick are taken with."""

    store: Store
    owned: Ownership
    loaded: Loaded
    until: datetime
    circumstances: Circumstances

    async def take(self, workflow_id: str, names: Sequence[str], turn: Turn) -> None:
        """Take what is due of one workflow, and put right the timers that were found."""
        before = self.loaded.workflows.get(workflow_id)
        after, standing = before, len(turn.timers)
        if before is not None and before.slas is not None:
            found = await self._lapsed(before)
            if found is not None:
                accepted, late, prefix = found
                after = accepted.workflow
                turn.rows += [event_row(event, prefix, NO_RECORD) for event in accepted.events]
                turn.rows += consequence_rows(accepted, self.owned.part, NO_RECORD, None)
                turn.changed.append(after)
                turn.late += late
                keep_slas(turn, before, after)
        kept = {timer.name for timer in turn.timers[standing:]}
        slas = (after and after.slas) or {}
        turn.timers += [
            _timer(workflow_id, name, slas.get(name, {}).get("next_at")) for name in names if name not in kept
        ]

    async def _lapsed(self, workflow: Workflow) -> tuple[Accepted, list[timedelta], str] | None:
        definition = await self.store.definition(workflow.definition, workflow.definition_version)
        if definition is None:
            raise LookupError(f"there is no definition {workflow.definition} version {workflow.definition_version}")
        found = lapse(
            workflow,
            promising(definition, await self.store.configured(), workflow),
            until=self.until,
            calendars=await calendars_for(self.store, workflow, {}),
            circumstances=self.circumstances,
        )
        return None if found is None else (*found, definition.event_types.prefix)
