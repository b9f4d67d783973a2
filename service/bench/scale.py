"""How large a benchmark is, and which parts it has."""

from collections.abc import Callable
from dataclasses import dataclass

PARTS = ("throughput", "hot", "guarded", "latency", "memory", "remote", "timers")
USUAL = frozenset(PARTS[:4])
SETTLE_SECONDS = 2.0

Say = Callable[[str], None]


class BenchError(Exception):
    """Say why no figure is given."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: commands, commands per second, seconds."""

    workflows: int = 20_000
    transitions: int = 100_000
    rounds: int = 5
    hot: int = 20_000
    rate: int = 300
    seconds: float = 20.0
    warm_seconds: float = 15.0
    warm_windows_max: int = 12
    memory_at: tuple[int, int] = (200_000, 1_000_000)
    timers: int = 1_000_000
    due: int = 100_000
    late_rate: int = 1_000


QUICK = Scale(
    workflows=4_000,
    transitions=20_000,
    rounds=1,
    hot=5_000,
    seconds=5.0,
    warm_seconds=2.0,
    warm_windows_max=1,
    memory_at=(40_000, 80_000),
    timers=50_000,
    due=10_000,
    late_rate=300,
)
