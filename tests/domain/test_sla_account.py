"""Where an SLA's time went: by state, held and paused apart, every part of it and nothing twice."""

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from domain.instants import read, written
from domain.sla import reckoned
from domain.sla_account import Account, accounts
from tests.domain.test_sla import HOUR, MONDAY, OFFICE, RUNGS, Life, sla


def test_a_breach_says_in_which_states_its_time_went() -> None:
    """Worked, waiting, paused and closed, each where it was; the amount is working time and goes on."""
    life = Life(sla(calendar="office", ladder=RUNGS))
    life.move(MONDAY + 2 * HOUR, "asked")
    life.send(MONDAY + 3 * HOUR, "pause_sla")
    life.send(MONDAY + 3.5 * HOUR, "resume_sla")
    life.move(MONDAY + 4 * HOUR, "working")
    life.tick(MONDAY + 7 * HOUR)
    (found,) = accounts(life.history, life.calendars, MONDAY + 25 * HOUR)
    assert {
        "new": {"worked": 2 * 3600},
        "asked": {"waiting": 1.5 * 3600, "paused": 1800},
        "working": {"worked": 5 * 3600, "closed": 16 * 3600},
    } == found.by_state
    assert ("breached", 4.5 * 3600, 25 * 3600) == (found.record.status, found.over_seconds, found.passed_seconds)
    assert [
        ("SLA_AT_RISK", 0, MONDAY + 4.25 * HOUR),
        ("SLA_BREACHED", 0, MONDAY + 4.5 * HOUR),
        ("ESCALATION_TRIGGERED", 1, MONDAY + 4.5 * HOUR),
        ("ESCALATION_TRIGGERED", 2, MONDAY + 5.5 * HOUR),
        ("ESCALATION_TRIGGERED", 3, MONDAY + 6.5 * HOUR),
    ] == [(step.kind, step.rung, read(step.due_at)) for step in found.steps]
    assert {written(MONDAY + 7 * HOUR)} == {step.noticed_at for step in found.steps}


def test_each_run_has_an_account_of_its_own() -> None:
    """One was met in its state; the next is open and goes on."""
    life = Life(sla(starts=["working"]))
    for hours, state in ((1, "working"), (2, "answered"), (5, "working"), (6, "asked")):
        life.move(MONDAY + hours * HOUR, state)
    first, second = accounts(life.history, life.calendars, MONDAY + 7 * HOUR)
    assert (1, "met", {"working": {"worked": 3600}}) == (first.record.run, first.record.status, first.by_state)
    assert (2, None, {"working": {"worked": 3600}, "asked": {"waiting": 3600}}) == (
        second.record.run,
        second.over_seconds,
        second.by_state,
    )


def test_time_after_an_undone_migration_is_under_the_state_that_it_went_back_to() -> None:
    """The state in between ended it; what was closed is open again, and so is its account."""
    life = Life(sla())
    life.migrate(MONDAY + HOUR, sla(), states={"new": "closed"})
    life.migrate(MONDAY + 2 * HOUR, undo=True)
    (found,) = accounts(life.history, life.calendars, MONDAY + 10 * HOUR)
    assert ["on_track", "new"] == [found.record.status, life.workflow and life.workflow.state]
    assert {"new": 9 * 3600, "closed": 3600} == {name: sum(spent.values()) for name, spent in found.by_state.items()}


STEPS = st.tuples(
    st.integers(0, 20 * 3600 * 10),
    st.integers(0, 3600),
    st.sampled_from(
        ["working", "asked", "signing", "answered", "new", "pause_sla", "resume_sla", "extend_sla", "tick", "high"]
    ),
)


@given(st.lists(STEPS, max_size=12), st.sampled_from([None, "office"]), st.integers(0, 10**12))
def test_the_parts_are_the_whole(steps: list[tuple[int, int, str]], calendar: str | None, later: int) -> None:
    """However it goes, and though commands count in another order than they were decided in."""
    life = Life(sla(calendar=calendar, holds=["asked"], ladder=RUNGS, by_priority={"high": "2h"}))
    at = live(life, steps)
    for found in accounts(life.history, life.calendars, at + timedelta(microseconds=later)):
        record = found.record
        passed = read(record.since) - read(record.started_at)
        assert passed == whole(found)
        assert passed == sum((timedelta(seconds=length) for length in record.spent.values()), timedelta())
        for name in ("worked", "waiting", "person", "closed"):
            assert timedelta(seconds=record.spent.get(name, 0)) == part(found, name)
        assert timedelta(seconds=record.spent.get("held", 0)) == part(found, "held") + part(found, "paused")
    if calendar is not None:
        assert reckoned(life.record(), OFFICE, read(found.record.since)) == found.record


def live(life: Life, steps: list[tuple[int, int, str]]) -> datetime:
    """Let a life go its way; return when it ended. Each command counts some seconds before it is decided."""
    at = MONDAY
    for tenths, before, what in steps:
        at += timedelta(seconds=tenths / 10)
        counts = max(at - timedelta(seconds=before), MONDAY)
        if what == "tick":
            life.tick(at)
        elif what in {"pause_sla", "resume_sla"}:
            life.send(counts, what, decided=at)
        elif what == "extend_sla":
            life.send(counts, what, decided=at, sla="reply", seconds=1800)
        elif what == "high":
            life.send(counts, "set_priority", decided=at, priority=what)
        else:
            life.move(counts, what, decided=at)
    return at


def whole(found: Account) -> timedelta:
    """Return everything that is in an account's states."""
    return sum((timedelta(seconds=each) for spent in found.by_state.values() for each in spent.values()), timedelta())


def part(found: Account, name: str) -> timedelta:
    """Return what is in an account's states under a name."""
    return sum((timedelta(seconds=spent.get(name, 0)) for spent in found.by_state.values()), timedelta())
