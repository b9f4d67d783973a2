"""What a scenario is given: a client, the store's rows, the topic's events, the worker, and its numbered checks."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

from client import Client
from contracts.replies import Reply
from service.demo.checks import Checklist
from service.demo.events import EventLog
from service.demo.machine import DEFINITION, WAY_OUT, WAYS_TO
from service.demo.rows import Rows, StoredWorkflow
from service.demo.screen import Screen
from service.demo.worker import WorkerProcess
from service.settings import Settings

REPLY_SECONDS_MAX = 20.0
ACCEPTED = "accepted"
ACTOR = "demo"
DIFFERING_SHOWN = 5

T = TypeVar("T")


@dataclass(slots=True)
class Scene:
    """One scenario's stage; `prefix` begins every id it uses, unique to this run."""

    name: str
    prefix: str
    settings: Settings
    client: Client
    rows: Rows
    events: EventLog
    worker: WorkerProcess
    screen: Screen
    checklist: Checklist
    reply_seconds_max: float = REPLY_SECONDS_MAX
    replies: list[Reply] = field(default_factory=list)

    def id(self, label: object) -> str:
        """Return a workflow id of this scenario."""
        return f"{self.prefix}{label}"

    def check(self, what: str, expected: object, actual: object) -> None:
        """Compare what was expected with what was found, and show it."""
        self.checklist.check(what, expected, actual)

    def holds(self, what: str, condition: object) -> None:
        """Check that a condition is true, where values would say no more."""
        self.check(what, expected=True, actual=bool(condition))

    async def send(self, command_type: str, workflow_id: str, *, by: Client | None = None, **fields: Any) -> Reply:  # noqa: ANN401 - whatever the command holds
        """Send a command and return its reply, showing nothing; raises ReplyTimeout."""
        command = {
            "command_type": command_type,
            "command_id": uuid4(),
            "workflow_id": workflow_id,
            "requested_by": ACTOR,
        } | fields
        reply = await (by or self.client).send(command, timeout_seconds=self.reply_seconds_max)
        self.replies.append(reply)
        return reply

    async def show(self, command_type: str, workflow_id: str, **fields: Any) -> Reply:  # noqa: ANN401 - as above
        """Send a command with all to see: what goes out, what comes back, and the events it made."""
        self.screen.sent(command_type, workflow_id, fields)
        clock = asyncio.get_running_loop().time
        began = clock()
        self.events.listener = self.screen.event
        try:
            reply = await self.send(command_type, workflow_id, **fields)
            self.screen.came_back(reply, clock() - began)
            await self.events.arrived(reply.events)
        finally:
            self.events.listener = None
        return reply

    async def create(self, label: object, **fields: Any) -> Reply:  # noqa: ANN401 - as above
        """Create a workflow of alims.workflow, quietly."""
        return await self.send("create_workflow", self.id(label), **({"definition": DEFINITION} | fields))

    async def move(self, label: object, target: str, **fields: Any) -> Reply:  # noqa: ANN401 - as above
        """Ask for a transition, quietly."""
        return await self.send("request_transition", self.id(label), target_state=target, **fields)

    async def bring(self, label: object, state: str) -> list[Reply]:
        """Create a workflow and take it to a state, quietly."""
        replies = [await self.create(label)]
        replies += [await self.move(label, target) for target in WAYS_TO[state]]
        return replies

    async def row(self, label: object) -> StoredWorkflow | None:
        """Return a workflow's row."""
        return await self.rows.workflow(self.id(label))

    async def stands(self, label: object) -> list[Any]:
        """Return a workflow's state and version as its row has them, nothing where there is no row."""
        row = await self.row(label)
        return [] if row is None else [row.state, row.version]

    async def settled(self) -> None:
        """Wait until every event that an accepted reply announced has arrived, and whatever else was committed."""
        await self.events.arrived(event_id for reply in self.replies for event_id in reply.events)
        await self.events.caught_up()

    async def tidy(self) -> None:
        """Close what this scenario left open, so that runs do not pile up under max_open."""
        await close_all(await self.rows.left_open(self.prefix), self.client)


def outcome(reply: Reply) -> str:
    """Return `accepted`, or the rejection's code."""
    return ACCEPTED if reply.rejection is None else str(reply.rejection.code)


def tally(outcomes: Iterable[str]) -> dict[str, int]:
    """Count, by name."""
    counts: dict[str, int] = {}
    for each in sorted(outcomes):
        counts[each] = counts.get(each, 0) + 1
    return counts


def differing(expected: Mapping[str, object], actual: Mapping[str, object]) -> list[str]:
    """Return the first few names under which the two do not hold the same."""
    names = sorted(expected.keys() | actual.keys())
    return [name for name in names if expected.get(name) != actual.get(name)][:DIFFERING_SHOWN]


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run side by side and return the results in order; the first error ends the others and is raised itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as errors:
        raise _first(errors) from None
    return [task.result() for task in tasks]


async def close_all(rows: Sequence[StoredWorkflow], client: Client) -> None:
    """Take open workflows to a terminal state, side by side."""

    async def close(row: StoredWorkflow) -> None:
        for target in WAY_OUT.get((row.definition, row.state), ()):
            await client.send(
                {
                    "command_type": "request_transition",
                    "workflow_id": row.workflow_id,
                    "root_id": row.root_id,
                    "target_state": target,
                    "requested_by": ACTOR,
                    "reason": "the demo closes what it opened",
                },
                timeout_seconds=REPLY_SECONDS_MAX,
            )

    await together(map(close, rows))


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
