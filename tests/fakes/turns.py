"""Whole turns over the store in memory: records in, replies out, partition by partition."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from domain.evolve import fold
from domain.workflow import Workflow, parse
from handlers.commands import CommandsHandler, Taken, Wakeup
from handlers.limits import Limits
from handlers.parking import Parking
from handlers.ports import Guards, JournalRow, Ownership
from handlers.ticks import Clock, ReceivedTick
from tests.fakes.ports import CommandRecord, ScriptedGuards
from tests.fakes.store import MemoryStore

NO_WAKEUP = Wakeup()


@dataclass
class Turns:
    """A handler on a store; each batch is one turn of one partition, its records numbered from where it stands.

    `seconds` is the time by which guards are measured.
    """

    store: MemoryStore = field(default_factory=MemoryStore)
    guards: Guards = field(default_factory=ScriptedGuards)
    limits: Limits = field(default_factory=Limits)
    clock: Clock = field(default_factory=Clock)
    seconds: float = 0.0
    taken: list[Taken] = field(default_factory=list)
    owned: dict[int, Ownership] = field(default_factory=dict)
    parking: dict[int, Parking] = field(default_factory=dict)

    async def take(self, *records: CommandRecord, part: int = 0, wakeup: Wakeup = NO_WAKEUP) -> list[JournalRow]:
        """Take a turn and return the rows it left."""
        handler = self._handler()
        owned = await self._owned(part)
        for offset, record in enumerate(records, start=owned.next_offset):
            record.offset, record.partition = offset, part
        before = len(self.store.journal[part])
        self.owned[part] = await handler.take_turn(
            owned, records, wakeup, parking=self.parking[part], applied=self.taken.append
        )
        return self.store.journal[part][before:]

    async def fire(self, tick: ReceivedTick, part: int = 0) -> tuple[list[JournalRow], bool]:
        """Take the steps that are due at a tick; return the rows they left, and whether there may be more."""
        before = len(self.store.journal[part])
        owned = await self._owned(part)
        self.owned[part], more = await self._handler().fire(
            owned, tick, parking=self.parking[part], applied=self.taken.append
        )
        return self.store.journal[part][before:], more

    async def replies(self, *records: CommandRecord, part: int = 0) -> list[dict[str, Any]]:
        """Take a turn and return its replies."""
        return replies(await self.take(*records, part=part))

    async def outcomes(self, *records: CommandRecord, part: int = 0) -> list[str]:
        """Take a turn and return what each reply comes to in one word."""
        return [outcome(reply) for reply in await self.replies(*records, part=part)]

    def workflow(self, workflow_id: str, part: int = 0) -> Workflow:
        """Return a workflow as it is stored."""
        return parse(self.store.workflows[(part, workflow_id)])

    def _handler(self) -> CommandsHandler:
        return CommandsHandler(self.store, self.guards, self.limits, self.clock, timer=lambda: self.seconds)

    async def _owned(self, part: int) -> Ownership:
        if part not in self.owned:
            self.owned[part] = await self.store.claim(part, 1)
        if part not in self.parking:
            self.parking[part] = await self._handler().open(self.owned[part])
        return self.owned[part]


def replies(rows: Sequence[JournalRow]) -> list[dict[str, Any]]:
    """Return the replies among rows."""
    return [orjson.loads(row.reply) for row in rows if row.reply is not None]


def events(rows: Sequence[JournalRow]) -> list[dict[str, Any]]:
    """Return the events among rows."""
    return [orjson.loads(row.event) for row in rows if row.kind == "event" and row.event is not None]


def outcome(reply: dict[str, Any]) -> str:
    """Return a reply's code, or that it was accepted; a repeat says so."""
    first = reply["rejection"]["code"] if reply["outcome"] == "rejected" else "accepted"
    return f"{first} again" if reply.get("duplicate") else str(first)


def histories(rows: Sequence[JournalRow]) -> dict[str, Workflow | None]:
    """Fold each workflow's events of one partition's journal."""
    by_workflow: dict[str, list[dict[str, Any]]] = {}
    for event in events(rows):
        by_workflow.setdefault(event["workflow_id"], []).append(event)
    return {workflow_id: fold(history) for workflow_id, history in by_workflow.items()}
