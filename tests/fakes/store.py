"""The store in memory: all that PostgreSQL promises a turn, in as few words as possible.

It implements the ports `Store`, `Outbox` and `Claims`, and is held to the same suite as the real one.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any
from uuid import UUID

import orjson

from domain.calendar import Calendar
from domain.decision import Facts
from domain.definition import Definition
from domain.idempotency import Remembered
from domain.sla import SlaRecord, parse_record
from domain.sla_config import Configured, SlaConfig
from domain.workflow import Workflow, dump, parse
from handlers.faults import Fenced, Overlong, Poison
from handlers.ports import (
    JournalRow,
    LastDecided,
    Loaded,
    Ownership,
    Parked,
    ParkedRecord,
    ParkReason,
    Place,
    Timer,
    Turn,
    Wanted,
)
from service.store.outbox import ROW_BYTES

START = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


@dataclass(slots=True)
class OpenCount:
    """How many workflows of a limited definition are open."""

    open: int
    max_open: int | None


@dataclass(slots=True)
class Claimed:
    """What a partition's row holds besides an ownership."""

    generation: int = 0
    touched_at: datetime = START


@dataclass(frozen=True, slots=True)
class LockedSession:
    """A turn under the store's lock."""

    store: "MemoryStore"
    facts: Facts

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Write the turn."""
        return self.store.write(owned, turn)


@dataclass(slots=True)
class MemoryStore:
    """Partitions, workflows, journal, id registry, counters and definitions; `now` is the database's clock."""

    parts: int = 1
    now: datetime = START
    damper: timedelta = timedelta(seconds=12)
    rows: dict[int, Ownership] = field(init=False)
    claimed: dict[int, Claimed] = field(init=False)
    journal: dict[int, list[JournalRow]] = field(init=False)
    workflows: dict[tuple[int, str], bytes] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    remembered: dict[tuple[int, str, str], Remembered] = field(default_factory=dict)
    definitions: dict[str, dict[int, Definition]] = field(default_factory=dict)
    counts: dict[str, OpenCount] = field(default_factory=dict)
    waiting: dict[tuple[int, int], ParkedRecord] = field(default_factory=dict)
    calendars: dict[str, dict[int, Calendar]] = field(default_factory=dict)
    slas_configured: list[SlaConfig] = field(default_factory=list)
    slas: dict[tuple[int, str, str, int], SlaRecord] = field(default_factory=dict)
    timers: dict[tuple[int, str, str], Timer] = field(default_factory=dict)
    loaded_max: int | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.rows = {part: _unclaimed(part, self.parts) for part in range(self.parts)}
        self.claimed = {part: Claimed() for part in range(self.parts)}
        self.journal = {part: [] for part in range(self.parts)}

    def add(self, definition: Definition) -> None:
        """Take a definition's version in; its limit counts from now on."""
        self.definitions.setdefault(definition.name, {})[definition.version] = definition
        latest = self.definitions[definition.name][max(self.definitions[definition.name])]
        if definition.name in self.counts:
            self.counts[definition.name].max_open = latest.max_open
        elif latest.max_open is not None:
            opened = [parse(body) for body in self.workflows.values()]
            of_it = [row for row in opened if row.definition == definition.name and row.completed_at is None]
            self.counts[definition.name] = OpenCount(len(of_it), latest.max_open)

    async def claim(self, part: int, generation: int) -> Ownership:
        """Become a partition's owner."""
        claimed = self.claimed[part]
        if self.rows[part].halted is not None:
            return self.rows[part]
        if generation < claimed.generation and claimed.touched_at >= self.now - self.damper:
            raise Fenced(f"partition {part} was claimed by a later generation of the group")
        self.claimed[part] = Claimed(generation, self.now)
        self.rows[part] = replace(self.rows[part], epoch=self.rows[part].epoch + 1)
        return self.rows[part]

    async def load(self, owned: Ownership, wanted: Wanted) -> Loaded:
        """Read everything a turn needs; more than `loaded_max` workflows take too long."""
        if self.loaded_max is not None and len(wanted.workflow_ids) > self.loaded_max:
            raise Overlong(f"{len(wanted.workflow_ids)} workflows")
        bodies = {key: self.workflows.get((owned.part, key)) for key in wanted.workflow_ids}
        remembered = {
            (root_id, command_id): known
            for (part, root_id, command_id), known in self.remembered.items()
            if part == owned.part and command_id in set(wanted.command_ids)
        }
        last_events = self._last_changes(owned.part, set(wanted.undone))
        held = [body or b"" for body in bodies.values()] + [known.reply for known in remembered.values()]
        if max(sum(map(len, held)), len(orjson.dumps(last_events))) > wanted.bytes_max:
            raise Overlong(f"more than {wanted.bytes_max} bytes at once")
        return Loaded(
            now=self.now,
            workflows={key: parse(body) for key, body in bodies.items() if body is not None},
            places={key: self.places[key] for key, body in bodies.items() if body is None and key in self.places},
            remembered=remembered,
            latest={name: max(self.definitions[name]) for name in wanted.definitions if name in self.definitions},
            last_events=last_events,
        )

    def _last_changes(self, part: int, workflow_ids: set[str]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for row in self.journal[part]:
            if row.sequence is not None and row.event is not None and row.workflow_id in workflow_ids:
                event = orjson.loads(row.event)
                if event["version"] != found.get(row.workflow_id, {}).get("version"):
                    found[row.workflow_id] = event
        return found

    async def parked(self, owned: Ownership) -> list[Parked]:
        """Return what the partition has parked."""
        found = [self.waiting[key].parked for key in sorted(self.waiting) if key[0] == owned.part]
        return [each for each in found if each.reason is not ParkReason.DELAYED]

    async def delayed(self, owned: Ownership, until: datetime, limit: int) -> list[ParkedRecord]:
        """Return delayed commands whose time has come."""
        found = [each for (part, _), each in self.waiting.items() if part == owned.part]
        early = [each for each in found if each.parked.reason is ParkReason.DELAYED and each.parked.not_before <= until]
        return [replace(each) for each in sorted(early, key=lambda each: each.parked.not_before)][:limit]

    async def parked_records(self, owned: Ownership, offsets: Sequence[int]) -> list[ParkedRecord]:
        """Return the records of parked commands."""
        return [replace(found) for offset in sorted(offsets) if (found := self.waiting.get((owned.part, offset)))]

    async def definition(self, name: str, version: int) -> Definition | None:
        """Return a definition's version."""
        return self.definitions.get(name, {}).get(version)

    async def calendar(self, name: str, version: int | None) -> Calendar | None:
        """Return a calendar's version, the newest by default."""
        versions = self.calendars.get(name, {})
        return versions.get(max(versions, default=0) if version is None else version)

    async def configured(self) -> Configured:
        """Return the configured SLAs."""
        return Configured.of(self.slas_configured)

    async def due(self, owned: Ownership, until: datetime, limit: int) -> list[Timer]:
        """Return the timers that are due."""
        found = [each for (part, *_), each in self.timers.items() if part == owned.part]
        return sorted((each for each in found if each.due_at and each.due_at <= until), key=_due_at)[:limit]

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Write a turn behind its fence."""
        async with self._lock:
            return self.write(owned, turn)

    @asynccontextmanager
    async def locked(
        self, owned: Ownership, counters: Sequence[str], workflow_ids: Sequence[str] = ()
    ) -> AsyncIterator[LockedSession]:
        """Hold everything: a single lock stands for the partition and its counters."""
        async with self._lock:
            self._fence(owned)
            yield LockedSession(self, self._facts(counters, workflow_ids))

    async def outbox(self, part: int, seq: int, limit: int) -> list[tuple[int, JournalRow]]:
        """Return committed rows from `seq` on."""
        rows = list(enumerate(self.journal[part], start=1))[max(seq - 1, 0) :][:limit]
        sizes = accumulate((len(row.event or b"") + len(row.reply or b"") for _, row in rows), initial=0)
        return [pair for pair, before in zip(rows, sizes, strict=False) if before < limit * ROW_BYTES]

    async def note_published(self, owned: Ownership, seq: int) -> None:
        """Remember how far the relay got."""
        row = self.rows[owned.part]
        if row.epoch == owned.epoch:
            self.rows[owned.part] = replace(row, published_seq=max(row.published_seq, seq))

    async def last_decided(self, owned: Ownership) -> LastDecided | None:
        """Return the last command before the next offset."""
        known = {
            row.record_offset: str(orjson.loads(row.reply)["command_id"])
            for row in self.journal[owned.part]
            if 0 <= row.record_offset < owned.next_offset and row.reply is not None
        }
        return LastDecided(max(known), known[max(known)]) if known else None

    async def note_halted(self, owned: Ownership, reason: str) -> None:
        """Remember why a partition is halted."""
        row = self.rows[owned.part]
        if (row.epoch, row.turn) != (owned.epoch, owned.turn):
            raise Fenced(f"partition {owned.part} has another owner")
        self.rows[owned.part] = replace(row, halted=reason)

    async def halts(self) -> dict[int, str | None]:
        """Return each partition, and why it is halted if it is."""
        return {part: row.halted for part, row in self.rows.items()}

    async def halt_all(self, reason: str) -> None:
        """Halt every partition."""
        for part, row in self.rows.items():
            self.rows[part] = replace(row, halted=row.halted or reason)

    def write(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Write all of a turn or nothing; whoever calls holds the lock."""
        _refuse_poison(turn)
        row = self._fence(owned)
        taken = {new.workflow_id: self.places[new.workflow_id].root_id for new in turn.created if self._is_taken(new)}
        if taken:
            return Facts(taken=taken)
        for changed in turn.changed:
            body = self.workflows.get((owned.part, changed.workflow_id))
            if body is None or parse(body).version > changed.version:
                raise Fenced("workflows changed behind their owner")
        known = {offset for part, offset in self.waiting if part == owned.part}
        if not known.issuperset(each.offset for each in (*turn.postponed, *turn.unparked)):
            raise Fenced("parked commands changed behind their owner")
        growing = {name: delta for name, delta in turn.open_deltas.items() if delta > 0}
        full = {name: room for name, room in self._room(growing).items() if room < growing[name]}
        if full:
            return Facts(room=full)
        self.rows[owned.part] = replace(
            row,
            turn=row.turn + 1,
            next_offset=turn.next_offset,
            next_seq=row.next_seq + len(turn.rows),
            published_seq=max(row.published_seq, owned.published_seq),
            tick_time=max(filter(None, (row.tick_time, owned.tick_time)), default=None),
        )
        self.claimed[owned.part].touched_at = turn.now
        self._keep(owned.part, turn)
        return replace(
            owned, turn=owned.turn + 1, next_offset=turn.next_offset, next_seq=owned.next_seq + len(turn.rows)
        )

    def _keep(self, part: int, turn: Turn) -> None:
        for workflow in turn.created:
            self.places[workflow.workflow_id] = Place(part, workflow.root_id)
        for workflow in (*turn.created, *turn.changed):
            self.workflows[(part, workflow.workflow_id)] = dump(workflow)
        self.journal[part].extend(turn.rows)
        for row in turn.rows:
            if row.command_id is not None:
                key = (part, row.key or "", row.command_id)
                self.remembered[key] = Remembered(row.digest or b"", row.reply or b"")
        for record in turn.parked:
            self.waiting[part, record.offset] = replace(record)
        for each in turn.postponed:
            self.waiting[part, each.offset].parked = each
        for each in turn.unparked:
            del self.waiting[part, each.offset]
        self._keep_slas(part, turn)
        for name, delta in turn.open_deltas.items():
            if name in self.counts:
                self.counts[name].open += delta

    def _keep_slas(self, part: int, turn: Turn) -> None:
        for row in turn.slas:
            record = parse_record(row.body)
            self.slas[part, row.workflow_id, row.name, record.run] = record
        for timer in turn.timers:
            place = (part, timer.workflow_id, timer.name)
            self.timers.pop(place, None)
            if timer.due_at is not None:
                self.timers[place] = timer

    def _fence(self, owned: Ownership) -> Ownership:
        row = self.rows[owned.part]
        expected = (owned.epoch, owned.turn, owned.next_offset)
        if (row.epoch, row.turn, row.next_offset) != expected or row.halted is not None:
            raise Fenced(f"partition {owned.part} is not at epoch, turn and offset {expected}")
        return row

    def _facts(self, counters: Sequence[str], workflow_ids: Sequence[str]) -> Facts:
        taken = {name: self.places[name].root_id for name in workflow_ids if name in self.places}
        return Facts(taken, self._room(dict.fromkeys(counters, 0)))

    def _is_taken(self, workflow: Workflow) -> bool:
        return workflow.workflow_id in self.places

    def _room(self, names: Mapping[str, int]) -> dict[str, int]:
        counts = {name: self.counts[name] for name in names if name in self.counts}
        return {name: count.max_open - count.open for name, count in counts.items() if count.max_open is not None}


def _due_at(timer: Timer) -> datetime:
    return timer.due_at or START


def _unclaimed(part: int, parts: int) -> Ownership:
    return Ownership(
        part=part, epoch=0, turn=0, next_offset=0, next_seq=1, published_seq=1, incarnation=UUID(int=part + 1),
        n_parts=parts,
    )  # fmt: skip


def _refuse_poison(turn: Turn) -> None:
    """PostgreSQL's texts hold no NUL; its bytes do."""
    texts = [text for row in turn.rows for text in (row.key, row.workflow_id, row.type, row.traceparent)]
    workflows = [*turn.created, *turn.changed]
    texts += [text for row in turn.parked for text in (row.parked.workflow_id, row.parked.detail)]
    texts += [text for row in workflows for text in (row.workflow_id, row.root_id, row.tenant, row.state)]
    if any("\0" in text for text in texts if text is not None):
        raise Poison("22021: a text holds a NUL")
