"""properties: the eight properties of the promise, each tried with commands and checked in rows, history and events."""

from typing import Any

from domain.evolve import fold
from domain.workflow import dump
from service.demo.machine import BOUNDED, DEFINITION, MOVES, STATES, TERMINAL
from service.demo.scene import ACCEPTED, Scene, differing, outcome, tally, together

BOUNDED_STATES = ("open", "closed")
ROOM = 3
RIVALS = 10
TERMINAL_STATE = "TERMINAL_STATE"


async def play(scene: Scene) -> None:
    """Try each property in turn, and hold all that happened against them at the end."""
    await _workflow_uniqueness(scene)
    await _transition_validity(scene)
    await _concurrent_safety(scene)
    await _terminal_state_immutability(scene)
    await _bounded_workflows(scene)
    await _predicate_logic_integration(scene)
    await scene.settled()
    await _state_consistency(scene)
    await _version_monotonicity(scene)


async def _workflow_uniqueness(scene: Scene) -> None:
    first = await scene.create("unique")
    elsewhere = scene.id("tree")
    await scene.create("tree")
    again = [await scene.create("unique"), await scene.create("unique", root_id=elsewhere)]
    scene.check(
        "WorkflowUniqueness: an id is created once, in whichever tree",
        [ACCEPTED, "ALREADY_EXISTS", "ALREADY_EXISTS"],
        [outcome(first), *map(outcome, again)],
    )
    rows = await scene.rows.workflows(scene.id("unique"))
    scene.check(
        "WorkflowUniqueness: one row, registered once",
        [1, 1],
        [len(rows), await scene.rows.registered(scene.id("unique"))],
    )


async def _transition_validity(scene: Scene) -> None:
    """Ask for every target from every state; what is allowed goes last, in a workflow of its own."""

    async def tried(source: str) -> dict[str, str]:
        await scene.bring(source, source)
        outcomes = {
            target: outcome(await scene.move(source, target)) for target in STATES if target not in MOVES[source]
        }
        for target in MOVES[source]:
            await scene.bring(f"{source}-{target}", source)
            outcomes[target] = outcome(await scene.move(f"{source}-{target}", target))
        return outcomes

    found = dict(zip(STATES, await together(map(tried, STATES)), strict=True))
    expected = {source: {target: _expected(source, target) for target in STATES} for source in STATES}
    pairs = len(STATES) ** 2
    scene.check(f"TransitionValidity: each of {pairs} pairs of states is as the definition says", expected, found)
    standing = {source: (await scene.stands(source))[:1] for source in STATES}
    scene.check("TransitionValidity: no refused target moved a row", {state: [state] for state in STATES}, standing)


async def _concurrent_safety(scene: Scene) -> None:
    await scene.bring("rivals", "ACTIVE")
    replies = await together(
        scene.move("rivals", ("PAUSED", "FAILED")[number % 2], expected_version=2) for number in range(RIVALS)
    )
    scene.check(
        f"ConcurrentSafety: of {RIVALS} commands with one expected version one is accepted",
        {"VERSION_CONFLICT": RIVALS - 1, ACCEPTED: 1},
        tally(map(outcome, replies)),
    )
    winner = next((reply.to_state for reply in replies if reply.rejection is None), None)
    scene.check("ConcurrentSafety: the row is the winner's", [winner, 3], await scene.stands("rivals"))


async def _terminal_state_immutability(scene: Scene) -> None:
    for end in sorted(TERMINAL):
        await scene.bring(f"end-{end}", end)
        replies = [await scene.move(f"end-{end}", state) for state in STATES]
        replies.append(await scene.send("recover_workflow", scene.id(f"end-{end}")))
        scene.check(
            f"TerminalStateImmutability: {end} is never left",
            [{TERMINAL_STATE: len(replies)}, [end, 3]],
            [tally(map(outcome, replies)), await scene.stands(f"end-{end}")],
        )


async def _bounded_workflows(scene: Scene) -> None:
    """Create more at once than there is room for, on several partitions."""
    labels = [f"bounded-{number}" for number in range(2 * ROOM)]
    replies = await together(scene.create(label, definition=BOUNDED) for label in labels)
    scene.check(
        f"BoundedWorkflows: {len(labels)} created at once where {ROOM} may be open",
        {"LIMIT_REACHED": ROOM, ACCEPTED: ROOM},
        tally(map(outcome, replies)),
    )
    scene.check(
        "BoundedWorkflows: as the counter says, and the rows", [ROOM, ROOM], list(await scene.rows.open_of(BOUNDED))
    )
    opened = [label for label, reply in zip(labels, replies, strict=True) if reply.rejection is None]
    for label in opened[:1]:
        await scene.move(label, "closed")
    late = [await scene.create(f"late-{number}", definition=BOUNDED) for number in range(2)]
    scene.check(
        "BoundedWorkflows: closing one makes room for one",
        [ACCEPTED, "LIMIT_REACHED"],
        [outcome(each) for each in late],
    )


async def _predicate_logic_integration(scene: Scene) -> None:
    await scene.create("guarded")
    denied = await scene.move("guarded", "ACTIVE", context={"hold": True})
    stood = await scene.stands("guarded")
    allowed = await scene.move("guarded", "ACTIVE", context={"hold": False})
    scene.check(
        "PredicateLogicIntegration: no guarded transition without an allow",
        ["GUARD_DENIED", ["CREATED", 1], ACCEPTED, ["ACTIVE", 2]],
        [outcome(denied), stood, outcome(allowed), await scene.stands("guarded")],
    )


async def _state_consistency(scene: Scene) -> None:
    rows = await scene.rows.workflows(scene.prefix)
    histories = await scene.rows.history(scene.prefix)
    states_of = {DEFINITION: STATES, BOUNDED: BOUNDED_STATES}
    astray = [each.workflow_id for each in rows.values() if each.state not in states_of.get(each.definition, ())]
    scene.check("StateConsistency: every row is in a state of its definition", [], astray)
    folded = {workflow_id: _folded(history) for workflow_id, history in histories.items()}
    astray = sorted(workflow_id for workflow_id, row in rows.items() if folded.get(workflow_id) != row.body)
    scene.check(f"StateConsistency: each of {len(rows)} rows is its history's fold, byte for byte", [], astray)
    told = {workflow_id: seen[-1].event.to_state for workflow_id, seen in scene.events.begins(scene.prefix).items()}
    states = {workflow_id: row.state for workflow_id, row in rows.items()}
    scene.check("StateConsistency: a reader of the topic knows the same states", [], differing(states, told))


async def _version_monotonicity(scene: Scene) -> None:
    histories = await scene.rows.history(scene.prefix)
    seen = scene.events.begins(scene.prefix)
    rows = await scene.rows.workflows(scene.prefix)
    stored = {key: [event["version"] for event in history] for key, history in histories.items()}
    published = {key: [each.event.version for each in events] for key, events in seen.items()}
    expected = {key: list(range(1, row.version + 1)) for key, row in rows.items()}
    for place, versions in (("store", stored), ("topic", published)):
        scene.check(
            f"VersionMonotonicity: versions in the {place} are 1 to n, each once", [], differing(expected, versions)
        )


def _expected(source: str, target: str) -> str:
    if source in TERMINAL:
        return TERMINAL_STATE
    return ACCEPTED if target in MOVES[source] else "INVALID_TRANSITION"


def _folded(history: list[dict[str, Any]]) -> str | None:
    workflow = fold(history)
    return None if workflow is None else dump(workflow).decode()
