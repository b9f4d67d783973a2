"""`get`, `list` and `history`: workflows as the store has them, or as they were."""

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
import typer

from domain.moments import NoSuchMoment, as_of
from domain.workflow import Workflow, dump
from service.cli.exits import RefusedError
from service.cli.main import app, run
from service.cli.output import ERR, OUT, say_fields, say_json, say_table
from service.cli.surroundings import settings
from service.cli.verbs.options import BIGINT_MAX, MOMENT, AsJson, WorkflowArgument, read_moment
from service.cli.verbs.reach import asking
from service.cli.verbs.standing import SlaStatus, sla_line, statuses
from service.store.reads import PAGE, SORTS, Filter, Found, Page, get_workflow, history, list_workflows


def unknown(workflow_id: str) -> RefusedError:
    """Return what is said of an id that no workflow has."""
    return RefusedError(f"no workflow {workflow_id}; `turnstile list` shows what there is")


async def past(workflow_id: str) -> list[dict[str, Any]]:
    """Read a workflow's whole history."""
    async with asking(settings()) as connection:
        bodies = await history(connection, workflow_id, limit=None)
    if not bodies:
        raise unknown(workflow_id)
    return [orjson.loads(body) for body in bodies]


@app.command()
def get(
    workflow: WorkflowArgument,
    *,
    at: Annotated[
        str | None,
        typer.Option(metavar=MOMENT, help="As it was: at a version, or a time of decision.", show_default="now"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a workflow as it stands, or as it was. Exits 1 if there is none."""
    fields, body = _as_it_stands(workflow) if at is None else _as_it_was(workflow, at)
    if as_json:
        say_json(orjson.loads(body))
        return
    known = {name: value for name, value in fields.items() if value is not None}
    known |= {f"sla {name}": sla_line(record) for name, record in (known.pop("slas", None) or {}).items()}
    say_fields(
        {name: orjson.dumps(value).decode() if isinstance(value, dict) else value for name, value in known.items()}
    )


def _as_it_stands(workflow_id: str) -> tuple[dict[str, Any], bytes]:
    async def work() -> Found | None:
        async with asking(settings()) as connection:
            return await get_workflow(connection, workflow_id)

    found = run(work())
    if found is None:
        raise unknown(workflow_id)
    return found.workflow._asdict() | {"partition": found.part, "open": found.is_open}, found.body


def _as_it_was(workflow_id: str, at: str) -> tuple[dict[str, Any], bytes]:
    moment = read_moment(at, "--at")
    then = as_of(run(past(workflow_id)), moment)
    if isinstance(then, NoSuchMoment):
        raise RefusedError(f"{workflow_id} {then.reason}")
    return then.workflow._asdict() | {"open": then.workflow.completed_at is None}, dump(then.workflow)


@app.command("list")
def list_(
    *,
    definition: Annotated[str | None, typer.Option(help="Only workflows of this definition.")] = None,
    state: Annotated[str | None, typer.Option(help="Only those in this state.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    service_area: Annotated[str | None, typer.Option(help="Only those of this service area.")] = None,
    is_open: Annotated[
        bool | None, typer.Option("--open/--closed", help="Only those that are not, or are, in a terminal state.")
    ] = None,
    sla: Annotated[SlaStatus | None, typer.Option(help="Only those with an SLA of this status.")] = None,
    sort: Annotated[
        str, typer.Option(help=f"Order by {', '.join(SORTS)}; with - before it, the greatest first.")
    ] = "-created_at",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many to show.")] = 50,
    offset: Annotated[int, typer.Option(min=0, max=BIGINT_MAX, help="How many to pass over.")] = 0,
    as_json: AsJson = False,
) -> None:
    """List workflows. How many match in all is said on stderr."""
    column = sort.removeprefix("-")
    if column not in SORTS:
        raise typer.BadParameter(f"{column} is not one of {', '.join(SORTS)}", param_hint="--sort")
    wanted = Filter(definition, state, tenant, is_open, service_area, sla)
    page = Page(column, sort.startswith("-"), limit, offset)  # type: ignore[arg-type] # looked at above

    async def work() -> tuple[list[Workflow], int]:
        async with asking(settings()) as connection:
            listed = await list_workflows(connection, wanted, page)
        if as_json:
            for row in listed.rows:
                say_json(orjson.loads(row.body))
        return [row.workflow for row in listed.rows], listed.total

    workflows, total = run(work())
    if not as_json and workflows:
        _say_list(workflows)
    ERR.print(f"{len(workflows)} of {total} workflows", markup=False)


def _say_list(workflows: Sequence[Workflow]) -> None:
    columns = ["workflow", "definition", "state", "version", "tenant", "created", "updated"]
    rows: list[list[Any]] = [
        [
            each.workflow_id,
            f"{each.definition} {each.definition_version}",
            each.state,
            each.version,
            each.tenant,
            each.created_at[:19],
            each.updated_at[:19],
        ]
        for each in workflows
    ]
    if any(each.slas for each in workflows):
        columns.append("slas")
        for row, each in zip(rows, workflows, strict=True):
            row.append(statuses(each.slas))
    say_table(columns, rows)


@app.command("history")
def history_(
    workflow: WorkflowArgument,
    *,
    after: Annotated[int, typer.Option(min=0, help="Only events above this sequence.")] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, max=BIGINT_MAX, help="At most so many events.", show_default="all")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a workflow's events by sequence. With --json they are as they were published."""

    async def work() -> None:
        seen, last = 0, after
        async with asking(settings()) as connection:
            if await get_workflow(connection, workflow) is None:
                raise unknown(workflow)
            while limit is None or seen < limit:
                wanted = PAGE if limit is None else min(PAGE, limit - seen)
                bodies = await history(connection, workflow, after=last, limit=wanted)
                _show(bodies, as_json=as_json)
                if len(bodies) < wanted:
                    return
                seen += len(bodies)
                last = orjson.loads(bodies[-1])["sequence"]

    run(work())


def _show(bodies: list[bytes], *, as_json: bool) -> None:
    if as_json:
        for body in bodies:
            OUT.file.write(body.decode() + "\n")
        return
    say_events([orjson.loads(body) for body in bodies])


def say_events(events: Sequence[dict[str, Any]]) -> None:
    """Print events as a table, if there are any."""
    if events:
        columns = ("seq", "version", "at", "event", "message", "by", "reason")
        fields = ("sequence", "version", "timestamp", "event_type", "message", "actor", "reason")
        say_table(columns, ([event.get(field) for field in fields] for event in events))
