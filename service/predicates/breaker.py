"""When a remote engine is asked at all: closed, open after failures in a row, half-open for one question at a time.

Pure values: the caller brings the time. A try carries the number of openings it was begun under, so that the late end
of an earlier one is not taken for the probe's.
"""

from dataclasses import dataclass, replace
from enum import IntEnum


class State(IntEnum):
    """Whether questions are sent; the number is what the metric shows."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True, slots=True)
class Breaker:
    """Opens after `failures_max` failed tries in a row, for `open_seconds`; then one success closes it.

    `cause` is the last failure's, `until` when an open one is tried again, on the caller's clock.
    """

    failures_max: int
    open_seconds: float
    state: State = State.CLOSED
    failures: int = 0
    openings: int = 0
    until: float = 0.0
    cause: str = ""

    def at(self, now: float) -> "Breaker":
        """Return it as time has made it."""
        return replace(self, state=State.HALF_OPEN) if self.state is State.OPEN and now >= self.until else self

    def succeeded(self, begun_under: int) -> "Breaker":
        """Return it after a try that was answered."""
        if begun_under != self.openings or self.state is State.OPEN:
            return self
        return replace(self, state=State.CLOSED, failures=0, cause="")

    def failed(self, begun_under: int, cause: str, now: float) -> "Breaker":
        """Return it after a try that came to nothing."""
        if begun_under != self.openings or self.state is State.OPEN:
            return self
        failures = self.failures + 1
        if self.state is State.CLOSED and failures < self.failures_max:
            return replace(self, failures=failures, cause=cause)
        return replace(
            self,
            state=State.OPEN,
            failures=failures,
            openings=self.openings + 1,
            until=now + self.open_seconds,
            cause=cause,
        )
