"""`diff`: what changed in a workflow between two moments, and by whose command."""

from typing import Annotated, Any

import orjson
import typer

from domain.moments import Moment, NoSuchMoment, Then, as_of, differences
from service.cli.exits import RefusedError
from service.cli.main import app, run
from service.cli.output import OUT, say_json, say_table
from service.cli.verbs.look import past, say_events
from service.cli.verbs.options import MOMENT, AsJson, WorkflowArgument, read_moment

Document = dict[str, Any]


@app.command()
def diff(
    workflow: WorkflowArgument,
    *,
    earlier: Annotated[str, typer.Option("--from", metavar=MOMENT, help="The earlier moment.")] = "1",
    later: Annotated[
        str | None, typer.Option("--to", metavar=MOMENT, help="The later moment.", show_default="as it stands")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what changed in a workflow between versions or times. Fields, and the events that changed them."""
    first = read_moment(earlier, "--from")
    last = None if later is None else read_moment(later, "--to")
    document = _compared(workflow, run(past(workflow)), first, last)
    if as_json:
        say_json(document)
    else:
        _say(document)


def _compared(workflow_id: str, history: list[Document], first: Moment, last: Moment | None) -> Document:
    before = _then(workflow_id, history, first)
    after = _then(workflow_id, history, history[-1]["version"] if last is None else last)
    if after.events < before.events:
        raise RefusedError(
            f"version {before.workflow.version} comes after version {after.workflow.version}: swap --from and --to"
        )
    return {
        "workflow_id": workflow_id,
        "from": _moment(before),
        "to": _moment(after),
        "changed": differences(before.workflow, after.workflow),
        "events": history[before.events : after.events],
    }


def _then(workflow_id: str, history: list[Document], moment: Moment) -> Then:
    found = as_of(history, moment)
    if isinstance(found, NoSuchMoment):
        raise RefusedError(f"{workflow_id} {found.reason}")
    return found


def _moment(then: Then) -> Document:
    return {"version": then.workflow.version, "sequence": then.workflow.sequence, "since": then.workflow.updated_at}


def _say(document: Document) -> None:
    ends = (f"version {end['version']} of {end['since']}" for end in (document["from"], document["to"]))
    OUT.print(f"{document['workflow_id']}, {' to '.join(ends)}", markup=False)
    if not document["changed"]:
        OUT.print("nothing changed", markup=False)
        return
    say_table(
        ("field", "before", "after"),
        ((".".join(each["path"]), _cell(each, "before"), _cell(each, "after")) for each in document["changed"]),
    )
    OUT.print()
    say_events(document["events"])


def _cell(change: Document, side: str) -> str | None:
    value = change.get(side)
    return value if isinstance(value, str) or side not in change else orjson.dumps(value).decode()
