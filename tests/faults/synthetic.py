"""A clean history without broker or database: real turns over the store in memory, published without a fault."""

import random
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import orjson

from contracts.topics import Topics
from domain.definition import Definition
from domain.workflow import parse
from service.broker.records import own_records
from service.definitions.files import read_definition
from service.predicates.cel import CelEngine
from tests.e2e.load import SECOND, commands
from tests.fakes.ports import CommandRecord
from tests.fakes.store import MemoryStore
from tests.fakes.turns import Turns
from tests.faults.history import NUMBER, History, Record, Sent
from tests.faults.replay import shipped_definitions

TOPICS = Topics(prefix="turnstile")


@dataclass
class Told:
    """A history whose every part can be changed before it is checked."""

    log: list[Sent] = field(default_factory=list)
    answers: dict[str, float] = field(default_factory=dict)
    commands: list[Record] = field(default_factory=list)
    journal: list[dict[str, Any]] = field(default_factory=list)
    events: list[Record] = field(default_factory=list)
    replies: list[Record] = field(default_factory=list)
    dead_letters: list[Record] = field(default_factory=list)
    alerts: list[Record] = field(default_factory=list)
    workflows: list[dict[str, Any]] = field(default_factory=list)
    partitions: list[dict[str, Any]] = field(default_factory=list)
    counters: list[dict[str, Any]] = field(default_factory=list)

    def history(self) -> History:
        """Return it as the checker takes it."""
        return History(**vars(self))

    def event(self, number: int) -> dict[str, Any]:
        """Return the body of one event."""
        body: dict[str, Any] = orjson.loads(self.events[number].value or b"")
        return body


def definitions() -> list[Definition]:
    """Return the shipped definitions and a second version of one."""
    second = read_definition(SECOND).definition
    return [*shipped_definitions().values(), *([] if second is None else [second])]


async def clean(number: int = 400, *, seed: int = 1, migrating: bool = False) -> Told:
    """Take `number` commands, some of them unreadable, in turns of 20; return what came of them."""
    chance = random.Random(seed)
    turns = Turns(store=MemoryStore(), guards=CelEngine())
    for definition in definitions() if migrating else shipped_definitions().values():
        turns.store.add(definition)
    stream = commands(seed=seed, workflows=10, migrating=migrating)
    told = Told()
    records = []
    for count in range(number):
        body = next(stream)
        value = b"{" if chance.random() < 0.02 else orjson.dumps(body)
        records.append(
            CommandRecord(value, key=str(body["workflow_id"]).encode(), headers=[(NUMBER, str(count).encode())])
        )
    for first in range(0, number, 20):
        await turns.take(*records[first : first + 20])
    for count, record in enumerate(records):
        told.commands.append(_record(record, record.offset, record.headers))
        told.log.append(Sent(count, f"0/{record.offset}", float(count)))
        told.answers[f"0/{record.offset}"] = count + 25.5
    _publish(told, turns.store)
    _store(told, turns.store)
    return told


def _publish(told: Told, store: MemoryStore) -> None:
    rows = list(enumerate(store.journal[0], start=1))
    published = sorted(own_records(TOPICS, 0, rows), key=lambda record: record.topic)
    for topic, group in groupby(published, key=lambda record: record.topic):
        into = {TOPICS.events: told.events, TOPICS.replies: told.replies}.get(topic, told.dead_letters)
        into.extend(
            Record(topic, 0, offset, 0, record.key, record.value, list(record.headers))
            for offset, record in enumerate(group)
        )


def _store(told: Told, store: MemoryStore) -> None:
    told.journal = [row._asdict() | {"part": 0, "seq": seq} for seq, row in enumerate(store.journal[0], start=1)]
    for body in store.workflows.values():
        workflow = parse(body)
        told.workflows.append(
            workflow._asdict() | {"part": 0, "body": body.decode(), "is_open": workflow.completed_at is None}
        )
    row = store.rows[0]
    told.partitions = [
        {"part": 0, "next_offset": row.next_offset, "next_seq": row.next_seq, "published_seq": row.next_seq}
    ]
    told.counters = [{"definition": name, "open": count.open} for name, count in store.counts.items()]


def _record(record: CommandRecord, offset: int, headers: Any) -> Record:  # noqa: ANN401 - a sequence of pairs
    return Record(record.topic, 0, offset, record.timestamp, record.key, record.value, list(headers))
