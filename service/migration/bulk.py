"""A run over a store: foreseen workflow by workflow, or carried out in batches through the topics, each totalled."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

from contracts.rejections import Code
from domain.rejections import Refusal
from domain.workflow import Workflow
from service.event_logs.drive import DriveResult, Pace, Refused, Wire, drive_over
from service.event_logs.drive import Progress as Driven
from service.migration.run import Promising, Run
from service.store.migrating import Standing

BATCH_MAX = 1_000
TRIES_MAX = 10
SHOWN_MAX = 20
TIMERS = ("kept", "moved", "set", "gone")
"""What may become of an SLA's timer."""


class Progress(NamedTuple):
    """How many workflows have their outcome; `waiting` is a line for people while nobody replies."""

    settled: int
    waiting: str | None = None


class Source(Protocol):
    """The workflows that a run is about."""

    def pages(self, limit: int) -> AsyncIterator[list[Standing]]:
        """Yield them, up to `limit` at a time."""

    async def these(self, workflow_ids: Sequence[str]) -> list[Standing]:
        """Return some of them as they stand now."""

    async def room(self) -> int | None:
        """Return how many more may be open, None without a limit."""


Report = Callable[[Progress], None]


@dataclass(slots=True)
class Foreseen:
    """What a run would do: workflows by their state and where they would go, refusals by state and code, timers.

    `timers` counts what would become of what time does next to an SLA: kept, moved, set or gone.
    """

    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: Counter[tuple[str, Code]] = field(default_factory=Counter)
    timers: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, Refusal]] = field(default_factory=list)

    @property
    def workflows(self) -> int:
        """Count them all."""
        return self.moves.total() + self.refused.total()


@dataclass(slots=True)
class Totals:
    """What a run did: workflows = accepted + the sum of `refused` + overtaken + unanswered.

    `overtaken` counts the workflows that somebody else moved or closed first, `conflicts` the commands that met a
    change since their workflow was read, and were sent anew; `duplicates` those whose outcome an earlier run had
    brought about.
    """

    workflows: int = 0
    accepted: int = 0
    refused: Counter[Code] = field(default_factory=Counter)
    overtaken: int = 0
    conflicts: int = 0
    duplicates: int = 0
    unanswered: int = 0
    examples: list[Refused] = field(default_factory=list)

    @property
    def settled(self) -> int:
        """Count those that have their outcome."""
        return self.accepted + self.refused.total() + self.overtaken

    def add(self, result: DriveResult, asked_again: Callable[[Refused], bool]) -> list[Refused]:
        """Take a batch's replies; returns the refusals that are asked again, and so are not counted."""
        again = [] if result.unanswered else [each for each in result.rejections if asked_again(each)]
        self.accepted += result.accepted
        self.duplicates += result.duplicates - sum(each.duplicate for each in again)
        self.unanswered += result.unanswered
        self.refused.update(result.rejected)
        self.refused.subtract(each.code for each in again)
        self.refused = +self.refused
        self.conflicts += sum(each.code is Code.VERSION_CONFLICT for each in again)
        shown = [each for each in result.rejections if each not in again]
        self.examples.extend(shown[: SHOWN_MAX - len(self.examples)])
        return again


async def foresee(run: Run, source: Source, promising: Promising, *, report: Report = lambda _: None) -> Foreseen:
    """Decide for every workflow of a run what the service would say now; nothing is sent."""
    found = Foreseen()
    left = await source.room()
    async for page in source.pages(BATCH_MAX):
        for standing in page:
            decision = run.foreseen(standing, promising, room=left)
            state = standing.workflow.state
            if isinstance(decision, Refusal):
                found.refused[state, decision.code] += 1
                if len(found.examples) < SHOWN_MAX:
                    found.examples.append((standing.workflow.workflow_id, decision))
                continue
            found.moves[state, decision.workflow.state] += 1
            found.timers.update(_timers(standing.workflow, decision.workflow))
            left = None if left is None else left - decision.open_delta
        report(Progress(found.workflows))
    return found


def _timers(before: Workflow, after: Workflow) -> Iterator[str]:
    """Say of each SLA that waits for time what becomes of its timer."""
    was, now = before.slas or {}, after.slas or {}
    for name in was.keys() | now.keys():
        old, new = (each.get(name, {}).get("next_at") for each in (was, now))
        if old is not None or new is not None:
            yield "set" if old is None else "gone" if new is None else "kept" if old == new else "moved"


async def carry_out(
    run: Run,
    source: Source,
    wire: Wire,
    *,
    batch: int,
    pace: Pace,
    report: Report = lambda _: None,
) -> Totals:
    """Send a run's commands, batch by batch, each after the replies to the one before; a silence ends it.

    What was changed between reading and deciding is read and sent again, if the run is still about it. An undo is not:
    what was changed since the migration stays as it is. What an earlier run was refused is asked once more.
    """
    totals = Totals()

    def settled(driven: Driven) -> None:
        report(Progress(totals.settled + driven.replied, driven.waiting))

    async for page in source.pages(batch):
        totals.workflows += len(page)
        waiting, asked, tries_left = page, run, 1 if run.undo else TRIES_MAX
        while waiting:
            tries_left -= 1
            commands = [asked.command(each) for each in waiting]
            result = await drive_over(wire, commands, report=settled, total=len(commands), pace=pace)
            again = totals.add(result, partial(_asked_again, run=asked, tries_left=tries_left))
            if result.unanswered:
                return totals
            changed = [each.workflow_id for each in again if each.code is Code.VERSION_CONFLICT]
            refused = {each.workflow_id for each in again}.difference(changed)
            fresh = [each for each in await source.these(changed) if run.is_about(each.workflow)] if changed else []
            totals.overtaken += len(changed) - len(fresh)
            waiting = [*(each for each in waiting if each.workflow.workflow_id in refused), *fresh]
            asked = run.asked_anew() if refused else asked
    return totals


def _asked_again(refused: Refused, *, run: Run, tries_left: int) -> bool:
    """Whether a refusal says nothing of now: the workflow has changed, or an earlier run was refused."""
    if refused.code is Code.VERSION_CONFLICT:
        return tries_left > 0
    return refused.duplicate and run.anew is None
