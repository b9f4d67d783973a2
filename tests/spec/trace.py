"""Brings what workers recorded into one order of atomic events, and says so where there is none.

The order keeps real time (what ended before another began comes first), the store's order (epoch, then turn) and
Kafka's (the newest publisher alone; rows by seq). Steps whose end nobody heard of took place if what came later
cannot be explained without them.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.spec.published import published
from tests.spec.steps import Event, read
from tests.spec.stored import stored


@dataclass(frozen=True, slots=True)
class Order:
    """A run's events in one order, or why there is none."""

    events: Sequence[Event]
    findings: Sequence[str] = ()


def linearize(paths: Iterable[Path], *, calls_max: int | None = None) -> Order:
    """Return one order of a run's events; with `calls_max` of its beginning, as if it had been stopped then."""
    calls, crashes = read(paths, calls_max=calls_max)
    events: list[Event] = []
    edges: list[tuple[Event, Event]] = []
    findings: list[str] = []
    for part in sorted({call.part for call in calls}):
        its = [call for call in calls if call.part == part]
        for account in (stored(part, its), published(part, its)):
            events += account.events
            edges += account.edges
            findings += account.findings
    for crash in crashes:
        for event in events:
            if event.worker == crash.worker:
                edges.append((event, crash) if event.begin < crash.begin else (crash, event))
    return Order((), findings) if findings else _sorted([*events, *crashes], edges)


def _sorted(events: Sequence[Event], edges: Iterable[tuple[Event, Event]]) -> Order:
    """Return an order that keeps the edges and real time, the earlier begun first where both may be."""
    after: dict[Event, list[Event]] = defaultdict(list)
    before: dict[Event, set[Event]] = {event: set() for event in events}
    for first, second in edges:
        if first not in before[second]:
            before[second].add(first)
            after[first].append(second)
    rank = {event: number for number, event in enumerate(events)}
    ready = [(event.begin, rank[event]) for event in events if not before[event]]
    ending = [(event.end, rank[event]) for event in events]
    heapq.heapify(ready)
    heapq.heapify(ending)
    placed: set[int] = set()
    ordered: list[Event] = []
    while len(ordered) < len(events):
        while ending[0][1] in placed:
            heapq.heappop(ending)
        ends, due = ending[0]
        if not ready or ready[0][0] > ends:
            waits = next((str(event) for event in before[events[due]] if rank[event] not in placed), "nothing")
            return Order((), [f"no order: {events[due]} had ended, and comes after what had not begun: {waits}"])
        _, number = heapq.heappop(ready)
        placed.add(number)
        ordered.append(events[number])
        for event in after[events[number]]:
            before[event].discard(events[number])
            if not before[event]:
                heapq.heappush(ready, (event.begin, rank[event]))
    return Order(ordered)
