"""What a recorded run is made of: the calls that workers made, and the atomic events that they come down to."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import orjson


@dataclass(eq=False, slots=True)
class Event:
    """One atomic step: what it says, and the nanoseconds between which it took place."""

    step: str
    worker: str
    part: int
    begin: int
    end: float
    said: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        said = "".join(f", {name} {value}" for name, value in self.said.items())
        return f"{self.step} by worker {self.worker} on partition {self.part}{said}"


@dataclass(eq=False, slots=True)
class Call:
    """A step as its worker saw it; one whose end nobody heard of may take place long after it was given up."""

    step: str
    worker: str
    part: int
    number: int
    begin: int
    said: dict[str, Any]
    end: float = inf
    outcome: str = "unknown"

    def event(self, step: str, **said: int) -> Event:
        """Return an atomic event of this call."""
        return Event(step, self.worker, self.part, self.begin, self.end, said)


@dataclass(slots=True)
class Account:
    """What came of one side of a partition: its events, which of two comes first, and what nothing explains."""

    events: list[Event] = field(default_factory=list)
    edges: list[tuple[Event, Event]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def read(paths: Iterable[Path], *, calls_max: int | None = None) -> tuple[list[Call], list[Event]]:
    """Return a run's calls and crashes in the order they began; with `calls_max` as if it had been stopped then."""
    lines = [orjson.loads(line) for path in paths for line in path.read_bytes().splitlines()]
    calls: list[Call] = []
    crashes: list[Event] = []
    begun: dict[tuple[str, int], Call] = {}
    for line in sorted(lines, key=lambda each: int(each["at"])):
        at, worker = line.pop("at"), line.pop("worker")
        if line.get("step") == "crash":
            crashes.append(Event("crash", worker, 0, at, inf))
        elif "step" in line:
            if len(calls) == calls_max:
                break
            call = Call(line.pop("step"), worker, line.pop("part"), line.pop("call"), at, line)
            begun[worker, call.number] = call
            calls.append(call)
        else:
            call = begun.pop((worker, line.pop("call")))
            call.outcome = line.pop("outcome")
            call.end = inf if call.outcome == "unknown" else at
            call.said |= line
    return calls, crashes
