"""sla: a month of promises in seconds: met, at risk, held, and one broken once, its ladder climbed to the top."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from service.demo.month import WITHIN_SECONDS, Month, month
from service.demo.scene import Scene

DEFINITION = "demo.support"
START = datetime(2026, 6, 1, 9, tzinfo=UTC)  # a Monday
END = datetime(2026, 7, 1, 9, tzinfo=UTC)
HOUR = 3600
POLL_SECONDS = 0.05


def june(day: int, hour: int = 9, minute: int = 0) -> datetime:
    """Return a moment of the month."""
    return datetime(2026, 6, day, hour, minute, tzinfo=UTC)


async def play(scene: Scene) -> None:
    """Play a month on a service whose clock is logical, and check what was promised, told and accounted for."""
    scene.screen.say("starting a second worker, whose clock is moved by ticks alone")
    async with month(scene, START) as played:
        clock = asyncio.get_running_loop().time
        began = clock()
        escalated = await _month(played)
        spent = clock() - began
        scene.screen.say(f"{(END - START).days} days of working time in {spent:.1f} s, {played.ticks} ticks")
        await _promises(scene, played, escalated=escalated)
        await _told(scene, played)


async def _month(played: Month) -> bool:
    """Let four cases have their month; say whether the service itself has escalated the late one."""
    for label in ("quick", "held"):
        await played.send("create_workflow", label, definition=DEFINITION)
    await played.until(june(1, 11))
    await played.send("request_transition", "held", transition="ask")
    await played.until(june(1, 15))
    await played.send("request_transition", "quick", transition="solve")
    await played.until(june(5))
    await played.send("create_workflow", "late", definition=DEFINITION)
    await played.until(june(5, 16))
    await played.until(june(8, 16))
    escalated = await _escalated(played)
    await played.until(june(9, 10))
    await played.send("request_transition", "late", transition="solve")
    await played.until(june(10))
    await played.send("create_workflow", "warned", definition=DEFINITION)
    await played.until(june(10, 16, 30))
    await played.send("request_transition", "warned", transition="solve")
    await played.until(june(22, 11))
    await played.send("request_transition", "held", transition="answer")
    await played.until(june(22, 15))
    await played.send("request_transition", "held", transition="solve")
    await played.until(END)
    return escalated


async def _escalated(played: Month) -> bool:
    """Wait until the command that the ladder asked for is decided; give up silently, the check says so."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + WITHIN_SECONDS
    while clock() < deadline:
        row = await played.rows.workflow(played.scene.id("late"))
        if row is not None and row.state == "escalated":
            return True
        await asyncio.sleep(POLL_SECONDS)
    return False


async def _promises(scene: Scene, played: Month, *, escalated: bool) -> None:
    found = {label: await _record(played, label) for label in ("quick", "held", "warned", "late")}
    scene.check(
        "the promise was kept three times and broken once",
        {"quick": "met", "held": "met", "warned": "met", "late": "breached"},
        {label: record.get("status") for label, record in found.items()},
    )
    scene.check(
        "six working hours were worked on the one solved in time", {"worked": 6 * HOUR}, found["quick"].get("spent")
    )
    scene.check(
        "three weeks of waiting for the customer are held, not counted",
        {"held": int(timedelta(days=21).total_seconds()), "worked": 6 * HOUR},
        found["held"].get("spent"),
    )
    scene.check(
        "the late one was due on Friday at closing time",
        {"due_at": "2026-06-05T17:00:00.000000Z", "breached_at": "2026-06-05T17:00:00.000000Z"},
        {name: found["late"].get(name) for name in ("due_at", "breached_at")},
    )
    scene.check(
        "and was broken by nine working hours, the weekend not among them",
        9 * HOUR,
        found["late"].get("breach_seconds"),
    )
    scene.holds("the top of its ladder made the service itself escalate it", escalated)


async def _told(scene: Scene, played: Month) -> None:
    history = await played.rows.history(scene.prefix)
    late = [event["event_type"] for event in history.get(scene.id("late"), [])]
    scene.check("the breach is told once", 1, late.count("SLA_BREACHED"))
    scene.check(
        "its ladder is climbed rung by rung",
        [1, 2, 3],
        [
            event["details"]["rung"]
            for event in history.get(scene.id("late"), [])
            if event["event_type"] == "ESCALATION_TRIGGERED"
        ],
    )
    row = await played.rows.workflow(scene.id("late"))
    scene.check("it has got the ladder's priority", "high", None if row is None else row.fields.get("priority"))
    scene.check(
        "the one solved in its last hour was at risk, and no more",
        ["CREATED", "SLA_AT_RISK", "TRANSITION", "SLA_MET"],
        [event["event_type"] for event in history.get(scene.id("warned"), [])],
    )
    expected = [
        ["late", "SLA_AT_RISK", None],
        ["late", "ESCALATION_TRIGGERED", "team"],
        ["late", "ESCALATION_TRIGGERED", "team-lead"],
        ["warned", "SLA_AT_RISK", None],
    ]
    alerts = await played.alerts(len(expected))
    scene.check(
        "the alerts topic tells whom it may concern, each thing once",
        expected,
        [[alert["workflow_id"].removeprefix(scene.prefix), alert["kind"], alert.get("to")] for alert in alerts],
    )


async def _record(played: Month, label: str) -> dict[str, Any]:
    """Return how the promise of a case ended, as its row says."""
    row = await played.rows.workflow(played.scene.id(label))
    return {} if row is None else dict(orjson.loads(row.body).get("slas", {}).get("resolution", {}))
