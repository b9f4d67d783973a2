"""recovery: the worker is killed in the middle of traffic and started again; nothing is lost, nothing doubled."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from contracts.replies import Reply
from service.demo.machine import DEFINITION
from service.demo.scene import ACCEPTED, Scene, differing, outcome, tally, together

WORKFLOWS = 40
STEPS = ("ACTIVE", "PAUSED", "ACTIVE", "FAILED", "ACTIVE", "COMPLETED")
COMMANDS = WORKFLOWS * (1 + len(STEPS))
KILL_AFTER = COMMANDS // 3
REPEATED = 20
REPLY_SECONDS_MAX = 45.0
SEQUENCES = list(range(1, len(STEPS) + 2))

Commands = dict[UUID, dict[str, Any]]


async def play(scene: Scene) -> None:
    """Kill the worker while every workflow has a command in flight, start it again, and count."""
    scene.reply_seconds_max = REPLY_SECONDS_MAX
    commands: Commands = {}
    enough = asyncio.Event()
    with scene.screen.counting(f"{WORKFLOWS} workflows, {COMMANDS} commands", COMMANDS) as advance:

        def answered(reply: Reply) -> None:
            scene.replies.append(reply)
            advance()
            if len(scene.replies) >= KILL_AFTER:
                enough.set()

        walks = [_walk(scene, number, commands, answered) for number in range(WORKFLOWS)]
        await together([_crash(scene, enough), *walks])
    replies = list(scene.replies)
    scene.check(
        "every command was answered, each with one acceptance", {ACCEPTED: COMMANDS}, tally(map(outcome, replies))
    )
    await scene.settled()
    await _nothing_lost(scene, commands)
    await _repeat(scene, commands, replies)


async def _crash(scene: Scene, enough: asyncio.Event) -> None:
    """Wait for a third of the traffic, then kill and start again."""
    await enough.wait()
    pid = scene.worker.pid
    await scene.worker.kill()
    answered = len(scene.replies)
    scene.screen.say(f"worker {pid} killed with SIGKILL after {answered} of {COMMANDS} replies")
    scene.holds("the worker was killed in the middle of the traffic", KILL_AFTER <= answered < COMMANDS)
    began = asyncio.get_running_loop().time()
    await scene.worker.start()
    spent = asyncio.get_running_loop().time() - began
    scene.screen.say(f"worker {scene.worker.pid} has taken the partitions over, {spent:.1f} s later")
    scene.holds("another process goes on", scene.worker.pid not in {0, pid})


async def _nothing_lost(scene: Scene, commands: Commands) -> None:
    outcomes = await scene.rows.outcomes(list(commands))
    scene.check("each has exactly one outcome in the store", {"1": COMMANDS}, tally(map(str, outcomes.values())))
    rows = await scene.rows.workflows(scene.prefix)
    scene.check(
        "every workflow arrived, its version the number of its commands",
        {f"COMPLETED {len(SEQUENCES)}": WORKFLOWS},
        tally(f"{row.state} {row.version}" for row in rows.values()),
    )
    seen = scene.events.begins(scene.prefix)
    scene.check(
        "the topic has each workflow's events gapless, in order, none twice",
        {str(SEQUENCES): WORKFLOWS},
        tally(str([each.event.sequence for each in events]) for events in seen.values()),
    )
    by_command = Counter(each.event.command_id for events in seen.values() for each in events)
    scene.check("one event for each command", [COMMANDS, [1]], [len(by_command), sorted({*by_command.values()})])
    histories = await scene.rows.history(scene.prefix)
    stored = {workflow_id: [event["event_id"] for event in events] for workflow_id, events in histories.items()}
    published = {workflow_id: [str(each.event.event_id) for each in events] for workflow_id, events in seen.items()}
    scene.check("the topic and the store tell the same", [], differing(stored, published))


async def _repeat(scene: Scene, commands: Commands, replies: list[Reply]) -> None:
    first = {reply.command_id: reply for reply in replies}
    chosen = list(commands)[:: COMMANDS // REPEATED][:REPEATED]
    again = [
        await scene.client.send(commands[command_id], timeout_seconds=scene.reply_seconds_max) for command_id in chosen
    ]
    scene.check(
        "a command sent again is answered as a duplicate", [True] * REPEATED, [each.duplicate for each in again]
    )
    scene.check(
        "with the first one's outcome",
        [_told(first[command_id]) for command_id in chosen],
        [_told(each) for each in again],
    )
    await scene.settled()
    total = sum(map(len, scene.events.begins(scene.prefix).values()))
    scene.check("and nothing more has happened", COMMANDS, total)


async def _walk(scene: Scene, number: int, commands: Commands, answered: Callable[[Reply], None]) -> None:
    workflow_id = scene.id(number)
    steps: list[dict[str, Any]] = [
        {"command_type": "create_workflow", "definition": DEFINITION},
        *({"command_type": "request_transition", "target_state": target} for target in STEPS),
    ]
    for step in steps:
        command_id = uuid4()
        command = step | {"workflow_id": workflow_id, "command_id": command_id, "requested_by": "demo"}
        commands[command_id] = command
        reply = await scene.client.send(command, timeout_seconds=scene.reply_seconds_max)
        answered(reply)


def _told(reply: Reply) -> list[Any]:
    return [outcome(reply), reply.state, reply.version, [str(event_id) for event_id in reply.events]]
