"""stress: 50 workflows at once; 50 creations and 200 transitions make exactly 250 events."""

import asyncio

from service.demo.scene import ACCEPTED, Scene, outcome, tally, together
from service.demo.screen import Advance

WORKFLOWS = 50
STEPS = ("ACTIVE", "PAUSED", "ACTIVE", "COMPLETED")
TRANSITIONS = WORKFLOWS * len(STEPS)
EVENTS = WORKFLOWS + TRANSITIONS
VERSIONS = list(range(1, len(STEPS) + 2))


async def play(scene: Scene) -> None:
    """Walk every workflow to its end side by side, and count."""
    clock = asyncio.get_running_loop().time
    began = clock()
    with scene.screen.counting(f"{WORKFLOWS} workflows, {TRANSITIONS} transitions", EVENTS) as advance:
        await together(_walk(scene, number, advance) for number in range(WORKFLOWS))
    decided = clock() - began
    await scene.settled()
    scene.screen.say(
        f"{EVENTS} commands answered in {decided:.2f} s ({EVENTS / decided:.0f} per second), "
        f"their events in hand after {clock() - began:.2f} s"
    )
    scene.check(f"{EVENTS} commands were accepted", {ACCEPTED: EVENTS}, tally(map(outcome, scene.replies)))
    created = sum(reply.from_state is None for reply in scene.replies)
    scene.check("of them creations and transitions", [WORKFLOWS, TRANSITIONS], [created, len(scene.replies) - created])
    outcomes = await scene.rows.outcomes([reply.command_id for reply in scene.replies])
    scene.check(
        "each has exactly one outcome in the store", [EVENTS, [1]], [len(outcomes), sorted({*outcomes.values()})]
    )
    rows = await scene.rows.workflows(scene.prefix)
    scene.check(
        f"{WORKFLOWS} rows are COMPLETED at version {len(VERSIONS)}",
        {f"COMPLETED {len(VERSIONS)}": WORKFLOWS},
        tally(f"{row.state} {row.version}" for row in rows.values()),
    )
    histories = await scene.rows.history(scene.prefix)
    scene.check(f"the store has {EVENTS} events", EVENTS, sum(map(len, histories.values())))
    seen = scene.events.begins(scene.prefix)
    scene.check(f"the topic has {EVENTS} events", EVENTS, sum(map(len, seen.values())))
    scene.check(
        "gapless and in order in each workflow",
        {str(VERSIONS): WORKFLOWS},
        tally(str([each.event.sequence for each in events]) for events in seen.values()),
    )
    parts = {row.part for row in rows.values()}
    scene.holds("spread over the partitions", len(parts) >= min(2, scene.events.partitions))


async def _walk(scene: Scene, number: int, advance: Advance) -> None:
    await scene.create(number)
    advance()
    for target in STEPS:
        await scene.move(number, target)
        advance()
