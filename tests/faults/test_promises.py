"""The history checker finds each kind of broken promise in time, planted in a clean history of SLAs."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from domain.canonical import canonical
from tests.faults.history import FOLLOW_UP, Record, check
from tests.faults.published import Kind
from tests.faults.replay import Replay
from tests.faults.synthetic import Told, promised, samples

Plant = Callable[[Told], object]
HIGHEST = 3
"""Of the ladder's rungs the first and the last tell somebody."""


def breached_twice(told: Told) -> None:
    """Suppose a rung is told of as if the breach had come again."""
    _alter(told, _event(told, "ESCALATION_TRIGGERED"), event_type="SLA_BREACHED")


def climbed_twice(told: Told) -> None:
    """Suppose the second rung is told of as the first."""
    event = _event(told, "ESCALATION_TRIGGERED", rung=2)
    _alter(told, event, details=event["details"] | {"rung": 1})


def never_breached(told: Told) -> None:
    """Suppose a breach is left out, and the ladder is climbed all the same."""
    _leave_out(told, _event(told, "SLA_BREACHED"))


def last_rung_left_out(told: Told) -> None:
    """Suppose the record says that the ladder was climbed to its end, and no event tells of it."""
    _leave_out(told, _event(told, "ESCALATION_TRIGGERED", rung=HIGHEST))


def met_after_all(told: Told) -> None:
    """Suppose an SLA is told of as met after its breach."""
    event = _event(told, "ESCALATION_TRIGGERED")
    _alter(told, event, event_type="SLA_MET", details={"sla": event["details"]["sla"]})


def too_early(told: Told) -> None:
    """Suppose a breach is decided before its due instant."""
    _alter(told, _event(told, "SLA_BREACHED"), timestamp="2026-11-21T09:30:01.000000Z")


def lower_alert(told: Told) -> None:
    """Suppose of several steps not the highest is told of."""
    alert = next(body for body in _bodies(told.alerts) if body.get("rung") == HIGHEST)
    lower = next(
        body
        for body in _bodies(told.events)
        if body["workflow_id"] == alert["workflow_id"]
        and body["timestamp"] == alert["timestamp"]
        and body["details"].get("sla") == alert["sla"]
    )
    assert lower["event_id"] != alert["event_id"]
    _alter_alert(told, alert, event_id=lower["event_id"], rung=None)


def rung_that_nobody_hears_of(told: Told) -> None:
    """Suppose the alert of a rung that always tells is left out."""
    _leave_alert_out(told, next(body for body in reversed(list(_bodies(told.alerts))) if body.get("rung") == HIGHEST))


def breach_that_nobody_hears_of(told: Told) -> None:
    """Suppose the alert of a warning is left out."""
    _leave_alert_out(told, next(body for body in _bodies(told.alerts) if body["kind"] == "SLA_AT_RISK"))


def alert_of_nothing(told: Told) -> None:
    """Suppose an alert is of an event that is not there."""
    _alter_alert(told, next(_bodies(told.alerts)), event_id=str(UUID(int=0)))


def left_open(told: Told) -> None:
    """Suppose ticks went on for an hour, and an SLA that was due meanwhile is as it was."""
    told.partitions[0]["tick_time"] += timedelta(hours=1)


def follow_up_lost(told: Told) -> None:
    """Suppose what a rung asks for does not reach the commands topic."""
    told.commands = [record for record in told.commands if record is not _asked(told)]


def follow_up_of_nobody(told: Told) -> None:
    """Suppose the service's own command is in the topic, and no rung asked for it."""
    body = orjson.loads(_asked(told).value or b"") | {"command_id": str(UUID(int=0))}
    told.commands.append(replace(_asked(told), offset=told.commands[-1].offset + 1, value=orjson.dumps(body)))


def row_of_another_status(told: Told) -> None:
    """Suppose the table says that an SLA is open that has ended."""
    next(row for row in told.slas if not row["is_open"])["is_open"] = True


def no_row(told: Told) -> None:
    """Suppose a run has no row."""
    del told.slas[0]


def no_timer(told: Told) -> None:
    """Suppose nothing wakes an SLA."""
    del told.timers[0]


def other_timer(told: Told) -> None:
    """Suppose an SLA is woken too late."""
    told.timers[0]["due_at"] += timedelta(hours=1)


PLANTED: dict[Plant, set[Kind]] = {
    breached_twice: {Kind.STEP_TWICE},
    climbed_twice: {Kind.STEP_TWICE},
    never_breached: {Kind.STEP_MISSING},
    last_rung_left_out: {Kind.STEP_MISSING},
    met_after_all: {Kind.MET_AND_BREACHED},
    too_early: {Kind.TOO_EARLY},
    lower_alert: {Kind.WRONG_ALERT},
    rung_that_nobody_hears_of: {Kind.WRONG_ALERT},
    breach_that_nobody_hears_of: {Kind.WRONG_ALERT},
    alert_of_nothing: {Kind.WRONG_ALERT},
    left_open: {Kind.OVERDUE},
    follow_up_lost: {Kind.LOST},
    follow_up_of_nobody: {Kind.INVENTED},
    row_of_another_status: {Kind.NOT_THE_FOLD},
    no_row: {Kind.NOT_THE_FOLD},
    no_timer: {Kind.NOT_THE_FOLD},
    other_timer: {Kind.NOT_THE_FOLD},
}


async def test_a_clean_history_of_promises_passes() -> None:
    """Nothing is found where nothing is wrong, and there was enough of everything."""
    findings = check((await promised()).history())
    assert [] == findings.violations
    looked_at = ("SLAs", "warnings", "breaches", "rungs", "met", "alerts", "alerts told", "follow-ups")
    assert {} == {name: findings.counts[name] for name in looked_at if findings.counts[name] < 5}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
async def test_each_planted_violation_is_found(plant: Plant) -> None:
    """One thing is made wrong; it is found under its name."""
    told = await promised()
    plant(told)
    found = check(told.history()).kinds
    assert PLANTED[plant] == found & PLANTED[plant]


async def test_a_follow_up_may_come_again() -> None:
    """It is sent before the transaction that tells so: a copy is answered as a repeat, and asks for nothing more."""
    told = await promised()
    record = _asked(told)
    told.commands.append(replace(record, offset=told.commands[-1].offset + 1))
    assert {Kind.NO_OUTCOME, Kind.UNFINISHED} >= check(told.history()).kinds


async def test_decisions_about_promises_come_out_the_same() -> None:
    """Commands with what they mean for SLAs, and what time alone did, are decided again as they were."""
    told = await promised()
    replay = Replay({0: UUID(int=1)}, [samples()])
    assert [] == await replay.again(told.journal, told.commands)
    assert replay.counts["decided again"] > 300
    assert replay.counts["lapses decided again"] > 50


@pytest.mark.parametrize("event_type", ["SLA_BREACHED", "SLA_MET"])
async def test_a_forged_record_is_found_by_deciding_again(event_type: str) -> None:
    """An event of time, or of a command, says of its SLA what did not come of it; store and topic agree on it."""
    told = await promised()
    event = _event(told, event_type)
    (name, record), *_ = event["slas"].items()
    _alter(told, event, slas={name: record | {"impact": "none"}})
    found = await Replay({0: UUID(int=1)}, [samples()]).again(told.journal, told.commands)
    assert Kind.DECIDED_OTHERWISE in {each.kind for each in found}


def _bodies(records: list[Record]) -> Iterator[dict[str, Any]]:
    for record in records:
        yield orjson.loads(record.value or b"")


def _event(told: Told, event_type: str, **details: object) -> dict[str, Any]:
    return next(
        body
        for body in _bodies(told.events)
        if body["event_type"] == event_type and details.items() <= body["details"].items()
    )


def _asked(told: Told) -> Record:
    return next(record for record in told.commands if record.header(FOLLOW_UP) is not None)


def _alter(told: Told, event: dict[str, Any], **fields: object) -> None:
    """Change an event in the store and on its topic alike."""
    _rewrite(told, told.events, event, canonical(event | fields))


def _alter_alert(told: Told, alert: dict[str, Any], **fields: object) -> None:
    changed = {name: said for name, said in (alert | fields).items() if said is not None}
    _rewrite(told, told.alerts, alert, canonical(changed))


def _rewrite(told: Told, records: list[Record], body: dict[str, Any], value: bytes) -> None:
    before = canonical(body)
    for number, record in enumerate(records):
        if record.value == before:
            records[number] = replace(record, value=value)
    for row in told.journal:
        if row["event"] == before:
            row["event"] = value


def _leave_out(told: Told, event: dict[str, Any]) -> None:
    told.events = [record for record in told.events if record.value != canonical(event)]
    told.journal = [row for row in told.journal if row["event"] != canonical(event)]


def _leave_alert_out(told: Told, alert: dict[str, Any]) -> None:
    told.alerts = [record for record in told.alerts if record.value != canonical(alert)]
    told.journal = [row for row in told.journal if row["event"] != canonical(alert)]
