"""monitoring: /metrics, /health/live and /health/ready tell what was decided, as it was decided."""

import asyncio

import orjson

from service.demo.pages import Scrape, read_page, read_readiness, scrape
from service.demo.scene import ACCEPTED, Scene, outcome, tally

WORKFLOWS = 5
STEPS = ("ACTIVE", "PAUSED", "ACTIVE", "COMPLETED")
EVENTS = WORKFLOWS * (1 + len(STEPS))
TRANSITIONS = "workflow_transition_total"
PUBLISHED = "outbox_events_processed_total"
WITHIN_SECONDS = 10.0
POLL_SECONDS = 0.1


async def play(scene: Scene) -> None:
    """Scrape, let commands be decided, scrape again and compare."""
    await _health(scene)
    before = await scrape(scene.worker.address)
    for number in range(WORKFLOWS):
        await scene.create(number)
        for target in STEPS:
            await scene.move(number, target)
        await scene.move(number, "ACTIVE")
    answered = tally(map(outcome, scene.replies))
    scene.check("commands were accepted, and some refused", {"TERMINAL_STATE": WORKFLOWS, ACCEPTED: EVENTS}, answered)
    after = await _published(scene, before)
    _accounts(scene, before, after)
    _pipeline(scene, after)


async def _health(scene: Scene) -> None:
    address = scene.worker.address
    live = await read_page(address, "/health/live")
    scene.check("/health/live says it lives", [200, True], [live.status, orjson.loads(live.body)["live"]])
    ready = await read_readiness(address)
    scene.check("/health/ready says it is ready", [200, True], [ready.status, ready.ready] if ready else [])
    phases = tally(ready.phases.values()) if ready else {}
    scene.check("and takes turns of every partition it was given", ["active"], sorted(phases))
    scene.screen.say(f"{phases.get('active', 0)} partitions active at {address}")


async def _published(scene: Scene, before: Scrape) -> Scrape:
    """Scrape until the relay has counted what it published: it counts after the reply is out."""
    expected = before.value(PUBLISHED, event_type="turnstile.reply", status="published") + WORKFLOWS
    deadline = asyncio.get_running_loop().time() + WITHIN_SECONDS
    while True:
        after = await scrape(scene.worker.address)
        counted = after.value(PUBLISHED, event_type="turnstile.reply", status="published")
        if counted >= expected or asyncio.get_running_loop().time() > deadline:
            return after
        await asyncio.sleep(POLL_SECONDS)


def _accounts(scene: Scene, before: Scrape, after: Scrape) -> None:
    def moved(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    accepted = moved(TRANSITIONS, entity_type="workflow", result=ACCEPTED)
    refused = moved(TRANSITIONS, entity_type="workflow", result="rejected")
    scene.screen.say(f"{TRANSITIONS} rose by {accepted:.0f} accepted and {refused:.0f} refused")
    scene.check(f"{TRANSITIONS} rose by what was accepted", float(EVENTS), accepted)
    scene.check(f"{TRANSITIONS} rose by what was refused", float(WORKFLOWS), refused)
    scene.check(
        f"{PUBLISHED} rose by what was published",
        {"alims.CREATED": WORKFLOWS, "alims.TRANSITION": EVENTS - WORKFLOWS, "turnstile.reply": WORKFLOWS},
        {
            event_type: int(moved(PUBLISHED, event_type=event_type, status="published"))
            for event_type in ("alims.CREATED", "alims.TRANSITION", "turnstile.reply")
        },
    )
    scene.holds("turns were counted", moved("turnstile_turns_total") > 0)
    scene.holds("and timed", moved("turnstile_turn_seconds_count") > 0)


def _pipeline(scene: Scene, after: Scrape) -> None:
    scene.check("nothing waits to be published", 0.0, after.value("turnstile_outbox_depth"))
    scene.check("no partition is halted", 0.0, after.value("turnstile_partition_halted"))
    scene.holds("ticks are made", after.value("turnstile_tick_time_seconds") > 0)
