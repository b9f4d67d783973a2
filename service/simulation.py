"""A month of workflows in logical time: random arrivals and stays from a seed, sent as commands, ticks between them.

A workflow's next step is drawn from what its definition allows in the state that the last reply told, so that what a
ladder did meanwhile is seen.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush
from random import Random
from statistics import median
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from client.client import Client
from contracts.replies import Reply
from domain.definition import Definition, Transition
from domain.instants import written
from service.logical_time import Due, LogicalTime
from service.store.pool import Connection, faults_of

STEPS_MAX = 50
GIVEN = {"reason": "simulated", "error": "simulated"}
REPLY_SECONDS_MAX = 30.0
REACH_SECONDS_MAX = 60.0

_PROMISES = """
select s.name, s.status, s.is_open, (s.body::jsonb ->> 'breach_seconds')::float8 as breach_seconds
  from sla s where starts_with(s.workflow_id, $1)
"""
_ALERTS = "select event from journal where kind = 'alert' and starts_with(workflow_id, $1)"


class Plan(NamedTuple):
    """What is simulated: `prefix` begins the ids, `stay` is the mean time in a state, `step` is between ticks."""

    definition: Definition
    prefix: str
    workflows: int
    start: datetime
    days: float
    seed: int
    stay: timedelta = timedelta(hours=4)
    step: timedelta = timedelta(hours=1)

    @property
    def steps(self) -> int:
        """Return how many ticks there are."""
        return max(1, round(timedelta(days=self.days) / self.step))


class Promised(NamedTuple):
    """What became of an SLA: runs met, breached and open, breach amounts in seconds, alerts sent."""

    sla: str
    met: int
    breached: int
    open: int
    median_seconds: float | None
    worst_seconds: float | None
    alerts: int


class Simulated(NamedTuple):
    """What was sent and refused, and what is still due that nobody takes."""

    commands: int
    refused: int
    due: int


async def simulate(plan: Plan, client: Client, time: LogicalTime, due: Due, report: Callable[[int], None]) -> Simulated:
    """Let the workflows of a plan arrive and live; `report` hears how many steps of time have passed."""
    walk = _Walk(plan, client)
    for step in range(1, plan.steps + 1):
        until = plan.start + step * plan.step
        await walk.live(until)
        left = await time.reach(until, due, seconds_max=REACH_SECONDS_MAX)
        if left:
            return Simulated(walk.sent, walk.refused, left)
        report(step)
    return Simulated(walk.sent, walk.refused, 0)


class _Walk:
    """The workflows of a plan, each with when it takes its next step."""

    def __init__(self, plan: Plan, client: Client) -> None:
        self._plan = plan
        self._client = client
        self._chance = Random(plan.seed)  # noqa: S311 - a simulation that can be repeated
        arriving = timedelta(days=plan.days)
        self._next = [
            (plan.start + self._chance.random() * arriving, number, "", 0) for number in range(plan.workflows)
        ]
        heapify(self._next)
        self.sent = 0
        self.refused = 0

    async def live(self, until: datetime) -> None:
        """Take every step that happens up to an instant, those of one round side by side."""
        while self._next and self._next[0][0] <= until:
            round_: list[tuple[datetime, int, int, dict[str, Any]]] = []
            while self._next and self._next[0][0] <= until:
                at, number, state, steps = heappop(self._next)
                command = self._command(number, state, at)
                if command is not None:
                    round_.append((at, number, steps, command))
            replies = await asyncio.gather(
                *(self._client.send(command, timeout_seconds=REPLY_SECONDS_MAX) for *_, command in round_)
            )
            for (at, number, steps, _), reply in zip(round_, replies, strict=True):
                self._heard(at, number, steps, reply)

    def _heard(self, at: datetime, number: int, steps: int, reply: Reply) -> None:
        self.sent += 1
        self.refused += reply.rejection is not None
        state = reply.state or ""
        if state in self._plan.definition.states and state not in self._plan.definition.terminal and steps < STEPS_MAX:
            stay = self._plan.stay * self._chance.expovariate(1)
            heappush(self._next, (at + stay, number, state, steps + 1))

    def _command(self, number: int, state: str, at: datetime) -> dict[str, Any] | None:
        command = {
            "command_id": UUID(int=self._chance.getrandbits(128), version=4),
            "workflow_id": f"{self._plan.prefix}{number}",
            "occurred_at": written(at),
            "requested_by": "simulation",
        }
        if not state:
            return command | {
                "command_type": "create_workflow",
                "definition": self._plan.definition.name,
                "definition_version": self._plan.definition.version,
            }
        ways = _ways(self._plan.definition.outgoing.get(state, ()))
        if not ways:
            return None
        way = self._chance.choice(ways)
        return command | {"command_type": "request_transition", "transition": way.name, **GIVEN}


def _ways(transitions: Sequence[Transition]) -> list[Transition]:
    """Return the transitions that a simulation can ask for: those that need no more than it can give."""
    return [each for each in transitions if each.name != "recover" and set(each.required) <= set(GIVEN)]


async def promised(connection: Connection, prefix: str) -> list[Promised]:
    """Return what became of each SLA of the workflows whose ids begin so."""
    with faults_of():
        rows = await connection.fetch(_PROMISES, prefix)
        alerts = [orjson.loads(row["event"])["sla"] for row in await connection.fetch(_ALERTS, prefix)]
    found = []
    for name in sorted({row["name"] for row in rows}):
        own = [row for row in rows if row["name"] == name]
        amounts = [row["breach_seconds"] for row in own if row["breach_seconds"] is not None]
        found.append(
            Promised(
                name,
                met=sum(row["status"] == "met" for row in own),
                breached=sum(row["status"] == "breached" for row in own),
                open=sum(row["status"] not in {"met", "breached"} for row in own),
                median_seconds=median(amounts) if amounts else None,
                worst_seconds=max(amounts, default=None),
                alerts=alerts.count(name),
            )
        )
    return found


async def reached(connection: Connection) -> datetime | None:
    """Return how late it is by what was decided, None where no tick was kept."""
    with faults_of():
        found: datetime | None = await connection.fetchval("select max(tick_time) from partition")
    return found
