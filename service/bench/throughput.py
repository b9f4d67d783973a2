"""How many commands a second become events: spread over many workflows, all to one, and many after another.

A round: commands are written while nobody sees them, become visible all at once, and the clock runs until the relay's
cursor, which moves with the events, is past the last. Then the events are read and counted. The worker is up and warm.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from service.bench.load import Command, Filling, Fleet, filling
from service.bench.place import GUARDED, Ground, Place, place
from service.bench.published import Cursors, Events, cursors, events
from service.bench.scale import SETTLE_SECONDS, Say, Scale
from service.bench.worker import Worker, worker
from service.store.replay import replaying
from service.store.throwaway import throwaway

MEMORY_STEP = 100_000


class Round(NamedTuple):
    """What one round took; `cpu_seconds` is the worker's, None where the system does not tell."""

    commands: int
    seconds: float
    cpu_seconds: float | None
    rss_bytes: int | None

    @property
    def per_second(self) -> float:
        """Commands per second, from visible to their events being readable."""
        return self.commands / self.seconds


@dataclass(frozen=True, slots=True)
class Course:
    """A place with a worker that is up, a filling for its commands, and what watches its events."""

    place: Place
    worker: Worker
    say: Say
    filling: Filling
    cursors: Cursors
    events: Events

    async def round(self, commands: Iterable[Command], what: str) -> Round:
        """Run commands through, and count their events."""
        self.say(f"{what}: writing commands")
        counts = await self.filling.fill(commands)
        total = sum(counts)
        self.say(f"{what}: 0 of {total:,}")
        before = self.worker.usage()
        began = await self.filling.release()
        ended = await self.cursors.until_published(counts, self.worker, what, self.say)
        after = self.worker.usage()
        await self.events.until_read(total, self.worker, f"{what}: counting events", self.say)
        cpu_seconds = (
            None if before.cpu_seconds is None or after.cpu_seconds is None else after.cpu_seconds - before.cpu_seconds
        )
        return Round(total, ended - began, cpu_seconds, after.rss_bytes)


@asynccontextmanager
async def course(where: Place, say: Say) -> AsyncIterator[Course]:
    """Start a worker on a place and all that a round needs."""
    async with worker(where) as running, filling(where) as filled, cursors(where) as seen, events(where) as read:
        yield Course(where, running, say, filled, seen, read)


@dataclass(slots=True)
class Spread:
    """Rounds over many workflows, and PostgreSQL alone on the same rows, in turn."""

    rounds: list[Round] = field(default_factory=list)
    alone_per_second: list[float] = field(default_factory=list)
    rows_per_turn: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """The median round's transitions per second."""
        return median(each.per_second for each in self.rounds)

    @property
    def cpu_us(self) -> float | None:
        """The median round's CPU of the worker, user and system, in microseconds per transition."""
        used = [each.cpu_seconds / each.commands * 1e6 for each in self.rounds if each.cpu_seconds is not None]
        return median(used) if used else None


async def spread(ground: Ground, scale: Scale, say: Say) -> Spread:
    """Measure transitions of many workflows; after each round replay its rows into PostgreSQL alone."""
    found = Spread()
    async with place(ground, "spread") as where, throwaway(where.database_url, f"{_database(where)}-alone") as alone:
        fleet = Fleet(scale.workflows, where.settings.partitions)
        n_parts = where.settings.partitions
        async with course(where, say) as runs, replaying(where.database_url, alone, n_parts=n_parts) as replay:
            await runs.round(fleet.creates(), "spread, creations (not counted)")
            await replay.follow()
            for number in range(1, scale.rounds + 1):
                what = f"spread, round {number} of {scale.rounds}"
                taken = await runs.round(fleet.transitions(scale.transitions), what)
                say(f"{what}: the same rows into PostgreSQL alone")
                replayed = await replay.follow()
                found.rounds.append(taken)
                found.alone_per_second.append(replayed.rows / replayed.seconds)
                found.rows_per_turn.append(replayed.rows / replayed.turns)
                say(f"{what}: {taken.per_second:,.0f}/s; PostgreSQL alone {found.alone_per_second[-1]:,.0f}/s")
    return found


async def hot(ground: Ground, scale: Scale, say: Say) -> list[Round]:
    """Measure transitions of one workflow, on a worker that has others too."""
    async with place(ground, "hot") as where, course(where, say) as runs:
        others, one = Fleet(1000, where.settings.partitions), Fleet(1, where.settings.partitions)
        await runs.round([*others.creates(), *one.creates()], "hot, creations (not counted)")
        rounds = []
        for number in range(1, scale.rounds + 1):
            what = f"one workflow, round {number} of {scale.rounds}"
            rounds.append(await runs.round(one.transitions(scale.hot), what))
            say(f"{what}: {rounds[-1].per_second:,.0f}/s")
        return rounds


@dataclass(slots=True)
class Guarded:
    """Rounds of workflows without guards and of as many with a guard on every transition, in turn."""

    without: list[Round] = field(default_factory=list)
    guarded: list[Round] = field(default_factory=list)

    @property
    def without_per_second(self) -> float:
        """The median round's transitions per second without guards."""
        return median(each.per_second for each in self.without)

    @property
    def per_second(self) -> float:
        """The median round's guarded transitions per second."""
        return median(each.per_second for each in self.guarded)


async def guarded(ground: Ground, scale: Scale, say: Say) -> Guarded:
    """Measure what a CEL guard on every transition costs, on one worker."""
    found = Guarded()
    async with place(ground, "guarded") as where, course(where, say) as runs:
        n_parts = where.settings.partitions
        free, watched = Fleet(scale.workflows, n_parts), Fleet(scale.workflows, n_parts, definition=GUARDED)
        await runs.round([*free.creates(), *watched.creates()], "guarded, creations (not counted)")
        for number in range(1, scale.rounds + 1):
            what = f"guarded, round {number} of {scale.rounds}"
            found.without.append(await runs.round(free.transitions(scale.transitions), f"{what}, without"))
            found.guarded.append(await runs.round(watched.transitions(scale.transitions), what))
            say(f"{what}: {_told(found.guarded[-1])}; without {_told(found.without[-1])}")
    return found


async def memory(ground: Ground, scale: Scale, say: Say) -> dict[int, int | None]:
    """Return the memory of one worker after so many transitions and after so many more."""
    held: dict[int, int | None] = {}
    async with place(ground, "memory") as where, course(where, say) as runs:
        fleet = Fleet(scale.workflows, where.settings.partitions)
        await runs.round(fleet.creates(), "memory, creations (not counted)")
        done = 0
        for goal in scale.memory_at:
            while done < goal:
                step = min(MEMORY_STEP, goal - done)
                what = f"memory, {done:,} to {done + step:,} of {scale.memory_at[-1]:,}"
                await runs.round(fleet.transitions(step), what)
                done += step
            await asyncio.sleep(SETTLE_SECONDS)
            held[goal] = runs.worker.usage().rss_bytes
            say(f"memory: {held[goal]:,} bytes after {goal:,} transitions")
    return held


def _told(taken: Round) -> str:
    cpu = "" if taken.cpu_seconds is None else f" at {taken.cpu_seconds / taken.commands * 1e6:.0f} us of CPU each"
    return f"{taken.per_second:,.0f}/s{cpu}"


def _database(where: Place) -> str:
    return f"turnstile-{where.settings.prefix}"
