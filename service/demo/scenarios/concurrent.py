"""concurrent: many clients expect one version and one gets it; one id is created once; many run side by side."""

import asyncio
from contextlib import AsyncExitStack

from client import Client
from service.demo.machine import DEFINITION
from service.demo.scene import ACCEPTED, Scene, outcome, tally, together

CLIENTS = 8
ROUNDS = 12
SIDE_BY_SIDE = 30
STEPS = ("ACTIVE", "PAUSED", "ACTIVE", "FAILED", "CANCELLED")


async def play(scene: Scene) -> None:
    """Open the clients and let them compete, then work side by side."""
    async with AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(
                Client(scene.settings.bootstrap_servers or "", topics=scene.settings.topics)
            )
            for _ in range(CLIENTS)
        ]
        await _one_version(scene, clients)
        await _one_id(scene, clients)
        await _one_id_in_many_trees(scene, clients)
        await _side_by_side(scene, clients)


async def _one_version(scene: Scene, clients: list[Client]) -> None:
    await scene.bring("contested", "ACTIVE")
    contested = scene.id("contested")
    rounds: list[dict[str, int]] = []
    with scene.screen.counting(f"{CLIENTS} clients, {ROUNDS} rounds", ROUNDS) as advance:
        for number in range(ROUNDS):
            version, target = 2 + number, ("PAUSED", "ACTIVE")[number % 2]
            replies = await together(
                scene.send("request_transition", contested, by=client, target_state=target, expected_version=version)
                for client in clients
            )
            rounds.append(tally(map(outcome, replies)))
            advance()
    fair = {"VERSION_CONFLICT": CLIENTS - 1, ACCEPTED: 1}
    scene.check(f"{CLIENTS} clients expect the same version: one is accepted, in each of {ROUNDS} rounds",
                [fair] * ROUNDS, rounds)  # fmt: skip
    scene.check("the version rose once a round", ["ACTIVE", 2 + ROUNDS], await scene.stands("contested"))
    await scene.settled()
    sequences = [seen.event.sequence for seen in scene.events.of(contested)]
    scene.check("the topic has one event a round", list(range(1, 3 + ROUNDS)), sequences)
    await scene.move("contested", "COMPLETED")


async def _one_id(scene: Scene, clients: list[Client]) -> None:
    replies = await together(
        scene.send("create_workflow", scene.id("same"), by=client, definition=DEFINITION) for client in clients
    )
    scene.check(
        f"{CLIENTS} clients create the same id at once: one wins",
        {"ALREADY_EXISTS": CLIENTS - 1, ACCEPTED: 1},
        tally(map(outcome, replies)),
    )
    scene.check("there is one row", 1, len(await scene.rows.workflows(scene.id("same"))))


async def _one_id_in_many_trees(scene: Scene, clients: list[Client]) -> None:
    """Create one id in trees on different partitions, where only the store-wide registry can tell."""
    roots = [f"root-{number}" for number in range(CLIENTS)]
    await together(scene.create(root) for root in roots)
    child = scene.id("child")
    replies = await together(
        scene.send("create_workflow", child, by=client, root_id=scene.id(root), definition=DEFINITION)
        for client, root in zip(clients, roots, strict=True)
    )
    rows = await scene.rows.workflows(scene.id("root-"))
    parts = {row.part for row in rows.values()}
    scene.holds("the roots of these trees lie on several partitions", len(parts) >= min(2, scene.events.partitions))
    scene.check(
        "one id in several trees at once: one wins, store-wide",
        {"ALREADY_EXISTS": CLIENTS - 1, ACCEPTED: 1},
        tally(map(outcome, replies)),
    )
    scene.check("the registry has it once", 1, await scene.rows.registered(child))


async def _side_by_side(scene: Scene, clients: list[Client]) -> None:
    async def walk(number: int) -> list[str]:
        client = clients[number % CLIENTS]
        label = f"side-{number}"
        replies = [await scene.create(label, by=client)]
        replies += [await scene.move(label, target, by=client) for target in STEPS]
        return [outcome(reply) for reply in replies]

    clock = asyncio.get_running_loop().time
    began = clock()
    walks = await together(map(walk, range(SIDE_BY_SIDE)))
    spent = clock() - began
    commands = SIDE_BY_SIDE * (1 + len(STEPS))
    scene.screen.say(f"{commands} commands of {SIDE_BY_SIDE} workflows in {spent:.2f} s")
    scene.check(
        f"{SIDE_BY_SIDE} workflows walk side by side, none disturbs another",
        {ACCEPTED: commands},
        tally(each for walk in walks for each in walk),
    )
    await scene.settled()
    seen = scene.events.begins(scene.id("side-"))
    expected = str(["CREATED", *STEPS])
    scene.check(
        "and each one's events tell its own walk, in order",
        {expected: SIDE_BY_SIDE},
        tally(str([each.event.to_state for each in events]) for events in seen.values()),
    )
