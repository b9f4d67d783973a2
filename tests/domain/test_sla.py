"""How a promise stands: started, held, resumed, extended, breached and met, and where its time went."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.commands import COMMANDS
from domain.calendar import Calendar, always
from domain.decide import NOWHERE, decide
from domain.decision import Accepted, Circumstances, Facts
from domain.definition import Definition, compile_document
from domain.evolve import fold
from domain.instants import read, written
from domain.migration import Target
from domain.sla import Calendars, SlaRecord, calendar_of, parse_record, reckoned
from domain.sla_config import NOTHING, Configured, promised
from domain.sla_events import Change, attend, lapse
from domain.workflow import Workflow, dump
from tests.domain.calendar_cases import compiled

MONDAY = datetime(2026, 11, 16, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
OFFICE = compiled(
    {
        "name": "office",
        "version": 3,
        "time_zone": "UTC",
        "week": dict.fromkeys(("monday", "tuesday", "wednesday", "thursday", "friday"), "09:00-17:00"),
    }
)
RUNGS = [
    {"after": "0s", "alert": "team"},
    {"after": "1h", "priority": "high"},
    {"after": "2h", "alert": "lead", "transition": "escalate"},
]


class Life:
    """A workflow of one definition whose commands and moments are given; it keeps its history."""

    def __init__(self, *slas: dict[str, Any], configured: Configured = NOTHING, **created: Any) -> None:  # noqa: ANN401
        self.definition = machine(*slas)
        self.left = self.definition
        self.calendars: Calendars = {("office", 3): OFFICE, ("office", None): OFFICE}
        self.configured = configured
        self.workflow: Workflow | None = None
        self.history: list[dict[str, Any]] = []
        self.alerts: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.numbers = 0
        self.send(MONDAY, "create_workflow", definition="m", **created)

    def send(self, at: datetime, command_type: str, *, decided: datetime | None = None, **fields: Any) -> list[str]:  # noqa: ANN401
        """Decide a command that counts from a moment; return its events' types, or a refusal's code."""
        return self._decided(at, command_type, fields, decided=decided)

    def migrate(self, at: datetime, *slas: dict[str, Any], **fields: Any) -> list[str]:  # noqa: ANN401
        """Migrate the workflow to the next version, which promises this; or with `undo` back to the one before."""
        if fields.get("undo"):
            last = next(event for event in self.history if event["version"] == self.history[-1]["version"])
            target = Target(self.left, last)
        else:
            version = self.definition.version + 1
            target = Target(replace(machine(*slas), version=version))
            fields["to_version"] = version
        found = self._decided(at, "migrate_workflow", fields, target=target)
        if found[0] == "MIGRATED":
            assert target.definition is not None
            self.left, self.definition = self.definition, target.definition
        return found

    def _decided(
        self,
        at: datetime,
        command_type: str,
        fields: dict[str, Any],
        *,
        decided: datetime | None = None,
        target: Target = NOWHERE,
    ) -> list[str]:
        self.numbers += 1
        command = COMMANDS.validate_python(
            {"command_type": command_type, "command_id": UUID(int=self.numbers), "workflow_id": "w", "reason": "so"}
            | fields
        )
        circumstances = Circumstances(written(decided or at), UUID(int=9), str(command.command_id))
        decision = decide(
            command, self.workflow, self.definition, facts=Facts(), circumstances=circumstances, target=target
        )
        if not isinstance(decision, Accepted):
            return [decision.code]  # type: ignore[union-attr]
        definition = target.definition or self.definition
        terms = promised(definition, self.configured, decision.workflow)
        made = Change(command, decision.workflow, definition, terms, self.calendars)
        attended = attend(decision, made, at=at, circumstances=circumstances)
        return self.keep(attended) if isinstance(attended, Accepted) else [attended.code]

    def move(self, at: datetime, target: str, *, decided: datetime | None = None) -> list[str]:
        """Enter a state."""
        return self.send(at, "request_transition", target_state=target, decided=decided)

    def tick(self, until: datetime, now: datetime | None = None) -> list[str]:
        """Let time pass up to a moment."""
        assert self.workflow is not None
        found = lapse(
            self.workflow,
            promised(self.definition, self.configured, self.workflow),
            until=until,
            calendars=self.calendars,
            circumstances=Circumstances(written(now or until), UUID(int=9), ""),
        )
        return [] if found is None else self.keep(found[0])

    def keep(self, accepted: Accepted) -> list[str]:
        """Take a change in."""
        self.workflow = accepted.workflow
        self.history += accepted.events
        self.alerts += accepted.alerts
        self.asked += accepted.follow_ups
        return [event["event_type"] for event in accepted.events]

    def record(self, name: str = "reply") -> SlaRecord:
        """Return how an SLA stands."""
        assert self.workflow is not None
        assert self.workflow.slas is not None
        return parse_record(self.workflow.slas[name])

    def due(self, name: str = "reply") -> datetime | None:
        """Return when it is due."""
        found = self.record(name).due_at
        return None if found is None else read(found)


def machine(*slas: dict[str, Any]) -> Definition:
    """Compile a machine that promises this."""
    states: dict[str, Any] = {
        "new": {"initial": True},
        "working": {"category": "running"},
        "asked": {"category": "waiting"},
        "signing": {"category": "person"},
        "answered": {},
        "closed": {"terminal": True},
    }
    transitions = [
        {"name": f"to_{name}", "from": [each for each in states if each != "closed"], "to": name} for name in states
    ]
    transitions.append({"name": "escalate", "from": ["new", "working"], "to": "signing"})
    found = compile_document(
        {"name": "m", "version": 1, "states": states, "transitions": transitions, "slas": list(slas)}
    )
    assert isinstance(found, Definition), found
    return found


def sla(**fields: object) -> dict[str, Any]:
    """Return a clause: four hours from the creation until it is answered."""
    return {"name": "reply", "target": "4h", "stops": ["answered"], **fields}


def test_it_starts_where_it_is_promised_and_is_met_in_time() -> None:
    """The creation carries the record; the transition that ends it is followed by SLA_MET."""
    life = Life(sla())
    assert MONDAY + 4 * HOUR == life.due()
    assert ("on_track", written(MONDAY + 3.75 * HOUR)) == (life.record().status, life.record().next_at)
    assert ["TRANSITION", "SLA_MET"] == life.move(MONDAY + 3 * HOUR, "answered")
    record = life.record()
    assert ("met", written(MONDAY + 3 * HOUR), {"worked": 3 * 3600}) == (
        record.status,
        record.stopped_at,
        record.spent,
    )
    assert not life.alerts


def test_time_alone_warns_then_breaches_then_climbs_each_rung_once() -> None:
    """Each step is taken once however often time is looked at, and each tells who is to be told."""
    life = Life(sla(ladder=RUNGS, impact="penalty"), priority="low")
    steps = [life.tick(MONDAY + timedelta(minutes=minute)) for minute in range(0, 480, 5)]
    assert [
        ["SLA_AT_RISK"], ["SLA_BREACHED", "ESCALATION_TRIGGERED"], ["ESCALATION_TRIGGERED"], ["ESCALATION_TRIGGERED"]
    ] == [found for found in steps if found]  # fmt: skip
    assert [("SLA_AT_RISK", None), ("ESCALATION_TRIGGERED", "team"), ("ESCALATION_TRIGGERED", "lead")] == [
        (alert["kind"], alert.get("to")) for alert in life.alerts
    ]
    assert [("set_priority", "high"), ("request_transition", "escalate")] == [
        (asked["command_type"], asked.get("priority") or asked.get("transition")) for asked in life.asked
    ]
    assert len({asked["command_id"] for asked in life.asked}) == 2
    assert {"penalty"} == {alert["impact"] for alert in life.alerts}
    assert [1, 1, 1, 1, 1, 1] == [event["version"] for event in life.history]


def test_after_an_outage_passed_steps_are_recorded_once_and_only_the_highest_tells() -> None:
    """Everything that was due is in the history; people get one alert."""
    life = Life(sla(ladder=RUNGS))
    assert ["SLA_AT_RISK", "SLA_BREACHED", *["ESCALATION_TRIGGERED"] * 3] == life.tick(MONDAY + 9 * HOUR)
    assert ["lead"] == [alert.get("to") for alert in life.alerts]
    assert [] == life.tick(MONDAY + 10 * HOUR)
    assert written(MONDAY + 4 * HOUR) == life.record().breached_at


def test_the_last_rung_repeats_without_drift_and_catches_up_with_one() -> None:
    """A reminder a working day, however late each is found; of those missed in an outage the last is left."""
    ladder = [{"after": "1h", "alert": "lead", "every": "1d"}]
    life = Life(sla(calendar="office", ladder=ladder))
    due = MONDAY + timedelta(hours=5)
    life.tick(due - HOUR)
    for days in range(3):
        assert ["ESCALATION_TRIGGERED"] == life.tick(due + timedelta(days=days, minutes=7 * days))
        assert [] == life.tick(due + timedelta(days=days, hours=2))
    assert written(due + timedelta(days=3)) == life.record().next_at
    assert ["ESCALATION_TRIGGERED"] == life.tick(due + timedelta(days=16))
    assert [1, 2, 3, 13] == [event["details"]["rung"] for event in life.history if "rung" in event.get("details", {})]
    assert written(due + timedelta(days=17)) == life.record().next_at
    assert ["lead"] * 4 == [alert["to"] for alert in life.alerts if "to" in alert]


def test_a_ladder_that_is_shorter_by_now_is_not_climbed_beyond_its_end() -> None:
    """A migration took the rung that was to come next: it is not made up, and what repeats no more does not."""
    life = Life(sla(ladder=RUNGS))
    life.tick(MONDAY + 5 * HOUR)
    told = len(life.alerts)
    life.definition = machine(sla(ladder=RUNGS[:2]))
    assert ["ESCALATION_ENDED"] == life.tick(MONDAY + 50 * HOUR)
    assert (("breached", None, 5), told) == (
        (life.record().status, life.record().next_at, life.record().step),
        len(life.alerts),
    )


@pytest.mark.parametrize(
    ("late", "expected"),
    [(-1, ["TRANSITION", "SLA_AT_RISK", "SLA_MET"]), (0, ["TRANSITION", "SLA_AT_RISK", "SLA_BREACHED"])],
)
def test_met_or_breached_is_when_the_command_came_not_when_it_was_decided(late: int, expected: list[str]) -> None:
    """Before the due instant is in time; the due instant itself is not, and no tick has to say so."""
    life = Life(sla())
    due = MONDAY + 4 * HOUR
    assert expected == life.move(due + timedelta(microseconds=late), "answered", decided=due + HOUR)
    assert len(life.alerts) == (late == 0)


def test_a_breach_that_a_tick_found_is_not_found_again_by_the_command_that_ends_it() -> None:
    """The amount is working time past the target, there once it has ended."""
    life = Life(sla(calendar="office"))
    life.tick(MONDAY + 5 * HOUR)
    assert ["TRANSITION"] == life.move(MONDAY + 25 * HOUR, "answered")
    record = life.record()
    assert ("breached", 5 * 3600) == (record.status, record.breach_seconds)


def test_a_hold_over_a_night_does_not_move_the_due_date_by_a_day() -> None:
    """Held from 16:00 to 10:00 with three hours left: due at 13:00, since the closed hours were nobody's."""
    life = Life(sla(calendar="office", holds=["asked"]))
    life.move(MONDAY + timedelta(hours=1), "asked")
    assert (None, None) == (life.due(), life.record().next_at)
    assert [] == life.tick(MONDAY + timedelta(days=3))
    life.move(MONDAY + timedelta(hours=25), "working")
    assert MONDAY + timedelta(hours=28) == life.due()


def test_a_priority_change_keeps_the_hold_and_the_time_spent() -> None:
    """One hour is spent and it is held; with a target of two hours one is left once it runs again."""
    life = Life(sla(holds=["asked"], by_priority={"high": "2h"}))
    life.move(MONDAY + HOUR, "asked")
    assert ["PRIORITY_CHANGED"] == life.send(MONDAY + 10 * HOUR, "set_priority", priority="high")
    assert (True, None) == (life.record().held, life.due())
    life.move(MONDAY + 20 * HOUR, "working")
    assert MONDAY + 21 * HOUR == life.due()
    assert life.workflow is not None
    assert life.workflow.priority == "high"


def test_a_target_that_is_spent_already_is_breached_by_the_change() -> None:
    """The change and the breach are one: no tick is needed."""
    life = Life(sla(by_priority={"high": "2h"}))
    assert ["PRIORITY_CHANGED", "SLA_AT_RISK", "SLA_BREACHED"] == life.send(
        MONDAY + 3 * HOUR, "set_priority", priority="high"
    )
    life.move(MONDAY + 3.5 * HOUR, "answered")
    assert life.record().breach_seconds == 1.5 * 3600


def test_it_is_paused_and_resumed_by_hand() -> None:
    """A pause is apart from the holds of states: both have to be over."""
    life = Life(sla(holds=["asked"]))
    assert ["SLA_PAUSED"] == life.send(MONDAY + HOUR, "pause_sla", sla="reply")
    assert ["INVALID_TRANSITION"] == life.send(MONDAY + HOUR, "pause_sla", sla="reply")
    assert ["INVALID_TRANSITION"] == life.send(MONDAY + HOUR, "pause_sla", sla="another")
    life.move(MONDAY + 2 * HOUR, "asked")
    assert ["SLA_RESUMED"] == life.send(MONDAY + 3 * HOUR, "resume_sla")
    assert life.due() is None
    life.move(MONDAY + 5 * HOUR, "working")
    assert MONDAY + 8 * HOUR == life.due()
    assert {"worked": 3600, "held": 4 * 3600} == life.record().spent


def test_an_extension_calms_a_warning_and_warns_again_once() -> None:
    """At risk, extended: on track until the new warning."""
    life = Life(sla())
    assert ["SLA_AT_RISK"] == life.tick(MONDAY + 3.8 * HOUR)
    assert ["SLA_EXTENDED"] == life.send(MONDAY + 3.9 * HOUR, "extend_sla", sla="reply", seconds=7200)
    assert ("on_track", MONDAY + 6 * HOUR) == (life.record().status, life.due())
    assert ["SLA_AT_RISK"] == life.tick(MONDAY + 5.9 * HOUR)
    assert ["SLA_BREACHED"] == life.tick(MONDAY + 6 * HOUR)
    assert ["INVALID_TRANSITION"] == life.send(MONDAY + 7 * HOUR, "extend_sla", sla="reply", seconds=7200)


def test_a_due_date_that_moves_takes_its_sla_along() -> None:
    """Without a target it is due at the workflow's due date; without that either it waits for one."""
    life = Life({"name": "reply"})
    assert life.due() is None
    assert ["DUE_DATE_CHANGED"] == life.send(MONDAY, "set_due_date", due_at=MONDAY + 2 * HOUR)
    assert ["SLA_AT_RISK"] == life.tick(MONDAY + 1.9 * HOUR)
    life.send(MONDAY + 1.9 * HOUR, "set_due_date", due_at=MONDAY + 3 * HOUR)
    assert ("on_track", MONDAY + 3 * HOUR) == (life.record().status, life.due())
    assert [] == life.tick(MONDAY + 2.5 * HOUR)
    assert ["TRANSITION", "SLA_AT_RISK", "SLA_BREACHED"] == life.move(MONDAY + 4 * HOUR, "closed")
    assert life.record().breach_seconds == 3600


def test_it_is_started_again_when_its_state_is_entered_again() -> None:
    """A second run is breached or met on its own; a state entered while it is open starts nothing."""
    life = Life(sla(starts=["working"]))
    assert life.workflow is not None
    assert life.workflow.slas is None
    life.move(MONDAY, "working")
    life.move(MONDAY + HOUR, "working")
    assert (1, MONDAY + 4 * HOUR) == (life.record().run, life.due())
    life.move(MONDAY + 5 * HOUR, "answered")
    assert life.record().status == "breached"
    life.move(MONDAY + 6 * HOUR, "working")
    assert (2, "on_track", MONDAY + 10 * HOUR) == (life.record().run, life.record().status, life.due())


def test_several_run_beside_each_other_for_whom_they_are_promised() -> None:
    """Service areas and types choose; a terminal state ends whatever is open."""
    life = Life(
        sla(), sla(name="lab", service_areas=["lab"]), sla(name="desk", service_areas=["desk"]),
        sla(name="stat", types=["stat"], target="30m"), service_area="lab", type="stat",
    )  # fmt: skip
    assert life.workflow is not None
    assert {"reply", "lab", "stat"} == (life.workflow.slas or {}).keys()
    assert ["TRANSITION", "SLA_AT_RISK", "SLA_BREACHED", "SLA_MET", "SLA_MET"] == life.move(MONDAY + HOUR, "closed")


def test_a_timer_made_before_opening_starts_at_opening() -> None:
    """What comes at seven is due as if it had come at nine."""
    life = Life(sla(calendar="office"))
    early = Life(sla(calendar="office", starts=["working"]))
    early.move(MONDAY - 2 * HOUR, "working")
    assert life.due() == early.due()


def test_time_is_accounted_for_to_the_microsecond() -> None:
    """Worked, waiting, with a person, held and closed sum to what has passed."""
    life = Life(sla(calendar="office", holds=["answered"], stops=["closed"], target="40h"))
    moments = [3.7, 9.3, 26.123_456, 50, 51.5, 80.000_001, 100]
    states = ["asked", "signing", "working", "answered", "asked", "new", "signing"]
    for hours, state in zip(moments, states, strict=True):
        life.move(MONDAY + hours * HOUR, state)
    life.move(MONDAY + 121.25 * HOUR, "closed")
    record = life.record()
    assert {"worked", "waiting", "person", "held", "closed"} == record.spent.keys()
    passed = read(record.since) - read(record.started_at)
    assert passed == sum((timedelta(seconds=spent) for spent in record.spent.values()), timedelta())
    assert MONDAY + 121.25 * HOUR == read(record.since)


def test_a_definition_that_promises_it_no_longer_holds_it() -> None:
    """After a migration nothing breaches that nobody promises; migrated back it goes on where it was."""
    life = Life(sla())
    promising, other = life.definition, machine()
    assert life.workflow is not None
    life.definition = other
    life.move(MONDAY + HOUR, "working")
    assert (True, None, []) == (life.record().held, life.due(), life.tick(MONDAY + 99 * HOUR))
    life.definition = promising
    life.move(MONDAY + 2 * HOUR, "new")
    assert MONDAY + 5 * HOUR == life.due()


MOVES = st.lists(
    st.tuples(
        st.integers(0, 20 * 3600 * 10),
        st.sampled_from(
            ["working", "asked", "signing", "answered", "new", "pause_sla", "resume_sla", "extend_sla", "tick", "high"]
        ),
    ),
    max_size=12,
)


@given(MOVES, st.sampled_from([None, "office"]))
def test_however_it_goes_history_gives_the_row_and_no_step_is_taken_twice(
    moves: list[tuple[int, str]], calendar: str | None
) -> None:
    """The fold of the events is the workflow; each run breaches once, climbs each rung once, and its time sums."""
    life = Life(sla(calendar=calendar, holds=["asked"], ladder=RUNGS, by_priority={"high": "2h"}), calendars=None)
    at = MONDAY
    for tenths, what in moves:
        at += timedelta(seconds=tenths / 10)
        if what == "tick":
            life.tick(at)
        elif what in {"pause_sla", "resume_sla"}:
            life.send(at, what)
        elif what == "extend_sla":
            life.send(at, what, sla="reply", seconds=1800)
        elif what == "high":
            life.send(at, "set_priority", priority=what)
        else:
            life.move(at, what)
        follows(life, at)
    steps = [
        (event["slas"]["reply"]["run"], event["event_type"], event["details"].get("rung"))
        for event in life.history
        if event["event_type"] in {"SLA_BREACHED", "ESCALATION_TRIGGERED", "SLA_MET"}
    ]
    assert len(steps) == len(set(steps))
    for run in {run for run, *_ in steps}:
        kinds = {kind for each, kind, _ in steps if each == run}
        assert not {"SLA_MET", "SLA_BREACHED"} <= kinds


def follows(life: Life, at: datetime) -> None:
    """Hold a workflow against its history, and a running promise against the clock."""
    folded = fold(life.history)
    assert folded is not None
    assert life.workflow is not None
    assert dump(folded) == dump(life.workflow)
    record = life.record()
    calendar: Calendar = always() if record.calendar is None else calendar_of(record, life.calendars)
    whole = reckoned(record, calendar, at)
    passed = read(whole.since) - read(whole.started_at)
    assert passed == sum((timedelta(seconds=spent) for spent in whole.spent.values()), timedelta())
    assert record.next_at is None or record.runs


@pytest.mark.parametrize(
    ("promise", "command", "said"),
    [
        (sla(ladder=RUNGS), {"command_type": "extend_sla", "sla": "reply", "seconds": 36_000}, ["INVALID_TRANSITION"]),
        (
            sla(ladder=RUNGS, by_priority={"low": "40h"}),
            {"command_type": "set_priority", "priority": "low"},
            ["PRIORITY_CHANGED", "SLA_AT_RISK", "SLA_BREACHED"],
        ),
        (
            sla(ladder=RUNGS, target=None),
            {"command_type": "set_due_date", "due_at": written(MONDAY + 14 * HOUR)},
            ["DUE_DATE_CHANGED", "SLA_AT_RISK", "SLA_BREACHED"],
        ),
    ],
)
def test_a_breach_is_final_also_before_a_tick_has_found_it(
    promise: dict[str, Any], command: dict[str, Any], said: list[str]
) -> None:
    """What comes a second after the due instant changes as little as what comes after the tick, whenever that is."""
    second = timedelta(seconds=1)
    ends = []
    for found_first in (False, True):
        life = Life({name: value for name, value in promise.items() if value}, due_at=written(MONDAY + 4 * HOUR))
        if found_first:
            life.tick(MONDAY + 4 * HOUR)
        told = life.send(MONDAY + 4 * HOUR + second, **command)
        if not found_first:
            assert said == [each for each in told if each != "ESCALATION_TRIGGERED"]
        life.tick(MONDAY + 6 * HOUR)
        life.move(MONDAY + 7 * HOUR, "answered")
        record = life.record()
        ends.append((record.status, record.breached_at, record.breach_seconds, record.step, record.target_seconds))
        assert 1 == sum(event["event_type"] == "SLA_BREACHED" for event in life.history)
    assert ends[0] == ends[1]
    assert ("breached", 3 * 3600) == (ends[0][0], ends[0][2])


@pytest.mark.parametrize("due", ["0001-01-01T00:00:00Z", "0001-01-01T00:10:00Z", "9999-12-31T23:59:59Z"])
def test_any_due_date_is_a_date(due: str) -> None:
    """Also the first and last that there are, as some write that there is none; time goes on from there."""
    ladder = [{"after": "0s", "alert": "team"}, {"after": "1h", "alert": "team", "every": "1h"}]
    for life in (
        Life(sla(target=None, ladder=ladder) | {"warning": "999999d"}, due_at=due),
        Life({"name": "reply", "stops": ["answered"], "ladder": ladder}, due_at=written(MONDAY + HOUR)),
    ):
        life.send(MONDAY, "set_due_date", due_at=due)
        life.tick(MONDAY + HOUR)
        assert (due < "2026") == (life.record().status == "breached")
        life.move(MONDAY + 2 * HOUR, "answered")
        assert life.record().stopped_at is not None


def test_steps_of_an_sla_are_told_in_the_order_they_were_taken() -> None:
    """A due date moved to before the warning that was just due: at risk comes first, breached last and once."""
    life = Life({"name": "reply", "stops": ["answered"], "ladder": RUNGS[:1]}, due_at=written(MONDAY + 4 * HOUR))
    told = life.send(MONDAY + 3 * HOUR + timedelta(minutes=46), "set_due_date", due_at=written(MONDAY + 2 * HOUR))
    assert ["DUE_DATE_CHANGED", "SLA_AT_RISK", "SLA_BREACHED", "ESCALATION_TRIGGERED"] == told
    assert [] == life.tick(MONDAY + 9 * HOUR)
    assert ["TRANSITION"] == life.move(MONDAY + 9 * HOUR, "answered")
    assert ("breached", life.workflow) == (life.record().status, fold(life.history))


def test_a_migration_arms_the_ladder_of_its_version() -> None:
    """Rungs that it has more come at their times, once each; repetitions go by its own."""
    due = MONDAY + 4 * HOUR
    life = Life(sla(ladder=[{"after": "0s", "alert": "a"}, {"after": "8h", "alert": "b"}]))
    life.tick(due)
    more = [{"after": "0s", "alert": "a"}, {"after": "1h", "alert": "lead"}, {"after": "4h", "transition": "escalate"}]
    assert ["MIGRATED"] == life.migrate(due + HOUR / 2, sla(ladder=more))
    assert [1, 1, 0, 0] == [len(life.tick(due + hours * HOUR)) for hours in (1, 4, 8, 9)]
    assert ["a", "lead"] == [alert["to"] for alert in life.alerts if "to" in alert]
    assert ["escalate"] == [asked["transition"] for asked in life.asked]
    life = Life(sla(ladder=[{"after": "0s", "alert": "a"}, {"after": "1h", "alert": "b", "every": "1h"}]))
    life.tick(due + 2 * HOUR)
    slower = [{"after": "0s", "alert": "a"}, {"after": "4h", "alert": "c", "every": "24h"}]
    assert ["MIGRATED"] == life.migrate(due + 2.5 * HOUR, sla(ladder=slower))
    assert [] == life.tick(due + 51 * HOUR)  # the three rungs that were climbed are climbed
    assert ["ESCALATION_TRIGGERED"] == life.tick(due + 52 * HOUR)
    life = Life(sla())
    life.tick(due)
    assert ["MIGRATED"] == life.migrate(due + HOUR / 2, sla(ladder=RUNGS[1:]))
    assert ["ESCALATION_TRIGGERED"] == life.tick(due + HOUR)


@pytest.mark.parametrize(
    "longer", [{"target": "1d"}, {"ladder": [{"after": "1d", "alert": "boss"}]}, {"warning": "1d"}]
)
def test_a_migration_whose_times_the_runs_calendar_cannot_tell_is_refused(longer: dict[str, Any]) -> None:
    """A run stays on the calendar it began under, which may not say what a day is; the newest may."""
    week = {"monday": "09:00-17:00", "tuesday": "09:00-13:00"}
    unclear = compiled({"name": "office", "version": 3, "time_zone": "UTC", "week": week})
    clear = compiled({"name": "office", "version": 4, "time_zone": "UTC", "week": week, "working_day": "8h"})
    life = Life(sla(calendar="office"))
    life.calendars = {("office", 3): unclear, ("office", 4): clear, ("office", None): clear}
    assert ["INVALID_TRANSITION"] == life.migrate(MONDAY + HOUR, sla(calendar="office", **longer))
    assert ["MIGRATED"] == life.migrate(MONDAY + HOUR, sla(calendar="office"))


@pytest.mark.parametrize("state", ["new", "working"])
def test_an_undone_migration_gives_back_the_sla_that_it_ended(state: str) -> None:
    """The same run, due when it was, with the time that went on meanwhile; what it was met with is taken back."""
    life = Life(sla())
    life.move(MONDAY, state)
    before = life.record()
    assert ["MIGRATED", "SLA_MET"] == life.migrate(MONDAY + 3 * HOUR, sla(), states={state: "closed"})
    assert ["MIGRATED"] == life.migrate(MONDAY + 3.5 * HOUR, undo=True)
    assert (1, before.due_at, before.next_at) == (life.record().run, life.record().due_at, life.record().next_at)
    assert {"worked": 3.5 * 3600} == life.record().spent
    assert ["SLA_AT_RISK", "SLA_BREACHED"] == life.tick(MONDAY + 4 * HOUR)
    assert life.workflow == fold(life.history)


def test_an_undo_finds_what_came_due_meanwhile() -> None:
    """An SLA that a migration ended in time is breached by an undo after its due instant."""
    life = Life(sla(ladder=RUNGS[:1]))
    assert ["MIGRATED", "SLA_MET"] == life.migrate(MONDAY + 3 * HOUR, sla(), states={"new": "answered"})
    assert ["MIGRATED", "SLA_AT_RISK", "SLA_BREACHED", "ESCALATION_TRIGGERED"] == life.migrate(
        MONDAY + 5 * HOUR, undo=True
    )
    assert written(MONDAY + 4 * HOUR) == life.record().breached_at
