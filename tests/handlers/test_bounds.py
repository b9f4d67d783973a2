"""What bounds a turn besides its records: the time that others wait for the loop, and what workflows may grow to."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from domain.decision import Facts
from handlers.commands import CommandsHandler, Wakeup
from handlers.decode import VALUES_MAX
from handlers.ports import LOADED_BYTES_MAX, Loaded, Ownership, Record, Turn, Wanted
from tests.fakes.machines import command, compiled, create, door, move, sent
from tests.fakes.ports import ScriptedGuards, numbered
from tests.fakes.store import MemoryStore
from tests.fakes.turns import Turns


@dataclass
class Watched(MemoryStore):
    """A store that notes how often others have had the loop when a turn is loaded, and when it is applied."""

    others: int = 0
    had: list[int] = field(default_factory=list)

    async def load(self, owned: Ownership, wanted: Wanted) -> Loaded:
        """Note it, and load."""
        self.had.append(self.others)
        return await super().load(owned, wanted)

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Note it, and apply."""
        self.had.append(self.others)
        return await super().apply(owned, turn)

    async def go_on(self) -> None:
        """Be the others, who want nothing but the loop."""
        while True:
            await asyncio.sleep(0)
            self.others += 1


async def taken(records: Sequence[Record], *, seconds: float) -> list[int]:
    """Take a turn each of whose steps takes so long, and return what the store noted."""
    store = Watched()
    store.add(compiled(door()))
    handler = CommandsHandler(store, ScriptedGuards(), timer=(seconds * step for step in count()).__next__)
    owned = await store.claim(0, 1)
    parking = await handler.open(owned)
    others = asyncio.create_task(store.go_on())
    await asyncio.sleep(0)
    await handler.take_turn(owned, records, Wakeup(), parking=parking, applied=lambda _: None)
    others.cancel()
    return store.had


async def test_a_turn_that_takes_long_lets_others_have_the_loop() -> None:
    """By the time that has passed, while commands are read and while they are decided, however few they are."""
    records = numbered([sent(create("w")), *(sent(move("w", "push", number)) for number in range(19))])
    loaded, applied = await taken(records, seconds=1)
    assert loaded >= len(records)
    assert applied - loaded >= len(records)
    assert [0, 0] == await taken(records, seconds=0)


async def test_metadata_grows_to_as_many_keys_and_values_as_a_command_may_have() -> None:
    """Each change writes the workflow out whole; what would be more is refused, and what makes room is not."""
    turns = Turns()
    turns.store.add(compiled(door()))
    half = [0] * (VALUES_MAX // 2)
    patches = [{"a": half}, {"b": half}, {"a": None}, {"b": half}]
    found = await turns.replies(
        sent(create("w")),
        *(sent(command("update_metadata", "w", index, metadata=each)) for index, each in enumerate(patches)),
    )
    assert ["accepted", "accepted", "rejected", "accepted", "accepted"] == [reply["outcome"] for reply in found]
    assert (
        f"w would be larger than {VALUES_MAX} keys and values of metadata; remove metadata"
        == (found[2]["rejection"]["message"])
    )
    assert {"colour", "b"} == turns.workflow("w").metadata.keys()


async def test_large_workflows_are_loaded_a_few_at_a_time() -> None:
    """However small the commands are that name them; each has its outcome, in order."""
    turns = Turns()
    turns.store.add(compiled(door()))
    names = [f"w{number}" for number in range(25)]
    for name in names:
        await turns.take(sent(create(name, metadata={"note": LOADED_BYTES_MAX // 20 * "."})))
    turns.taken.clear()
    found = await turns.replies(*(sent(move(name, "open")) for name in names))
    assert [(name, "accepted") for name in names] == [(reply["workflow_id"], reply["outcome"]) for reply in found]
    assert [12, 13] == [len(taken.turn.changed) for taken in turns.taken]
