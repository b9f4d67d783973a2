"""lifecycle: create, activate, pause, resume, fail, recover, complete; then its end is never left."""

from service.demo.machine import DEFINITION, STATES
from service.demo.scene import Scene, outcome

STEPS = ("ACTIVE", "PAUSED", "ACTIVE", "FAILED", "recover", "COMPLETED")
STATES_PASSED = ["CREATED", "ACTIVE", "PAUSED", "ACTIVE", "FAILED", "ACTIVE", "COMPLETED"]
TRANSITIONS = ["activate", "pause", "resume", "fail", "recover", "complete"]
EVENT_TYPES = ["CREATED", "TRANSITION", "TRANSITION", "TRANSITION", "FAILED", "RECOVERED", "TRANSITION"]
VERSIONS = list(range(1, len(EVENT_TYPES) + 1))
TERMINAL_STATE = "TERMINAL_STATE"


async def play(scene: Scene) -> None:
    """Walk one workflow to its end with all to see, and a second one to CANCELLED."""
    await _walk(scene)
    await _compare(scene)
    await _stay(scene)
    await _cancel(scene)


async def _walk(scene: Scene) -> None:
    sample = scene.id("sample")
    created = await scene.show("create_workflow", sample, definition=DEFINITION, name="blood panel", owner="lab-1")
    walked = [created.to_state]
    versions = [created.version]
    scene.screen.walk(STATES_PASSED[:1])
    for passed, step in enumerate(STEPS, start=2):
        if step == "recover":
            reply = await scene.show("recover_workflow", sample, reason="instrument repaired")
        elif step == "FAILED":
            reply = await scene.show("request_transition", sample, target_state=step, error="centrifuge stopped")
        else:
            reply = await scene.show("request_transition", sample, target_state=step)
        walked.append(reply.to_state)
        versions.append(reply.version)
        scene.screen.walk(STATES_PASSED[:passed])
    scene.check("the replies walk the states in their order", STATES_PASSED, walked)
    scene.check("every accepted change raises the version by one", VERSIONS, versions)


async def _compare(scene: Scene) -> None:
    sample = scene.id("sample")
    history = (await scene.rows.history(sample)).get(sample, [])
    scene.check("the history tells every transition by its name", [None, *TRANSITIONS], _field(history, "transition"))
    scene.check("its events are called as the definition says", EVENT_TYPES, _field(history, "event_type"))
    scene.check("its sequence has no gap", VERSIONS, _field(history, "sequence"))
    seen = scene.events.of(sample)
    scene.check(
        "the topic has the same events, each once and in order",
        _field(history, "event_id"),
        [str(each.event.event_id) for each in seen],
    )
    scene.check(
        "their CloudEvents type has the prefix",
        [f"alims.{event_type}" for event_type in EVENT_TYPES],
        [each.ce_type for each in seen],
    )
    scene.check(
        "the replies announced exactly these events",
        [str(each.event.event_id) for each in seen],
        [str(event_id) for reply in scene.replies for event_id in reply.events],
    )
    row = await scene.row("sample")
    fields = row.fields if row is not None else {}
    shown = {name: fields.get(name) for name in ("state", "previous_state", "version", "retry_count", "last_error")}
    scene.check(
        "the row is where the walk ended, with one recovery counted and the last error kept",
        {
            "state": "COMPLETED",
            "previous_state": "ACTIVE",
            "version": len(EVENT_TYPES),
            "retry_count": 1,
            "last_error": "centrifuge stopped",
        },
        shown,
    )
    scene.check("its metadata is the definition's default", {"type": "LIMS_WORKFLOW"}, fields.get("metadata"))


async def _stay(scene: Scene) -> None:
    before = await scene.stands("sample")
    shown = await scene.show("request_transition", scene.id("sample"), target_state="ACTIVE")
    refused = [outcome(shown)]
    refused += [outcome(await scene.move("sample", state)) for state in STATES]
    refused += [outcome(await scene.send("recover_workflow", scene.id("sample")))]
    scene.check("a completed workflow takes no command to any state", [TERMINAL_STATE] * len(refused), refused)
    scene.check("it stands as it stood", before, await scene.stands("sample"))
    await scene.settled()
    scene.check("and nothing was published", len(EVENT_TYPES), len(scene.events.of(scene.id("sample"))))


async def _cancel(scene: Scene) -> None:
    await scene.bring("second", "FAILED")
    reply = await scene.move("second", "CANCELLED", reason="sample lost")
    scene.check("a failed workflow can be cancelled instead", "CANCELLED", reply.to_state)
    scene.check("and stays so", TERMINAL_STATE, outcome(await scene.send("recover_workflow", scene.id("second"))))


def _field(history: list[dict[str, object]], name: str) -> list[object]:
    return [event.get(name) for event in history]
