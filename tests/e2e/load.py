"""Commands as a busy system sends them: creations, moves, repeats, refusals and reused ids, mixed by chance."""

import asyncio
import random
from collections.abc import Iterator
from typing import Any

from service.app import Endpoints
from service.definitions.files import shipped
from service.settings import Settings
from tests.e2e.outside import command, creation, move, producer, put

STATES = ("ACTIVE", "PAUSED", "COMPLETED", "FAILED", "CANCELLED")
ROUND = 40
ROUND_SECONDS = 0.1
MIGRATIONS = 0.15


SECOND = shipped()["alims.workflow"].replace("PAUSED", "ON_HOLD").replace("version: 1", "version: 2")
"""A second version of the shipped definition: one state has another name."""
MAPPINGS: tuple[dict[str, str], ...] = (
    {"PAUSED": "ON_HOLD"},
    {"ON_HOLD": "PAUSED"},
    {"ACTIVE": "CANCELLED"},
    {"FAILED": "COMPLETED"},
    {},
)


def commands(*, seed: int, workflows: int, migrating: bool = False) -> Iterator[dict[str, Any]]:
    """Yield commands without end; what each one meets depends on those before it. `migrating` needs `SECOND`."""
    chance = random.Random(seed)
    names = [f"w-{seed}-{number}" for number in range(workflows)]
    made: list[dict[str, Any]] = [creation(name) for name in names]
    yield from made
    while True:
        name = chance.choice(names)
        if migrating and chance.random() < MIGRATIONS:
            for body in migrations(chance, name):
                made.append(body)
                yield body
            continue
        kind = chance.random()
        if kind < 0.1:
            body = dict(chance.choice(made))
        elif kind < 0.12:
            body = chance.choice(made) | {"reason": f"reused {chance.random()}"}
        elif kind < 0.2:
            body = move(name, "ACTIVE", context={"hold": True})
        elif kind < 0.4:
            body = command(name, "update_metadata", metadata={f"field {chance.randrange(5)}": chance.random()})
        elif kind < 0.45:
            body = command(name, "recover_workflow")
        elif kind < 0.5:
            name = f"{name}-{chance.randrange(10**6)}"
            names.append(name)
            body = creation(name, definition=chance.choice(("alims.workflow", "alims.workflow_strict")))
        else:
            version = {"expected_version": chance.randrange(1, 6)} if chance.random() < 0.1 else {}
            body = move(name, chance.choice(STATES), **version)
        made.append(body)
        yield body


def migrations(chance: random.Random, name: str) -> Iterator[dict[str, Any]]:
    """Yield a migration to the one version or the other, and often its undo, at once or after a change."""
    version, states = chance.randrange(1, 3), chance.choice(MAPPINGS)
    yield command(name, "migrate_workflow", to_version=version, states=states, reason="new names")
    if chance.random() < 0.2:
        yield command(name, "update_metadata", metadata={"touched": version})
    if chance.random() < 0.6:
        yield command(name, "migrate_workflow", undo=True, reason="it was a mistake")


async def keep_sending(
    settings: Settings, endpoints: Endpoints, enough: asyncio.Event, *, seed: int, migrating: bool = False
) -> int:
    """Send some hundred commands a second until it is enough; returns how many."""
    stream = commands(seed=seed, workflows=30, migrating=migrating)
    sent = 0
    async with producer(endpoints) as opened:
        while not enough.is_set():
            records = [put(next(stream)) for _ in range(ROUND)]
            futures = [await opened.send(settings.topics.commands, each.value, each.key) for each in records]
            await asyncio.gather(*futures)
            sent += len(records)
            await asyncio.sleep(ROUND_SECONDS)
    return sent
