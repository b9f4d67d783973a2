"""An hour in which no worker runs, by logical time: what passed is recorded once, and only the highest of it alerts."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from domain.instants import read as instant
from domain.instants import written
from service.app import Endpoints
from service.logical_time import LogicalTime, logical_time
from service.settings import Settings
from tests.e2e.audit import differences, look
from tests.e2e.outside import (
    all_decided,
    command,
    creation,
    define,
    put,
    read_json,
    rows,
    send,
    value,
    worker_process,
)
from tests.eventually import assert_eventually

pytestmark = pytest.mark.stack

SAMPLE = """
name: lab.sample
version: 1
states: {received: {initial: true}, escalated: {}, tested: {}, reported: {terminal: true}}
transitions:
  - {name: test, from: [received, escalated], to: tested}
  - {name: escalate, from: received, to: escalated}
  - {name: report, from: tested, to: reported}
slas:
  - name: testing
    target: 30m
    stops: [tested]
    ladder:
      - {after: 0s, alert: lab-lead}
      - {after: 10m, alert: head, priority: high}
      - {after: 20m, alert: director, transition: escalate}
      - {after: 40m, alert: minister}
"""
NINE = datetime(2030, 1, 7, 9, tzinfo=UTC)
LEFT_AT, BACK_AT, LAST_AT = (NINE + timedelta(minutes=minutes) for minutes in (2, 65, 70))
"""When the worker goes, when another comes, and when the ladder's last rung is due."""
MINUTE = timedelta(minutes=1)
NAMES = ("left", "late", "met")
Step = tuple[str, int | None, int | None, int | None]
"""An event's type, its rung, and in minutes after nine when it was due and when it was recorded."""


@pytest.mark.parametrize("ticks_go_on", [True, False], ids=["ticks went on", "no ticks"])
async def test_an_hour_without_a_worker_is_made_good_at_once(
    settings: Settings, endpoints: Endpoints, tmp_path: Path, *, ticks_go_on: bool
) -> None:
    """One sample is left lying, two are tested meanwhile, in time and too late; the ladder then goes on by itself."""
    found = settings.model_copy(update={"clock": "logical"})
    await define(endpoints, SAMPLE)
    reaching = partial(_due, endpoints)
    async with (
        logical_time(endpoints.bootstrap_servers, found.topics, name="a test") as time,
        worker_process(found, endpoints, tmp_path / "worker.log") as worker,
    ):
        await assert_eventually(found.partitions, worker.owned)
        await _send(found, endpoints, *(_at(NINE, creation(name, "lab.sample")) for name in NAMES))
        await all_decided(found, endpoints)
        await time.reach(LEFT_AT, reaching)
        await worker.kill()
        before = await _decided(endpoints)
        if ticks_go_on:
            await _tick_by_tick(time)
        await _send(
            found,
            endpoints,
            _at(NINE + 20 * MINUTE, command("met", transition="test")),
            _at(NINE + 55 * MINUTE, command("late", transition="test")),
        )
        assert before == await _decided(endpoints)

        await worker.start()
        await all_decided(found, endpoints)
        assert 0 == await time.reach(BACK_AT, reaching, seconds_max=60)
        await all_decided(found, endpoints)
        events, alerts = await _told(found, endpoints)
        assert _passed(at=65) == _steps(events, "left")
        assert _passed(at=55) == _steps(events, "late")
        assert [("SLA_AT_RISK", None, 15, 20), ("SLA_MET", None, None, 20)] == _steps(events, "met")
        assert (["director"], ["director"], []) == tuple(_heard(alerts, name) for name in NAMES)
        await time.reach(LAST_AT - timedelta(microseconds=1), reaching)
        await time.reach(LAST_AT, reaching, seconds_max=60)
        await all_decided(found, endpoints)
        events, alerts = await _told(found, endpoints)
        seen = await look(found, endpoints)
        assert 0 == await worker.stop()
    assert [*_passed(at=65), ("ESCALATION_TRIGGERED", 4, 70, 70)] == _steps(events, "left")
    assert (["director", "minister"], ["director"], []) == tuple(_heard(alerts, name) for name in NAMES)
    assert _passed(at=55) == _steps(events, "late")
    assert Counter(CREATED=1, PRIORITY_CHANGED=1, TRANSITION=1) == _changes(events, "left")
    assert [] == differences(seen)


def _passed(*, at: int) -> list[Step]:
    """Return what passed in the outage, as it is recorded at a minute."""
    return [
        ("SLA_AT_RISK", None, 15, at),
        ("SLA_BREACHED", None, 30, at),
        ("ESCALATION_TRIGGERED", 1, 30, at),
        ("ESCALATION_TRIGGERED", 2, 40, at),
        ("ESCALATION_TRIGGERED", 3, 50, at),
    ]


async def _tick_by_tick(time: LogicalTime) -> None:
    """Leave a tick a minute in the topic while no worker reads it."""
    at = LEFT_AT
    while (at := at + MINUTE) < BACK_AT:
        await time.tick(at)


async def _due(endpoints: Endpoints, until: datetime) -> int:
    return int(await value(endpoints, "select count(*) from timer where due_at <= $1", until))


def _at(when: datetime, body: dict[str, Any]) -> dict[str, Any]:
    return body | {"occurred_at": written(when)}


async def _send(settings: Settings, endpoints: Endpoints, *bodies: dict[str, Any]) -> None:
    await send(endpoints, settings.topics.commands, [put(body) for body in bodies])


async def _decided(endpoints: Endpoints) -> list[tuple[Any, ...]]:
    """Return how far each partition is."""
    found = await rows(endpoints, "select part, turn, next_offset, tick_time from partition order by part")
    return [tuple(row) for row in found]


async def _told(settings: Settings, endpoints: Endpoints) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return await read_json(endpoints, settings.topics.events), await read_json(endpoints, settings.topics.alerts)


def _steps(events: list[dict[str, Any]], workflow_id: str) -> list[Step]:
    """Return what time did to a workflow's SLA, in order."""
    return [
        (
            event["event_type"],
            event["details"].get("rung"),
            _minute(event["details"].get("step_due_at")),
            _minute(event["timestamp"]),
        )
        for event in sorted(events, key=lambda event: event["sequence"])
        if event["workflow_id"] == workflow_id and event["category"] == "sla"
    ]


def _changes(events: list[dict[str, Any]], workflow_id: str) -> Counter[str]:
    """Return what else became of a workflow."""
    own = (event for event in events if event["workflow_id"] == workflow_id and event["category"] != "sla")
    return Counter(event["event_type"] for event in own)


def _minute(text: str | None) -> int | None:
    return None if text is None else (instant(text) - NINE) // MINUTE


def _heard(alerts: list[dict[str, Any]], workflow_id: str) -> list[str]:
    """Return who was told about a workflow."""
    return [alert.get("to", alert["kind"]) for alert in alerts if alert["workflow_id"] == workflow_id]
