"""What bounds the work of a turn."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a command, its guards and its parking; sizes in bytes.

    A turn waits for its guards until none has answered for `guard_budget_seconds`, and never longer than
    `guard_turn_seconds_max`. `failing_max` bounds the records of a partition on which our own code failed; beyond it
    the process stops.
    """

    command_bytes_max: int = 256 * 1024
    message_bytes_max: int = 900 * 1024
    window: timedelta = timedelta(days=14)
    guard_budget_seconds: float = 0.1
    guard_turn_seconds_max: float = 1.0
    guard_seconds_max: float = 2.0
    parked_workflow_max: int = 100
    parked_partition_max: int = 1000
    parked_age_max: timedelta = timedelta(hours=1)
    failing_max: int = 10
