"""A clean history without broker or database: real turns over the store in memory, published without a fault."""

import random
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from typing import Any

import orjson

from contracts.ticks import Tick
from contracts.topics import Topics
from domain.definition import Definition, compile_document
from domain.workflow import parse
from handlers.commands import Wakeup
from handlers.ticks import ReceivedTick
from service.broker.records import forwarded_records, own_records
from service.definitions.files import read_definition
from service.predicates.cel import CelEngine
from tests.e2e.load import SECOND, commands
from tests.e2e.outside import command, creation
from tests.fakes.ports import CommandRecord
from tests.fakes.store import MemoryStore
from tests.fakes.turns import Turns
from tests.faults.history import NUMBER, History, Record, Sent
from tests.faults.replay import shipped_definitions

TOPICS = Topics(prefix="turnstile")
SAMPLE = "lab.sample"
OUTAGES = 0.1


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
    slas: list[dict[str, Any]] = field(default_factory=list)
    timers: list[dict[str, Any]] = field(default_factory=list)

    def history(self) -> History:
        """Return it as the checker takes it."""
        return History(**vars(self))

    def of(self, topic: str) -> list[Record]:
        """Return what is published on a topic."""
        return {
            TOPICS.events: self.events,
            TOPICS.replies: self.replies,
            TOPICS.dead_letters: self.dead_letters,
            TOPICS.alerts: self.alerts,
        }[topic]

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


class _Lab:
    """Samples as they come, what is done with them, and what the service asks itself, in turns of one partition."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.turns = Turns(store=MemoryStore(), guards=CelEngine())
        self.turns.store.add(samples())
        self.told = Told()
        self._asked = 0

    def asked(self) -> list[CommandRecord]:
        """Return what the service has asked itself since it was last asked for."""
        rows = list(enumerate(self.turns.store.journal[0], start=1))[self._asked :]
        self._asked += len(rows)
        return [
            CommandRecord(each.value, key=each.key, headers=each.headers) for each in forwarded_records(TOPICS, rows)
        ]

    def sent(self, number: int) -> list[CommandRecord]:
        """Return a new sample and commands of those before it, numbered."""
        bodies = [_of_a_sample(self.chance, number) for _ in range(5)] + [creation(f"s-{number}", SAMPLE)]
        first = len(self.told.log)
        self.told.log += [Sent(first + place, None, 0.0) for place in range(len(bodies))]
        return [
            CommandRecord(orjson.dumps(body), key=str(body["workflow_id"]).encode(), headers=[(NUMBER, b"%d" % count)])
            for count, body in enumerate(bodies, start=first)
        ]

    async def take(self, records: list[CommandRecord]) -> None:
        """Take a turn of records that the broker has now."""
        for record in records:
            record.timestamp = int(self.turns.store.now.timestamp() * 1000)
        await self.turns.take(*records)
        self.told.commands += [_record(record, record.offset, record.headers) for record in records]

    async def tick(self) -> None:
        """Let a tick come a little later."""
        self.turns.store.now += timedelta(seconds=3)
        tick = Tick(partition=0, time=self.turns.store.now, commands_end_offset=0, emitter="e")
        received = ReceivedTick(CommandRecord(b""), tick)
        await self.turns.take(wakeup=Wakeup(received))
        await self.turns.fire(received)


async def promised(rounds: int = 60, *, seed: int = 1) -> Told:
    """Let time pass over samples that are tested in time, late or never; some of it while nobody looks."""
    lab = _Lab(seed)
    for number in range(rounds):
        lab.turns.store.now += timedelta(seconds=200 if lab.chance.random() < OUTAGES else 10)
        await lab.take(lab.sent(number) + lab.asked())
        await lab.tick()
    await lab.take(lab.asked())
    _publish(lab.told, lab.turns.store)
    _store(lab.told, lab.turns.store)
    return lab.told


def samples() -> Definition:
    """Return a definition that promises to test samples within a minute."""
    states = {
        "received": {"initial": True},
        "shelved": {},
        "tested": {},
        "escalated": {},
        "reported": {"terminal": True},
    }
    promise = {
        "name": "testing",
        "target": "60s",
        "warning": "20s",
        "holds": ["shelved"],
        "stops": ["tested"],
        "ladder": [
            {"after": "0s", "alert": "lab-lead"},
            {"after": "30s", "priority": "high", "transition": "escalate"},
            {"after": "60s", "alert": "director"},
        ],
    }
    transitions = [
        {"name": "test", "from": ["received", "escalated"], "to": "tested"},
        {"name": "shelve", "from": ["received", "escalated"], "to": "shelved"},
        {"name": "fetch", "from": "shelved", "to": "received"},
        {"name": "escalate", "from": "received", "to": "escalated"},
        {"name": "again", "from": "tested", "to": "received"},
        {"name": "report", "from": "tested", "to": "reported"},
    ]
    slas = [promise | {"starts": ["received"]}, promise | {"name": "reporting", "target": "3m", "stops": ["reported"]}]
    found = compile_document({"name": SAMPLE, "version": 1, "states": states, "transitions": transitions, "slas": slas})
    assert isinstance(found, Definition), found
    return found


def _of_a_sample(chance: random.Random, number: int) -> dict[str, Any]:
    """Return a command of one of the newer samples."""
    name = f"s-{max(number - int(chance.expovariate(0.15)), 0)}"
    kind = chance.random()
    if kind < 0.7:
        transition = chance.choice(("test", "test", "shelve", "fetch", "again", "report"))
        return command(name, transition=transition)
    moved = chance.choice(("pause_sla", "resume_sla", "extend_sla", "set_priority"))
    fields: dict[str, Any] = {"extend_sla": {"sla": "testing", "seconds": 45}, "set_priority": {"priority": "low"}}
    return command(name, moved, reason="so", **fields.get(moved, {}))


def _publish(told: Told, store: MemoryStore) -> None:
    rows = list(enumerate(store.journal[0], start=1))
    published = sorted(own_records(TOPICS, 0, rows), key=lambda record: record.topic)
    for topic, group in groupby(published, key=lambda record: record.topic):
        into = told.of(topic)
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
        {
            "part": 0,
            "next_offset": row.next_offset,
            "next_seq": row.next_seq,
            "published_seq": row.next_seq,
            "tick_time": row.tick_time,
        }
    ]
    told.slas, told.timers = sla_rows(store), timer_rows(store)
    told.counters = [{"definition": name, "open": count.open} for name, count in store.counts.items()]


def sla_rows(store: MemoryStore) -> list[dict[str, Any]]:
    """Return the table of SLAs as the checker reads it."""
    return [
        {"workflow_id": workflow_id, "name": name, "run": run, "status": record.status, "is_open": record.is_open}
        for (_, workflow_id, name, run), record in store.slas.items()
    ]


def timer_rows(store: MemoryStore) -> list[dict[str, Any]]:
    """Return the table of timers as the checker reads it."""
    return [timer._asdict() for timer in store.timers.values()]


def _record(record: CommandRecord, offset: int, headers: Any) -> Record:  # noqa: ANN401 - a sequence of pairs
    return Record(record.topic, 0, offset, record.timestamp, record.key, record.value, list(headers))
