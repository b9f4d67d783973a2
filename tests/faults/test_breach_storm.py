"""A storm of breaches while workers and the tick emitter are struck: each promise is broken once, and told of once."""

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from service.app import Endpoints
from service.settings import Settings
from tests.e2e.outside import define, put, rows
from tests.eventually import assert_eventually
from tests.faults.evidence import opened
from tests.faults.faults import kill_anywhere, no_faketime, shift_clock
from tests.faults.history import Findings
from tests.faults.stage import Cast, Stage, staged
from tests.faults.storm import LADDER, SAMPLE, judged, storm

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


def acting(seed: int, *, hands: int = 3, per_second: int = 80) -> Cast:
    """Return who acts: a client that sends a storm."""
    return Cast(seed=seed, hands=hands, per_second=per_second, stream=map(put, storm(seed)))


async def test_each_promise_is_broken_once_whatever_strikes(
    settings: Settings, endpoints: Endpoints, tmp_path: Path
) -> None:
    """Workers are killed, stand still past their session and are joined by another, the emitter is killed."""
    await define(endpoints, SAMPLE)
    async with staged(settings, endpoints, tmp_path, acting(21, hands=2)) as stage:
        await stage.until_shared()
        await kill_anywhere(stage)
        await stage.until_well()
        await stand_still(stage)
        await kill_emitter(stage)
        await stage.until_well()
        await stage.join()
        await stage.until_shared()
        bears(await judged(stage), stage)


async def stand_still(stage: Stage) -> None:
    """Let a worker go on only when all that it owned belongs to others."""
    hand = stage.chance.choice(stage.hands)
    hand.send(signal.SIGSTOP)
    await stage.until_owned_without(hand)
    await stage.until_moving()
    hand.send(signal.SIGCONT)


async def kill_emitter(stage: Stage) -> None:
    """Kill the worker that emits ticks, and wait until another does."""

    async def leading() -> bool:
        return any(hand.leads for hand in stage.hands)

    await assert_eventually(expected=True, actual=leading)
    for hand in stage.hands:
        if hand.leads:
            hand.send(signal.SIGKILL)
            await hand.gone()
            await hand.begin()
    await assert_eventually(expected=True, actual=leading)


def bears(findings: Findings, stage: Stage) -> None:
    """Assert that nothing is wrong, that there was enough to look at, and that the topics say so by themselves."""
    assert [] == findings.violations[:20]
    looked_at = ("SLAs", "breaches", "rungs", "met", "alerts", "follow-ups", "lapses decided again")
    assert {} == {name: findings.counts[name] for name in looked_at if findings.counts[name] < 10}
    taken = Counter(
        (
            event["workflow_id"],
            event["details"]["sla"],
            run_of(event),
            event["event_type"],
            event["details"].get("rung"),
        )
        for event in published(stage, "events")
        if event["event_type"] in {"SLA_BREACHED", "ESCALATION_TRIGGERED"}
    )
    assert {} == {step: times for step, times in taken.items() if times != 1}
    breached = {step[:3] for step in taken if step[3] == "SLA_BREACHED"}
    assert {"testing"} == {sla for _, sla, _ in breached}
    rungs: dict[tuple[str, str, int], list[int]] = {run: [] for run in breached}
    for *run, _, rung in taken:
        if rung is not None:
            rungs[run[0], run[1], run[2]].append(rung)
    assert {} == {run: found for run, found in rungs.items() if found != list(range(1, len(found) + 1))}
    assert LADDER == max(map(len, rungs.values()))
    told = Counter(alert["alert_id"] for alert in published(stage, "alerts"))
    assert {} == {alert: times for alert, times in told.items() if times != 1}


def run_of(event: dict[str, Any]) -> int:
    """Return which run of its SLA an event is of."""
    return int(event["slas"][event["details"]["sla"]]["run"])


def published(stage: Stage, topic: str) -> list[dict[str, Any]]:
    """Return what a topic held at the end."""
    return [orjson.loads(record.value or b"{}") for record in getattr(opened(stage.folder / "evidence"), topic)]


async def test_what_passed_while_no_worker_was_there_is_recorded_once_and_the_highest_told(
    settings: Settings, endpoints: Endpoints, tmp_path: Path
) -> None:
    """All workers are killed until whole ladders are due: each rung is there, and one alert for those of an outage."""
    await define(endpoints, SAMPLE)
    async with staged(settings, endpoints, tmp_path, acting(22, hands=2, per_second=120)) as stage:
        await stage.until_shared()
        for hand in stage.hands:
            hand.send(signal.SIGKILL)
            await hand.gone()
        await stage.sender.settle()
        await until_due(endpoints)
        for hand in stage.hands:
            await hand.begin()
        bears(await judged(stage), stage)
        climbed = [event for event in published(stage, "events") if event.get("details", {}).get("rung") == LADDER]
        at_once = Counter((alert["workflow_id"], alert["timestamp"]) for alert in published(stage, "alerts"))
        in_outage = [event for event in climbed if wholly(event, published(stage, "events"))]
        assert len(in_outage) >= 10
        assert {1} == {at_once[event["workflow_id"], event["timestamp"]] for event in in_outage}


async def until_due(endpoints: Endpoints) -> None:
    """Wait until the last rung of every sample's ladder is due by the database's clock."""

    async def due() -> bool:
        found = await rows(
            endpoints, "select coalesce(max(started_at) + interval '10 s' < clock_timestamp(), false) as due from sla"
        )
        return bool(found[0]["due"])

    await assert_eventually(expected=True, actual=due, poll_seconds=0.3)


def wholly(last: dict[str, Any], events: list[dict[str, Any]]) -> bool:
    """Say whether the breach and the last rung of a run were recorded in one moment."""
    return any(
        (event["event_type"], event["workflow_id"], event["timestamp"])
        == ("SLA_BREACHED", last["workflow_id"], last["timestamp"])
        for event in events
    )


@pytest.mark.slow
@pytest.mark.skipif(no_faketime() is not None, reason="libfaketime is not here")
async def test_a_workers_own_clock_breaks_no_promise(settings: Settings, endpoints: Endpoints, tmp_path: Path) -> None:
    """Two of three are an hour off, one early, one late: breaches come by the database's clock, none too early."""
    await define(endpoints, SAMPLE)
    async with staged(settings, endpoints, tmp_path, acting(24)) as stage:
        await stage.until_shared()
        assert 2 == await shift_clock(stage)
        await stage.until_well()
        bears(await judged(stage), stage)
