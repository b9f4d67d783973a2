"""predicate: guards allow and deny; a denial names its clause and the values it saw, and opens nothing."""

from typing import Any

from contracts.replies import Reply
from service.demo.machine import DEFINITION, MOVES
from service.demo.scene import Scene, outcome, tally

DENIED = "GUARD_DENIED"
HOLD_CLAUSE = "command.context.hold == false"
QC_CLAUSE = "command.context.qc_passed == true"
ON_HOLD = {"hold": True}


async def play(scene: Scene) -> None:
    """Show one workflow that meets its guards; then try every transition there is on hold."""
    await _hold(scene)
    await _quality(scene)
    await _unjudged(scene)
    await _every_transition(scene)


async def _hold(scene: Scene) -> None:
    sample = scene.id("sample")
    await scene.show("create_workflow", sample, definition=DEFINITION)
    denied = await scene.show("request_transition", sample, target_state="ACTIVE", context=ON_HOLD)
    scene.check("on hold, the guard denies", [DENIED, 400], _refused(denied))
    scene.holds("the denial names the clause", HOLD_CLAUSE in _why(denied).get("clause", ""))
    scene.check("and the values it saw", {"command.context.hold": True}, _why(denied).get("values"))
    scene.check("and what could be taken now", ["activate"], _allowed(denied))
    scene.check("nothing was opened", ["CREATED", 1], await scene.stands("sample"))
    again = await scene.client.send(
        {
            "command_type": "request_transition",
            "command_id": denied.command_id,
            "workflow_id": sample,
            "requested_by": "demo",
            "target_state": "ACTIVE",
            "context": ON_HOLD,
        },
        timeout_seconds=scene.reply_seconds_max,
    )
    scene.check(
        "the same command again is answered, not judged again", [DENIED, True], [outcome(again), again.duplicate]
    )
    allowed = await scene.show("request_transition", sample, target_state="ACTIVE", context={"hold": False})
    scene.check(
        "without the hold the same transition opens", ["accepted", "ACTIVE"], [outcome(allowed), allowed.to_state]
    )


async def _quality(scene: Scene) -> None:
    sample = scene.id("sample")
    failed = await scene.show("request_transition", sample, target_state="COMPLETED", context={"qc_passed": False})
    scene.check("completing needs quality control passed", [DENIED, 400], _refused(failed))
    scene.check(
        "of two clauses the denial names the one that failed",
        [True, False],
        [clause in _why(failed).get("clause", "") for clause in (QC_CLAUSE, HOLD_CLAUSE)],
    )
    scene.check("with its value", {"command.context.qc_passed": False}, _why(failed).get("values"))
    passed = await scene.show("request_transition", sample, target_state="COMPLETED", context={"qc_passed": True})
    scene.check("quality control passed, it completes", "COMPLETED", passed.to_state)


async def _unjudged(scene: Scene) -> None:
    await scene.bring("odd", "ACTIVE")
    odd: tuple[Any, ...] = ("no", 0, None, [], {"until": "tomorrow"})
    replies = [await scene.move("odd", "PAUSED", context={"hold": value}) for value in odd]
    scene.check("a hold that is no boolean never opens", {DENIED: len(odd)}, tally(map(outcome, replies)))
    scene.check("and the workflow stands where it stood", ["ACTIVE", 2], await scene.stands("odd"))


async def _every_transition(scene: Scene) -> None:
    """Hold each transition back in its own workflow, then let it go."""
    edges = [(source, target) for source, targets in MOVES.items() for target in targets]
    denied, kept, opened = [], [], []
    for source, target in edges:
        label = f"{source}-{target}"
        standing = (await scene.bring(label, source))[-1]
        refused = await scene.move(label, target, context=ON_HOLD)
        denied.append(outcome(refused))
        kept.append(await scene.stands(label) == [source, standing.version])
        opened.append((await scene.move(label, target)).to_state)
    scene.check(f"each of the {len(edges)} transitions is held back by its guard", [DENIED] * len(edges), denied)
    scene.check("no denial moved a row", [True] * len(edges), kept)
    scene.check("and each opens once it may", [target for _, target in edges], opened)
    await scene.settled()
    refused_ids = {reply.command_id for reply in scene.replies if reply.rejection is not None}
    published = {seen.event.command_id for each in scene.events.begins(scene.prefix).values() for seen in each}
    scene.check("no denied command has an event", [], sorted(map(str, refused_ids & published)))


def _refused(reply: Reply) -> list[object]:
    return [outcome(reply), reply.rejection.status if reply.rejection is not None else None]


def _why(reply: Reply) -> dict[str, Any]:
    return (reply.rejection.why if reply.rejection is not None else None) or {}


def _allowed(reply: Reply) -> list[str]:
    allowed = reply.rejection.allowed if reply.rejection is not None else None
    return [each.transition for each in allowed or ()]
