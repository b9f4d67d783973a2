"""Many seeds, side by side: running totals, resumable, and the first seed that breaks a promise."""

import gc
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import starmap
from multiprocessing import get_context
from pathlib import Path

from tests.simulation.mutants import MUTANTS
from tests.simulation.safety import Violation
from tests.simulation.world import PRODUCT, simulate

CHUNK_SEEDS = 50
SEEDS_TO_MEET_ALL = 1000

# Everything a world can do to the protocol; what never struck was not tested.
FAULTS = (
    "broker: answer lost", "broker: late", "broker: refused", "broker: request lost", "broker: slow",
    "commands forwarded", "commands in transactions", "commands off their partition", "commands refused", "crashes",
    "database: answer lost", "database: late", "database: refused", "database: request lost", "database: slow",
    "database: slow apply", "dead letters", "fenced applies", "fenced producers", "guards: late",
    "guards: unavailable", "holes between offsets", "ids taken", "locked sessions", "members evicted", "no room",
    "pauses", "rebalances", "rebalances forced", "repeated commands", "sessions expired", "stale claims", "stops",
    "transactions aborted by a successor", "transactions timed out", "unknown outcomes", "unreadable records",
)  # fmt: skip


@dataclass(slots=True)
class Totals:
    """How far a run got: the next seed, how many were run, what struck how often, and what broke."""

    next_seed: int = 0
    seeds: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    broken: dict[int, list[Violation]] = field(default_factory=dict)

    @property
    def never_struck(self) -> list[str]:
        """Return the faults that no seed met."""
        return [name for name in FAULTS if not self.struck[name]]

    def add(self, chunk: "Totals") -> None:
        """Take in what the seeds that follow came to; at a violation the next run begins with its seed."""
        self.seeds += chunk.seeds
        self.struck += chunk.struck
        self.broken |= chunk.broken
        self.next_seed = min(self.broken, default=chunk.next_seed)

    def line(self) -> str:
        """Return the running total in one line."""
        struck = self.struck
        figures = ", ".join(
            f"{struck[name]:,} {name}"
            for name in ("crashes", "pauses", "rebalances", "fenced applies", "unknown outcomes", "commands decided")
        )
        return f"{self.seeds:,} seeds: {figures}, {len(self.broken)} violations"


def run_chunk(first: int, count: int, mutant: str | None = None) -> Totals:
    """Run seeds in a row, up to the first that breaks a promise."""
    totals = Totals(first + count)
    parts = PRODUCT if mutant is None else MUTANTS[mutant].parts
    with _collected_once():
        for seed in range(first, first + count):
            outcome = simulate(seed, parts=parts)
            totals.seeds += 1
            totals.struck += outcome.struck
            if outcome.violations:
                totals.broken[seed] = list(outcome.violations)
                break
    return totals


def run(
    seeds: int, *, state: Path | None, jobs: int, say: Callable[[str], None], mutant: str | None = None
) -> Totals:  # fmt: skip
    """Run so many seeds more than the state has, up to the first violation; the state is written after each chunk."""
    totals = load(state)
    end = totals.next_seed + seeds
    chunks = [(first, min(CHUNK_SEEDS, end - first), mutant) for first in range(totals.next_seed, end, CHUNK_SEEDS)]
    with _done(chunks, jobs) as done:
        for number, chunk in enumerate(done, start=1):
            totals.add(chunk)
            save(totals, state)
            if totals.broken or number % 10 == 0 or number == len(chunks):
                say(totals.line())
            if totals.broken:
                break
    return totals


@contextmanager
def _done(chunks: list[tuple[int, int, str | None]], jobs: int) -> Iterator[Iterable[Totals]]:
    """Give what chunks came to, in order, while others run beside."""
    if jobs == 1:
        yield starmap(run_chunk, chunks)
        return
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        yield pool.map(run_chunk, *zip(*chunks, strict=True))
    finally:
        pool.shutdown(cancel_futures=True)


def load(state: Path | None) -> Totals:
    """Return the totals of earlier runs."""
    if state is None or not state.exists():
        return Totals()
    kept = json.loads(state.read_text())
    return Totals(kept["next_seed"], kept["seeds"], Counter(kept["struck"]))


def save(totals: Totals, state: Path | None) -> None:
    """Write the totals, all or nothing."""
    if state is None:
        return
    state.parent.mkdir(parents=True, exist_ok=True)
    written = state.with_suffix(".new")
    written.write_text(
        json.dumps(
            {"next_seed": totals.next_seed, "seeds": totals.seeds, "struck": dict(sorted(totals.struck.items()))}
        )
    )
    os.replace(written, state)  # noqa: PTH105 - one rename, whatever is there


@contextmanager
def _collected_once() -> Iterator[None]:
    """Collect garbage once, at the end: worlds are small, and full of cycles."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()
