"""SLAs in turns: what a turn leaves of them, however much happens in it."""

from typing import Any

from tests.fakes.machines import compiled, create, door, move, sent
from tests.fakes.store import MemoryStore
from tests.fakes.turns import Turns

AJAR: dict[str, Any] = {"name": "ajar", "target": "1h", "starts": ["open"], "stops": ["shut"]}


async def test_every_run_is_kept_that_one_turn_starts_and_ends() -> None:
    """The workflow knows the latest alone; reports have them all."""
    turns = Turns(MemoryStore())
    turns.store.add(compiled(door() | {"slas": [AJAR]}))
    steps = [move("w", name, number) for number, name in enumerate(["open", "shut"] * 3)]
    await turns.take(sent(create("w")), *map(sent, steps[:-1]))
    kept = {run: record.status for (_, _, _, run), record in turns.store.slas.items()}
    assert {1: "met", 2: "met", 3: "on_track"} == kept
    await turns.take(sent(steps[-1]), sent(move("w", "open", "again")))
    kept = {run: record.status for (_, _, _, run), record in turns.store.slas.items()}
    assert {1: "met", 2: "met", 3: "met", 4: "on_track"} == kept
