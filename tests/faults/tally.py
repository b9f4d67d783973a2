"""The running total of all rounds, kept in a file that is always whole, and the table it comes to."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import orjson

Row = Mapping[str, Any]
LIMITS_SECONDS = {"kill": (15.0, 15.0), "stop": (3.0, 7.0)}
"""Within what decisions should resume: at the median, and at worst."""


@dataclass(slots=True)
class Tally:
    """What the rounds so far add up to; `resumed` are seconds without a decision, by what was done to a worker."""

    next_seed: int = 1
    rounds: int = 0
    kills_and_pauses: int = 0
    strikes: Counter[str] = field(default_factory=Counter)
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    resumed: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    latencies: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    missing: dict[str, str] = field(default_factory=dict)
    violations: int = 0

    @property
    def commands(self) -> int:
        """Commands of all rounds, in either mode."""
        return sum(counts["commands"] for counts in self.counts.values())

    def heard(self, what: str, latencies: Sequence[float]) -> None:
        """Add the median and the 99th hundredth of one round's latencies, given in rising order."""
        if latencies:
            number = len(latencies)
            self.latencies[what].append((latencies[number // 2], latencies[number * 99 // 100]))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the total where there is one."""
        if not path.exists():
            return cls()
        kept = orjson.loads(path.read_bytes())
        tally = cls(**kept)
        tally.strikes = Counter(tally.strikes)
        tally.counts = defaultdict(Counter, {mode: Counter(counts) for mode, counts in tally.counts.items()})
        tally.resumed = defaultdict(list, tally.resumed)
        tally.latencies = defaultdict(list, tally.latencies)
        return tally

    def write(self, path: Path) -> None:
        """Write the total beside its place, then put it there."""
        new = path.with_suffix(".new")
        kept = {each.name: getattr(self, each.name) for each in fields(self)}
        new.write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2))
        new.replace(path)

    def table(self) -> str:
        """Return the total as a table for people."""
        lines = [f"{'fault':44} strikes"]
        lines += [f"{name:44} {number:7}" for name, number in sorted(self.strikes.items())]
        lines += [f"{name:44} not run: {why}" for name, why in sorted(self.missing.items())]
        for mode, counts in sorted(self.counts.items()):
            said = ", ".join(f"{name} {counts[name]}" for name in SHOWN if name in counts)
            lines.append(f"{mode}: {said}; repeats {counts['repeats']}")
        lines += [_resumed(what, seconds) for what, seconds in sorted(self.resumed.items()) if seconds]
        lines.append(f"{'from sending to seeing the reply, median of the rounds':56} p50 ms  p99 ms")
        lines += [
            f"{what:56} {_median(each, 0):6.0f}  {_median(each, 1):6.0f}" for what, each in self.latencies.items()
        ]
        lines.append(
            f"{self.rounds} rounds, {self.commands} commands, {self.kills_and_pauses} kills and pauses, "
            f"{self.violations} violations"
        )
        return "\n".join(lines)


PROMISED = ("SLAs", "met", "breaches", "rungs")
"""What became of the promises of a round."""
SHOWN = (
    "commands",
    "accepted",
    "refused",
    "duplicates",
    "rows of kind forward",
    "dead letters",
    "answered after later ones",
    "decided again",
    *PROMISED,
)


def unseen(counts: Mapping[str, int]) -> list[str]:
    """Return what did not happen to any promise of a round, which then shows nothing about it."""
    return [name for name in PROMISED if not counts.get(name)]


def gaps(journal: Iterable[Row], strikes: Iterable[float], *, reach_seconds: float) -> list[float]:
    """Return for each strike the longest time that a partition went without a decision around it.

    Only pauses that begin before `reach_seconds` after the strike count; the load must be steady.
    """
    decided: dict[int, list[float]] = defaultdict(list)
    for row in journal:
        decided[row["part"]].append(row["decided_at"])
    return [max(_longest(sorted(times), at, at + reach_seconds) for times in decided.values()) for at in strikes]


def _longest(times: list[float], start: float, end: float) -> float:
    first = max(bisect_left(times, start) - 1, 0)
    last = bisect_left(times, end)
    return max((b - a for a, b in zip(times[first:last], times[first + 1 : last + 1], strict=False)), default=0.0)


def _median(figures: Sequence[tuple[float, float]], column: int) -> float:
    return 1000 * sorted(figure[column] for figure in figures)[len(figures) // 2]


def _resumed(what: str, seconds: list[float]) -> str:
    ordered = sorted(seconds)
    middle, worst = ordered[len(ordered) // 2], ordered[-1]
    p50_max, worst_max = LIMITS_SECONDS[what]
    holds = middle < p50_max and worst < worst_max
    mark = "" if holds else "  OVER THE LIMIT"
    return f"decisions resume after a {what}: p50 {middle:.1f} s, worst {worst:.1f} s of {len(ordered)}{mark}"
