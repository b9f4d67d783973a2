"""`why`: what brought a workflow into its state, what was refused since and why, its SLAs, what is allowed now."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

import typer

from domain.definition import Definition
from service.cli.exits import RefusedError
from service.cli.main import app, run
from service.cli.output import OUT, say_json
from service.cli.surroundings import settings
from service.cli.verbs.options import AsJson
from service.cli.verbs.reach import asking
from service.cli.verbs.standing import account_document, account_lines, standing
from service.cli.verbs.wording import named, rejection_lines, reply_lines, verdict_line
from service.store.load import load_definition
from service.store.pool import Connection
from service.store.reads import (
    Found,
    ParkedCommand,
    get_workflow,
    guarded,
    last_change,
    outcomes_of_command,
    parked,
    refusals,
)

Document = dict[str, Any]


@app.command()
def why(
    subject: Annotated[str, typer.Argument(metavar="WORKFLOW|COMMAND_ID", show_default=False)],
    *,
    every: Annotated[bool, typer.Option("--all", help="Every refusal and guard, also before its last change.")] = False,
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help="At most so many refusals, guards and parked commands each.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """Explain a workflow's state, or what became of a command. Exits 1 if nothing is known."""

    async def work() -> Document:
        async with asking(settings()) as connection:
            return await _explain(connection, subject, every=every, limit=limit)

    document = run(work())
    if as_json:
        say_json(document)
        return
    for line in _lines(document):
        OUT.print(line, markup=False)


async def _explain(connection: Connection, subject: str, *, every: bool, limit: int) -> Document:
    found = await get_workflow(connection, subject)
    if found is not None:
        return await _workflow(connection, found, every=every, limit=limit)
    command_id = _uuid(subject)
    if command_id is not None:
        outcomes = await outcomes_of_command(connection, command_id)
        if outcomes:
            ids = dict.fromkeys(outcome.workflow_id for outcome in outcomes)
            rows = [row for each in ids if (row := await get_workflow(connection, each)) is not None]
            now = [await _workflow(connection, row, every=False, limit=limit) for row in rows]
            return {"command_id": subject, "outcomes": [outcome.reply for outcome in outcomes], "workflows": now}
    waiting = await parked(connection, subject, command_id, limit=limit)
    if command_id is not None and any(each.command_id == str(command_id) for each in waiting):
        return {"command_id": subject, "parked": _written(waiting)}
    refused = await refusals(connection, subject, limit=limit)
    if refused or waiting:
        said = [outcome.reply for outcome in refused]
        return {"workflow_id": subject, "state": None, "refusals": said, "parked": _written(waiting)}
    hint = (
        "; if it is a command's id, it was not decided yet, or refused in a way that does not bind it: "
        "`turnstile why WORKFLOW --all` shows that"
        if command_id is not None
        else "; `turnstile list` shows what there is"
    )
    raise RefusedError(f"nothing is known of {subject}{hint}")


async def _workflow(connection: Connection, found: Found, *, every: bool, limit: int) -> Document:
    workflow = found.workflow
    last = await last_change(connection, workflow.workflow_id)
    refused = await refusals(connection, workflow.workflow_id, since=None if every else last, limit=limit)
    definition = await load_definition(connection, workflow.definition, workflow.definition_version)
    waiting = await parked(connection, workflow.workflow_id, limit=limit)
    ways = () if definition is None else definition.outgoing.get(workflow.state, ())
    changes = [] if last is None or "verdict" not in last.event else [last.event]
    if every:
        changes = await guarded(connection, workflow.workflow_id, limit=limit)
    return {
        "workflow_id": workflow.workflow_id,
        "definition": workflow.definition,
        "definition_version": workflow.definition_version,
        "state": workflow.state,
        "version": workflow.version,
        "open": found.is_open,
        "last_change": None if last is None else last.event,
        "guards": [_guarded(event, definition) for event in changes],
        "refusals": [outcome.reply for outcome in refused],
        "parked": _written(waiting),
        "slas": [account_document(each) for each in await standing(connection, settings().decision_clock, found)],
        "allowed": [
            {"transition": way.name, "target_state": way.target, "guard": way.guard.expression if way.guard else None}
            for way in ways
        ],
    }


def _guarded(event: Document, definition: Definition | None) -> Document:
    """Return what let a transition pass; its expression is there if the workflow is on the same definition still."""
    fields = ("sequence", "timestamp", "transition", "from_state", "to_state", "command_id")
    way = None
    if definition is not None and definition.version == event["definition_version"]:
        way = definition.by_name.get((event["from_state"], event["transition"]))
    guard = way.guard.expression if way is not None and way.guard is not None else None
    return {field: event.get(field) for field in fields} | {"guard": guard, "verdict": event["verdict"]}


def _written(waiting: Sequence[ParkedCommand]) -> list[Document]:
    return [named(asdict(each)) for each in waiting]


def _lines(document: Document) -> Iterator[str]:
    if "outcomes" not in document and "refusals" not in document:
        yield from map(_waits, document["parked"])
        return
    for reply in document.get("outcomes", ()):
        yield f"decided at {reply['decided_at']}"
        yield from reply_lines(reply)
        yield ""
    for workflow in document.get("workflows", [] if "outcomes" in document else [document]):
        yield from _standing(workflow)


def _standing(workflow: Document) -> Iterator[str]:
    name = workflow["workflow_id"]
    if workflow["state"] is None:
        yield f"{name} does not exist"
    else:
        on = f"{workflow['definition']} version {workflow['definition_version']}"
        yield f"{name} is {workflow['state']}, version {workflow['version']}, on {on}"
        change = workflow["last_change"] or {}
        yield f"  since {change.get('timestamp')}: {change.get('message')}, by command {change.get('command_id')}"
        for field in ("actor", "reason", "occurred_at"):
            if field in change:
                yield f"  {field}  {change[field]}"
    for each in workflow.get("guards", ()):
        yield f"guarded at {each['timestamp']}  {each['transition']}: {each['from_state']} to {each['to_state']}"
        if each["guard"]:
            yield f"  if       {each['guard']}"
        yield f"  guard    {verdict_line(each['verdict'])}"
    for reply in workflow["refusals"]:
        yield f"refused at {reply['decided_at']}  command {reply['command_id']}"
        yield from rejection_lines(reply["rejection"])
    yield from map(_waits, workflow["parked"])
    for account in workflow.get("slas", ()):
        yield from account_lines(account)
    if workflow["state"] is not None:
        yield "allowed now" if workflow["allowed"] else "nothing is allowed now: no transition leaves this state"
        for way in workflow["allowed"]:
            guard = f"  if {way['guard']}" if way["guard"] else ""
            yield f"  {way['transition']} -> {way['target_state']}{guard}"


def _waits(each: Document) -> str:
    tried = f", tried {each['attempts']} times" if each["attempts"] else ""
    since = f"{each['parked_at']:%Y-%m-%dT%H:%M:%SZ}"
    return f"parked since {since}  command {each['command_id']} of {each['workflow_id']}: {each['detail']}{tried}"


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
