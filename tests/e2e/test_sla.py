"""Promises kept and broken through real topics: what is published, who is told, and what the service asks itself."""

from collections import Counter
from typing import Any
from uuid import uuid4

import pytest

from service.app import Endpoints, running
from service.settings import Settings
from tests.e2e.audit import differences, look
from tests.e2e.outside import all_decided, command, creation, define, producer, put, read_json, rows
from tests.eventually import assert_eventually

pytestmark = pytest.mark.stack

SAMPLE = """
name: lab.sample
version: 1
states: {received: {initial: true}, shelved: {}, tested: {}, escalated: {}, reported: {terminal: true}}
transitions:
  - {name: test, from: [received, escalated], to: tested}
  - {name: shelve, from: received, to: shelved}
  - {name: fetch, from: shelved, to: received}
  - {name: escalate, from: received, to: escalated}
  - {name: report, from: tested, to: reported}
slas:
  - name: testing
    target: 2s
    warning: 1s
    holds: [shelved]
    stops: [tested]
    impact: repeat the sample
    ladder:
      - {after: 0s, alert: lab-lead}
      - {after: 1s, priority: high, transition: escalate}
"""


async def test_promises_are_broken_once_and_whoever_must_hears_of_it(settings: Settings, endpoints: Endpoints) -> None:
    """One is met, one is held, and one breaches, climbs its ladder and is escalated by the service itself."""
    late, met, held = (f"{name}-{uuid4()}" for name in ("late", "met", "held"))
    await define(endpoints, SAMPLE)
    async with running(settings, endpoints):
        async with producer(endpoints) as opened:
            for body in (
                creation(late, "lab.sample"), creation(met, "lab.sample"), creation(held, "lab.sample"),
                command(met, transition="test"), command(held, transition="shelve"),
            ):  # fmt: skip
                record = put(body)
                await opened.send_and_wait(settings.topics.commands, record.value, record.key)

        async def state() -> str:
            found = await rows(endpoints, "select state from workflow where workflow_id = $1", late)
            return str(found[0]["state"]) if found else "not there"

        await assert_eventually("escalated", state, deadline_seconds=30)
        await all_decided(settings, endpoints)

        async def told() -> int:
            return len(await read_json(endpoints, settings.topics.alerts))

        await assert_eventually(2, told, deadline_seconds=30)
        alerts = await read_json(endpoints, settings.topics.alerts)
        events = await read_json(endpoints, settings.topics.events)
        seen = await look(settings, endpoints)
    assert [("SLA_AT_RISK", None), ("ESCALATION_TRIGGERED", "lab-lead")] == [
        (alert["kind"], alert.get("to")) for alert in alerts
    ]
    assert {late} == {alert["workflow_id"] for alert in alerts}
    of = by_workflow(events)
    assert Counter(
        CREATED=1, SLA_AT_RISK=1, SLA_BREACHED=1, ESCALATION_TRIGGERED=2, PRIORITY_CHANGED=1, TRANSITION=1
    ) == (Counter(event["event_type"] for event in of[late]))
    assert ["CREATED", "TRANSITION", "SLA_MET"] == [event["event_type"] for event in of[met]]
    assert ["CREATED", "TRANSITION"] == [event["event_type"] for event in of[held]]
    for history in of.values():
        assert list(range(1, len(history) + 1)) == [event["sequence"] for event in history]
    timers = await rows(endpoints, "select workflow_id from timer")
    statuses = await rows(endpoints, "select workflow_id, status, is_open from sla")
    assert [] == timers
    assert {(late, "breached", True), (met, "met", False), (held, "on_track", True)} == {tuple(row) for row in statuses}
    assert [] == differences(seen)


async def test_time_runs_on_where_the_last_thing_in_the_log_is_the_end_of_a_transaction(
    settings: Settings, endpoints: Endpoints
) -> None:
    """Others may send in transactions, whose ends have offsets too: a tick does not wait for a command after them."""
    kept = f"kept-{uuid4()}"
    await define(endpoints, SAMPLE)
    async with running(settings, endpoints):
        async with producer(endpoints, transactional_id=f"team-{uuid4()}") as opened, opened.transaction():
            record = put(creation(kept, "lab.sample"))
            await opened.send_and_wait(settings.topics.commands, record.value, record.key)

        async def status() -> list[str]:
            found = await rows(endpoints, "select status from sla where workflow_id = $1", kept)
            return [row["status"] for row in found]

        await assert_eventually(["breached"], status, deadline_seconds=20)


def by_workflow(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return each workflow's events in their order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for event in sorted(events, key=lambda event: event["sequence"]):
        found.setdefault(event["workflow_id"], []).append(event)
    return found
