"""The breaker as a table: what each event makes of each state."""

import pytest

from service.predicates.breaker import Breaker, State

CLOSED, HALF_OPEN, OPEN = State.CLOSED, State.HALF_OPEN, State.OPEN
NEVER = Breaker(failures_max=2, open_seconds=5.0)
ONCE = NEVER.failed(0, "a", now=0.0)
OPENED = ONCE.failed(0, "b", now=10.0)
PROBING = OPENED.at(15.0)


@pytest.mark.parametrize(
    ("breaker", "state", "failures", "openings", "cause"),
    [
        (NEVER, CLOSED, 0, 0, ""),
        (NEVER.succeeded(0), CLOSED, 0, 0, ""),
        (ONCE, CLOSED, 1, 0, "a"),
        (ONCE.succeeded(0), CLOSED, 0, 0, ""),
        (ONCE.at(1e9), CLOSED, 1, 0, "a"),
        (OPENED, OPEN, 2, 1, "b"),
        (OPENED.at(14.9), OPEN, 2, 1, "b"),
        (OPENED.failed(0, "late", now=11.0), OPEN, 2, 1, "b"),
        (OPENED.succeeded(0), OPEN, 2, 1, "b"),
        (PROBING, HALF_OPEN, 2, 1, "b"),
        (PROBING.succeeded(1), CLOSED, 0, 1, ""),
        (PROBING.failed(1, "c", now=15.1), OPEN, 3, 2, "c"),
        (PROBING.succeeded(0), HALF_OPEN, 2, 1, "b"),
        (PROBING.failed(0, "late", now=15.1), HALF_OPEN, 2, 1, "b"),
        (PROBING.succeeded(1).failed(1, "d", now=16.0), CLOSED, 1, 1, "d"),
    ],
)
def test_each_event_in_each_state(breaker: Breaker, state: State, failures: int, openings: int, cause: str) -> None:
    """It opens after failures in a row, probes after its time; a try begun before the last opening tells nothing."""
    assert (state, failures, openings, cause) == (breaker.state, breaker.failures, breaker.openings, breaker.cause)


def test_it_stays_open_for_its_time_from_the_last_failure() -> None:
    """A probe that fails opens it for as long again."""
    again = PROBING.failed(1, "c", now=15.1)
    assert (15.0, 20.1) == (OPENED.until, again.until)
    assert (OPEN, HALF_OPEN) == (again.at(20.0).state, again.at(20.1).state)
