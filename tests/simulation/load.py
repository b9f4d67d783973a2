"""What producers send: commands of a few workflows on two partitions, most of them in each other's way.

At least a fifth is refused; some come twice, some on the wrong partition, some cannot be read, and between records
lie markers and what a producer aborted, so that offsets have holes.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from random import Random
from typing import Any
from uuid import UUID

import orjson

from contracts.topics import Topics
from domain.instants import written
from handlers.placement import partition_of
from tests.fakes.machines import DOOR, create, door, identified, move
from tests.fakes.ports import CommandRecord
from tests.fakes.store import MemoryStore
from tests.simulation.kafka import Kafka, Transaction
from tests.simulation.network import Surroundings

GATE = "shop.gate"
GATES_MAX = 2
GARBAGE = (b"", b"{", b"[1]", b"null", b'{"command_type": "create_workflow"}', b"\xff\xfe", b'"\\ud800"')
TRANSITIONS = ("open", "shut", "push", "pull", "brick", "jam", "recover", "knock", "phone", "fly")

# Short enough to be broken while workers come and go.
OPENING = {
    "name": "opening",
    "target": "3s",
    "warning": "1s",
    "starts": ["shut"],
    "holds": ["jammed"],
    "stops": ["open"],
    "ladder": [{"after": "0s", "alert": "porter"}, {"after": "2s", "alert": "keeper"}],
}

WALK = ("open", "jam", "recover", "pull", "open", "shut")


def gate() -> dict[str, Any]:
    """Return a door of which few may be open, promised to open soon, and whose guards are waited for.

    One that never answers it has not.
    """
    document = door(name=GATE, max_open=GATES_MAX) | {"on_unavailable": "wait"}
    document["transitions"] = [each for each in document["transitions"] if each["name"] != "phone"]
    return document | {"slas": [OPENING]}


DEFINITIONS = (door(), gate())


def bodies(chance: Random, number: int) -> Iterator[dict[str, Any] | None]:
    """Yield commands, None for what is no command; each has an id of its own unless it repeats another."""
    names = [f"w{each}" for each in range(3 + int(3 * chance.random()))]
    walks = {name: (cycle(WALK), 1) for name in names}  # what would be accepted next, and the version it would meet
    made: list[dict[str, Any]] = []
    for each in range(number):
        name = names[each] if each < len(names) else chance.choice(names)
        kind = chance.random()
        if each < len(names) or kind < 0.08:
            definition = chance.choice((DOOR, GATE, GATE))
            root = {"root_id": chance.choice(names)} if chance.random() < 0.2 else {}
            body = create(name, f"c{each}", definition=definition, **root)
            if chance.random() < 0.3:  # another root wants the same id, mostly on another partition
                made.append(create(name, f"r{each}", root_id=chance.choice(names)))
                yield made[-1]
        elif kind < 0.18:
            body = chance.choice(made)
        elif kind < 0.22:
            body = chance.choice(made) | {"reason": f"reused {each}"}
        elif kind < 0.28:
            yield None
            continue
        elif kind < 0.4:
            body = move(name, chance.choice(TRANSITIONS), f"c{each}", expected_version=chance.randrange(1, 4))
        elif kind < 0.5:
            body = move(name, chance.choice(TRANSITIONS), f"c{each}")
        else:
            walk, version = walks[name]
            transition = next(walk)
            expected = {"expected_version": version} if kind < 0.65 else {}
            walks[name] = walk, version + 1
            if expected and chance.random() < 0.5:  # a rival that expects the same
                rival = {
                    "command_type": "update_metadata", "workflow_id": name, "command_id": identified(f"r{each}"),
                    "metadata": {"colour": each}, **expected,
                }  # fmt: skip
                made.append(rival)
                yield rival
            body = move(name, transition, f"c{each}", context={"strong": True}, **expected)
        made.append(body)
        yield body


class Producers:
    """Sends the load over some virtual seconds, and ticks beside it."""

    def __init__(self, around: Surroundings, kafka: Kafka, topics: Topics, *, parts: int) -> None:
        self._around = around
        self._kafka = kafka
        self._topics = topics
        self._parts = parts
        self.sent: list[dict[str, Any]] = []

    async def send(self, chance: Random, *, number: int, seconds: float) -> None:
        """Send so many commands within about so many seconds, some within transactions."""
        struck = self._around.struck
        for body in bodies(chance, number):
            await asyncio.sleep(2 * seconds / number * chance.random() if chance.random() < 0.5 else 0)
            if body is None:
                part, record = chance.randrange(self._parts), _unreadable(chance)
                struck["unreadable records"] += 1
            else:
                part, record = self._place(chance, body, struck)
                struck["repeated commands"] += body in self.sent
                self.sent.append(body)
            where = (self._topics.commands, part)
            struck["commands"] += 1
            if chance.random() < 0.15:
                await self._in_a_transaction(chance, part, record)
            else:
                self._kafka.append(where, record)
            if chance.random() < 0.1:
                self._kafka.append(where, None)
                struck["holes between offsets"] += 1

    def probe(self) -> None:
        """Send one more command to each partition: whatever happened, it must be decided."""
        found: dict[int, str] = {}
        number = 0
        while len(found) < self._parts:
            number += 1
            found.setdefault(partition_of(f"probe-{number}", self._parts), f"probe-{number}")
        for part, name in found.items():
            self._around.struck["commands"] += 1
            self._kafka.append(
                (self._topics.commands, part), CommandRecord(orjson.dumps(create(name)), key=name.encode())
            )

    async def tick(self, clock: MemoryStore) -> None:
        """Wake the partitions; now and then with a tick that cannot be believed."""
        chance = self._around.chance
        while True:
            await asyncio.sleep(2.0)
            for part in range(self._parts):
                body = {
                    "partition": part if chance.random() < 0.9 else part + 1,
                    "time": written(clock.now),
                    "commands_end_offset": self._kafka.end((self._topics.commands, part)),
                    "emitter": "simulation",
                }
                self._kafka.append((self._topics.scheduler, part), CommandRecord(orjson.dumps(body)))

    def _place(self, chance: Random, body: dict[str, Any], struck: Counter[str]) -> tuple[int, CommandRecord]:
        root = str(body.get("root_id") or body["workflow_id"])
        part = partition_of(root, self._parts)
        if chance.random() < 0.15:
            struck["commands off their partition"] += 1
            part = (part + 1) % self._parts
        return part, CommandRecord(orjson.dumps(body), key=root.encode())

    async def _in_a_transaction(self, chance: Random, part: int, record: CommandRecord) -> None:
        """Send a record that readers see late, after one they never see."""
        kafka, where = self._kafka, (self._topics.commands, part)
        self._around.struck["commands in transactions"] += 1
        aborted, kept = Transaction(unmarked=[where]), Transaction(unmarked=[where])
        ghost = create("ghost", UUID(int=chance.getrandbits(100)))
        kafka.append(where, CommandRecord(orjson.dumps(ghost), key=b"ghost"), aborted)
        kafka.append(where, record, kept)
        await asyncio.sleep(0.2 * chance.random())
        for transaction in (aborted, kept):
            kafka.decide(transaction, commit=transaction is kept)
            await transaction.ended.wait()


def _unreadable(chance: Random) -> CommandRecord:
    """Return a record that is no command; some can be answered all the same."""
    if chance.random() < 0.3:
        body = {"command_type": "nothing", "command_id": identified(f"bad {chance.random()}"), "workflow_id": "w0"}
        return CommandRecord(orjson.dumps(body), headers=[("correlation_id", b"\xff")])
    return CommandRecord(chance.choice(GARBAGE), headers=[("nothing", None)])
