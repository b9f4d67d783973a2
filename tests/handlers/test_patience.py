"""How long a turn waits for its guards at most, on a clock that moves when everybody waits."""

import asyncio
from random import Random

from handlers.limits import Limits
from tests.fakes.guards import HeldGuards
from tests.fakes.machines import compiled, create, door, move, sent
from tests.fakes.ports import CommandRecord
from tests.fakes.turns import Turns
from tests.simulation.loop import seeded_loop

STEADY_SECONDS = 0.05


def pull(workflow_id: str) -> CommandRecord:
    """Return a request for the guarded way."""
    return sent(move(workflow_id, "pull", context={"strong": True}))


def test_a_turn_that_ends_early_for_want_of_room_has_waited_once() -> None:
    """Guards answer one after another, and there is room to park one command: what is left of it waits no more."""
    limits = Limits(parked_partition_max=1, guard_seconds_max=60)
    guards = HeldGuards(every=True)
    turns = Turns(guards=guards, limits=limits)
    turns.store.add(compiled(door()))
    names = [f"w{number}" for number in range(100)]

    async def answer_steadily() -> None:
        for name in names:
            await asyncio.sleep(STEADY_SECONDS)
            await guards.let_go(name)

    async def waited() -> float:
        clock = asyncio.get_running_loop().time
        await turns.take(sent(create("silent")), *(sent(create(name)) for name in names))
        answering = asyncio.create_task(answer_steadily())
        began = clock()
        await turns.take(pull("silent"), *map(pull, names))
        answering.cancel()
        return clock() - began

    assert limits.guard_turn_seconds_max >= seeded_loop(Random(1)).run_until_complete(waited())
    assert ["silent"] == [record.parked.workflow_id for record in turns.store.waiting.values()]
    assert 0 < sum(turns.workflow(name).version == 2 for name in names) < len(names)
