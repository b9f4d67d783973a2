"""SLAs of a busy service: at every moment each has its timer, and reports read what happened."""

import asyncio
import random
from functools import partial
from typing import Any

import pytest

from service.app import Endpoints, Service, running
from service.settings import Settings
from service.store.reconcile import reconcile
from service.store.verify import verify
from tests.e2e.outside import all_decided, command, creation, define, producer, put, rows
from tests.eventually import assert_eventually

pytestmark = pytest.mark.stack
RUSH = """
name: lab.rush
version: 1
states: {received: {initial: true}, shelved: {}, tested: {}, reported: {terminal: true}}
transitions:
  - {name: test, from: received, to: tested}
  - {name: shelve, from: received, to: shelved}
  - {name: fetch, from: shelved, to: received}
  - {name: again, from: tested, to: received}
  - {name: report, from: tested, to: reported}
slas:
  - {name: testing, target: 1s, warning: 1s, holds: [shelved], stops: [tested], ladder: [{after: 1s, alert: lead}]}
  - {name: whole, target: 1h, stops: [reported], impact: contract}
"""
LOOKS = 5


async def _rush(settings: Settings, endpoints: Endpoints, enough: asyncio.Event) -> None:
    """Send creations, moves and what changes SLAs, some hundred a second."""
    chance = random.Random(7)
    names: list[str] = []
    async with producer(endpoints) as opened:
        while not enough.is_set():
            bodies: list[dict[str, Any]] = []
            for _ in range(30):
                if chance.random() < 0.2 or not names:
                    names.append(f"s-{len(names)}")
                    bodies.append(creation(names[-1], "lab.rush", service_area="lab"))
                    continue
                name, kind = chance.choice(names), chance.random()
                if kind < 0.1:
                    bodies.append(command(name, chance.choice(("pause_sla", "resume_sla")), sla="testing", reason="so"))
                elif kind < 0.2:
                    bodies.append(command(name, "extend_sla", sla="whole", seconds=5, reason="so"))
                else:
                    way = chance.choice(("test", "shelve", "fetch", "again", "report"))
                    bodies.append(command(name, transition=way))
            for body in bodies:
                record = put(body)
                await opened.send(settings.topics.commands, record.value, record.key)
            await opened.flush()
            await asyncio.sleep(0.1)


async def _broken(endpoints: Endpoints, enough: int) -> int:
    """Count the breaches, up to what is enough."""
    ((count,),) = await rows(endpoints, "select count(*) from sla where status = 'breached'")
    return min(int(count), enough)


async def _shown(service: Service) -> set[str]:
    """Return the statuses of which a scrape says how many there are."""
    return {
        sample.labels["status"]
        for family in service.telemetry.registry.collect()
        for sample in family.samples
        if sample.name == "turnstile_sla_open"
    }


async def test_a_busy_service_reconciles_at_every_moment(settings: Settings, endpoints: Endpoints) -> None:
    """While commands start, hold, extend and stop SLAs and ticks break them, and when all is quiet."""
    await define(endpoints, RUSH)
    enough, found = asyncio.Event(), []
    async with running(settings, endpoints) as service:
        sending = asyncio.create_task(_rush(settings, endpoints, enough))
        try:
            for look in range(LOOKS):
                due = 30 * look + 1
                await assert_eventually(due, partial(_broken, endpoints, due))
                found.append(await reconcile(endpoints.database_url))
        finally:
            enough.set()
            await sending
        await all_decided(settings, endpoints)
        await assert_eventually({"on_track", "at_risk", "breached"}, partial(_shown, service))
        scraped = service.telemetry.registry.get_sample_value
        lags = [scraped("turnstile_tick_lag_seconds", {"part": str(part)}) for part in range(settings.partitions)]
    assert None not in lags
    assert scraped("sla_records_breached_total") == len(
        await rows(endpoints, "select from journal where type like '%.SLA_BREACHED'")
    )
    found.append(await reconcile(endpoints.database_url))
    assert [{}] * (LOOKS + 1) == [each.found for each in found], [each.first for each in found]
    assert found[-1].rows > found[0].rows
    assert (await verify(endpoints.database_url)).sound
    kinds = await rows(endpoints, "select sla, status, is_open from sla_metrics group by 1, 2, 3")
    assert {("testing", "met", False), ("testing", "breached", True), ("whole", "on_track", True)} <= {
        tuple(row) for row in kinds
    }
    breaches = await rows(endpoints, "select is_open, breached_for, rungs from v_sla_breaches")
    assert breaches == sorted(breaches, key=lambda row: (not row["is_open"], -row["breached_for"].total_seconds()))
    for row in await rows(endpoints, "select * from sla_metrics where not is_open and sla = 'testing'"):
        lasted = (row["stopped_at"] - row["started_at"]).total_seconds()
        assert lasted == pytest.approx(float(row["actual_seconds"] + row["held_seconds"]))
        overrun = float(row["actual_seconds"] - row["target_seconds"])
        assert row["status"] == "met" or overrun == pytest.approx(float(row["breach_seconds"]))
