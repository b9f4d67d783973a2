"""Recorded SLAs judged again: nothing under what they were promised by, another outcome under another promise."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.sla_backtest import Example, Figures, Judged, Past, Terms, compare, replay
from tests.domain.calendar_cases import compiled
from tests.domain.test_sla import HOUR, MONDAY, RUNGS, Life, sla
from tests.domain.test_sla_account import STEPS, live

LATE = compiled(
    {
        "name": "late",
        "version": 1,
        "time_zone": "UTC",
        "week": dict.fromkeys(("monday", "tuesday", "wednesday", "thursday", "friday"), "12:00-20:00"),
    }
)


def past_of(life: Life) -> Past:
    """Return a life as the store has it."""
    return Past(life.history, {1: life.definition}, {**life.calendars, ("late", 1): LATE})


def judged(life: Life, terms: Terms, hours: float) -> Figures:
    """Return what a life's SLA comes to under a candidate, so many hours after it began."""
    figures: dict[str, Figures] = {}
    compare(past_of(life), terms, figures, MONDAY + hours * HOUR)
    return figures["reply"]


def test_a_shorter_target_would_have_been_breached() -> None:
    """Met in three hours, of four; with two it is an hour over."""
    life = Life(sla(calendar="office"))
    life.move(MONDAY + 3 * HOUR, "answered")
    assert Figures(
        runs=1,
        breached_candidate=1,
        over_seconds_candidate=3600,
        differing=1,
        examples=[Example("w", 1, Judged("met"), Judged("breached", 3600))],
    ) == judged(life, Terms({"reply": "2h"}), 24)


def test_other_hours_would_have_kept_it() -> None:
    """Five hours from nine, of four in the office; where work begins at noon only two of them count."""
    life = Life(sla(calendar="office"))
    life.tick(MONDAY + 4.5 * HOUR)
    life.move(MONDAY + 5 * HOUR, "answered")
    found = judged(life, Terms(calendar=("late", 1)), 24)
    assert (1, 0, 3600, 0) == (
        found.breached_recorded,
        found.breached_candidate,
        found.over_seconds_recorded,
        found.over_seconds_candidate,
    )


def test_a_target_of_one_priority_is_judged_alone() -> None:
    """The other priorities keep theirs; a later priority takes the new target along."""
    life = Life(sla(by_priority={"high": "2h"}), priority="high")
    life.move(MONDAY + 1.5 * HOUR, "answered")
    assert 0 == judged(life, Terms(by_priority={("reply", "low"): "1h"}), 9).breached_candidate
    assert 1 == judged(life, Terms(by_priority={("reply", "high"): "1h"}), 9).breached_candidate
    assert 0 == judged(life, Terms({"reply": "1h"}), 9).breached_candidate


def test_an_extension_comes_too_late_for_what_would_have_been_breached() -> None:
    """Extended in the third hour of four; with a target of two it had been breached before."""
    life = Life(sla())
    life.send(MONDAY + 3 * HOUR, "extend_sla", sla="reply", seconds=7200)
    life.move(MONDAY + 5 * HOUR, "answered")
    assert {"met"} == {each.recorded.said for each in judged(life, Terms({"reply": "2h"}), 9).examples}
    assert 1 == judged(life, Terms({"reply": "2h"}), 9).breached_candidate
    early = Life(sla())
    early.send(MONDAY + 1 * HOUR, "extend_sla", sla="reply", seconds=7200)
    early.move(MONDAY + 3.5 * HOUR, "answered")
    assert 0 == judged(early, Terms({"reply": "2h"}), 9).breached_candidate


def test_one_that_is_open_is_judged_as_of_now_on_both_sides() -> None:
    """No tick came yet: it is breached all the same, by as much under the same promise."""
    life = Life(sla())
    found = judged(life, Terms(), 6)
    assert (1, 1, 0) == (found.breached_recorded, found.breached_candidate, found.differing)
    assert 7200 == found.over_seconds_recorded


@pytest.mark.parametrize("version", [3, 4])
def test_a_calendar_that_changed_since_is_the_one_of_then(version: int) -> None:
    """Whatever is the newest now, a run is judged by the version that it started under."""
    life = Life(sla(calendar="office"))
    life.move(MONDAY + 5 * HOUR, "answered")
    past = past_of(life)
    newest = replace(LATE, name="office", version=version)
    figures: dict[str, Figures] = {}
    compare(replace(past, calendars={**past.calendars, ("office", None): newest}), Terms(), figures, MONDAY)
    assert 0 == figures["reply"].differing


@given(st.lists(STEPS, max_size=12), st.sampled_from([None, "office"]), st.integers(0, 10**12))
def test_under_the_same_promise_nothing_differs(
    steps: list[tuple[int, int, str]], calendar: str | None, later: int
) -> None:
    """However it went: each run comes out as it was recorded, and leaves the record it left."""
    life = Life(
        sla(calendar=calendar, holds=["asked"], ladder=RUNGS, by_priority={"high": "2h"}), {"name": "date"},
        sla(name="signing", starts=["signing"], stops=["working"], target="1h"), due_at=MONDAY + 9 * HOUR,
    )  # fmt: skip
    end = live(life, steps)
    figures: dict[str, Figures] = {}
    compare(past_of(life), Terms(), figures, end + timedelta(microseconds=later))
    assert dict.fromkeys(figures, 0) == {name: each.differing for name, each in figures.items()}
    assert life.workflow is not None
    again = replay(past_of(life), Terms())
    assert {name: life.record(name) for name in life.workflow.slas or {}} == {
        name: max((run, record) for (each, run), record in again.items() if each == name)[1]
        for name in life.workflow.slas or {}
    }
