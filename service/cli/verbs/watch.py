"""`watch`: events as they are published, read committed."""

from typing import Annotated

import typer

from contracts.events import Event
from service.cli.main import app, run
from service.cli.output import ERR, OUT, say_json
from service.cli.surroundings import settings
from service.cli.verbs.options import AsJson
from service.cli.verbs.reach import client_of, silence_told


@app.command()
def watch(
    *,
    workflow: Annotated[str | None, typer.Option(help="Only events of this workflow.")] = None,
    definition: Annotated[str | None, typer.Option(help="Only of this definition.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Only of this event type.")] = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Start with the oldest event kept.")] = False,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many events.", show_default="never")] = None,
    as_json: AsJson = False,
) -> None:
    """Show events as they are published, until Ctrl-C. Each comes once, in order per workflow."""
    chosen = settings()

    def wanted(event: Event) -> bool:
        return (
            workflow in (None, event.workflow_id)
            and definition in (None, event.definition)
            and event_type in (None, event.event_type)
        )

    async def work() -> None:
        shown = 0
        async with client_of(chosen) as client, silence_told(chosen):
            ERR.print(f"watching {chosen.topics.events}; Ctrl-C ends", markup=False)
            async for event in client.subscribe(from_beginning=from_beginning):
                if wanted(event):
                    _show(event, as_json=as_json)
                    shown += 1
                    if shown == count:
                        return

    run(work())


def _show(event: Event, *, as_json: bool) -> None:
    if as_json:
        say_json(event.model_dump(mode="json", exclude_none=True))
        return
    by = f"  by {event.actor}" if event.actor else ""
    OUT.print(
        f"{event.timestamp:%Y-%m-%d %H:%M:%S}  {event.workflow_id}  {event.version}  {event.event_type}  "
        f"{event.message}{by}",
        markup=False,
    )
