"""Holds the arithmetic of calendars against looking at the clock every minute, over generated calendars."""

import random
from datetime import datetime, timedelta

import pytest

from domain.calendar import closes_at, due_at, is_open, openings, opens_at, worked
from tests.domain.calendar_cases import ZONES, Case, case
from tests.domain.calendar_oracle import MINUTE

QUESTIONS = 12
QUICK = 200
LONG = 2_000


def _ask(seed: int, days: int) -> None:
    given, chance = case(seed, days), random.Random(-seed)
    grid = given.grid
    edges = [number for number in range(1, grid.minutes) if grid.open[number - 1] != grid.open[number]]
    for _ in range(QUESTIONS):
        since, until = sorted((_instant(given, edges, chance), _instant(given, edges, chance)))
        _compare(given, since, until, _target(given, chance))


def _instant(given: Case, edges: list[int], chance: random.Random) -> datetime:
    """Choose any microsecond, or the edge of a minute: hours begin and end there."""
    number = chance.choice(edges) if edges and chance.random() < 0.3 else chance.randrange(given.grid.minutes)
    second = chance.choice((timedelta(), timedelta(microseconds=chance.randrange(60_000_000))))
    return given.grid.start + number * MINUTE + second


def _target(given: Case, chance: random.Random) -> timedelta:
    """Choose a target that the window mostly holds; whole hours often end at closing."""
    minutes = chance.randrange(1 + given.grid.before[-1])
    return chance.choice((minutes * MINUTE, minutes // 60 * 60 * MINUTE, minutes * MINUTE + timedelta(seconds=1.25)))


def _compare(given: Case, since: datetime, until: datetime, target: timedelta) -> None:
    calendar, grid, end = given.calendar, given.grid, given.grid.start + given.grid.minutes * MINUTE
    said = (given.document, since, until, target)
    assert grid.is_open(since) == is_open(calendar, since), said
    assert grid.worked(since, until) == worked(calendar, since, until), said
    assert grid.due(since, target) == _within(due_at(calendar, since, target), end), said
    assert grid.opens(since) == _before(opens_at(calendar, since), end), said
    assert grid.closes(since) == _before(closes_at(calendar, since), end), said
    counted = sum((stop - start for start, stop in openings(calendar, since, until)), timedelta())
    assert grid.worked(since, until) == counted, said


def _within(found: datetime | None, end: datetime) -> datetime | None:
    return found if found is not None and found <= end else None


def _before(found: datetime | None, end: datetime) -> datetime | None:
    return found if found is not None and found < end else None


def test_the_arithmetic_equals_the_clock() -> None:
    """Open or not, time worked, due instants, next opening and closing, in 200 calendars of 22 zones."""
    assert len(ZONES) >= 20
    for seed in range(QUICK):
        _ask(seed, days=4)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_the_arithmetic_equals_the_clock_in_many_more() -> None:
    """The same over longer spans, in 2,000 others."""
    for seed in range(QUICK, QUICK + LONG):
        _ask(seed, days=9)
