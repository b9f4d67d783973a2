"""How fast the processor is just now: whoever shares the machine takes up to half of it, for minutes at a time.

The processor time of a loop that is always the same says so: no turn in it is spared, and no wait is in it.
"""

from collections.abc import Sequence
from time import process_time

TURNS = 40_000  # some 2 ms


def pace() -> float:
    """Return the processor time of the loop, in seconds."""
    began, total = process_time(), 0
    for each in range(TURNS):
        total += each * each
    return process_time() - began


def at_best(times: Sequence[float], paces: Sequence[tuple[float, float]]) -> list[float]:
    """Return times by how much slower than ever the loop was just before each and just after it."""
    best = min(min(pair) for pair in paces)
    return [spent * best / (sum(pair) / 2) for spent, pair in zip(times, paces, strict=True)]
