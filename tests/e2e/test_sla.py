"""Promises kept and broken through real topics: what is published, who is told, and what the service asks itself."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson
import pytest

from contracts.ticks import Tick
from service.app import Endpoints, running
from service.cli.exits import Exit
from service.settings import Settings
from tests.e2e.audit import differences, look
from tests.e2e.outside import Put, all_decided, command, creation, define, producer, put, read_json, rows, send
from tests.e2e.terminal import Terminal
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

NEVER = """
name: lab.never
version: 1
time_zone: UTC
week: {DAY: "00:00-00:01"}
"""


async def test_promises_are_broken_once_and_whoever_must_hears_of_it(
    settings: Settings, endpoints: Endpoints, terminal: Terminal
) -> None:
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

        await assert_eventually("escalated", state)
        await all_decided(settings, endpoints)

        await assert_eventually("lab-lead", lambda: told_whom(settings, endpoints))
        alerts = await read_json(endpoints, settings.topics.alerts)
        events = await read_json(endpoints, settings.topics.events)
        seen = await look(settings, endpoints)
    # Where the machine is slow the warning and the breach are found at once: then the breach alone tells.
    assert [("SLA_AT_RISK", None), ("ESCALATION_TRIGGERED", "lab-lead")][-len(alerts) :] == [
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

    (broken,) = (await terminal("why", late, "--json")).json[0]["slas"]
    assert ("breached", True, "repeat the sample") == (broken["status"], broken["open"], broken["impact"])
    assert {"received", "escalated"} == broken["by_state"].keys()
    parts = [length for spent in broken["by_state"].values() for length in spent.values()]
    assert broken["passed_seconds"] == pytest.approx(sum(parts)) == pytest.approx(sum(broken["spent"].values()))
    assert broken["over_seconds"] == pytest.approx(broken["passed_seconds"] - 2)
    assert [("SLA_AT_RISK", 0), ("SLA_BREACHED", 0), ("ESCALATION_TRIGGERED", 1), ("ESCALATION_TRIGGERED", 2)] == [
        (step["kind"], step["rung"]) for step in broken["steps"]
    ]
    said = (await terminal("why", late)).out
    assert f"it was due {broken['due_at']}: 2s from {broken['started_at']}" in said
    assert "so far: repeat the sample" in said
    assert "worked in received" in said
    assert ": escalate: received to escalated, by command " in said
    assert ": test: received to tested, by command " in (await terminal("why", met)).out
    waiting = (await terminal("why", held)).out
    assert "SLA testing is on track\n  not due while its state holds it: 2s from " in waiting
    assert " held in shelved" in waiting
    assert "breached, due " in (await terminal("get", late)).out
    assert [late] == [each["workflow_id"] for each in (await terminal("list", "--sla", "breached", "--json")).json]
    listed = (await terminal("list", "--definition", "lab.sample")).out
    assert {"testing breached", "testing met", "testing on track"} == {
        line.rstrip().split("  ")[-1].strip() for line in listed.splitlines()[1:]
    }


async def test_recorded_promises_are_judged_again(settings: Settings, endpoints: Endpoints, terminal: Terminal) -> None:
    """Nothing differs under the target they had; under another, or in other hours, what was broken is kept."""
    late, met = (f"{name}-{uuid4()}" for name in ("late", "met"))
    await define(endpoints, SAMPLE)
    async with running(settings, endpoints):
        async with producer(endpoints) as opened:
            for body in (creation(late, "lab.sample"), creation(met, "lab.sample"), command(met, transition="test")):
                record = put(body)
                await opened.send_and_wait(settings.topics.commands, record.value, record.key)

        async def breached() -> int:
            return len(await rows(endpoints, "select from sla where status = 'breached'"))

        await assert_eventually(1, breached)
        await all_decided(settings, endpoints)
    before = await rows(endpoints, "select body from workflow order by workflow_id")
    words = ("definitions", "backtest", "--json", "--of", "lab.sample")

    same = await terminal(*words, "--target", "testing=2s")
    found = same.json[0]["slas"]["testing"]
    assert (Exit.DONE, 2, 0, []) == (same.code, found["runs"], found["differing"], found["examples"])
    assert {"recorded": 1, "candidate": 1} == found["breached"]
    assert found["over_seconds"]["recorded"] == found["over_seconds"]["candidate"] > 0

    longer = await terminal(*words, "--target", "testing=1h")
    found = longer.json[0]["slas"]["testing"]
    assert (Exit.REFUSED, 1, {"recorded": 1, "candidate": 0}) == (longer.code, found["differing"], found["breached"])
    assert [(late, "breached", "open")] == [
        (each["workflow_id"], each["recorded"]["said"], each["candidate"]["said"]) for each in found["examples"]
    ]
    assert late in (await terminal("definitions", "backtest", "--of", "lab.sample", "--target", "testing=1h")).out

    (terminal.folder / "never.yaml").write_text(
        NEVER.replace("DAY", f"{datetime.now(UTC) + timedelta(days=3):%A}".lower()), "utf-8"
    )
    assert "applied" in (await terminal("calendars", "apply", "never.yaml")).out
    never = await terminal(*words, "--calendar", "lab.never@1")
    found = never.json[0]["slas"]["testing"]
    assert ({"recorded": 1, "candidate": 0}, 0) == (found["breached"], found["over_seconds"]["candidate"])
    for asked, said in (
        (("--calendar", "lab.ever"), "no calendar lab.ever"),
        (("--calendar", "lab.never@7"), "there is no calendar lab.never version 7"),
        (("--target", "tasting=1h"), "promises no SLA tasting to these workflows: it has testing"),
    ):
        refused = await terminal(*words, *asked)
        assert (Exit.REFUSED, True) == (refused.code, said in refused.err)
    assert before == await rows(endpoints, "select body from workflow order by workflow_id")


LAB = """
name: lab.stat
version: 1
definition: polaris.task
sla: {name: turnaround, service_areas: [lab], target: 1s, warning: 0s, holds: [blocked]}
"""


async def test_promises_by_configuration_reach_running_workers(
    settings: Settings, endpoints: Endpoints, terminal: Terminal
) -> None:
    """The defaults are there; one that is applied while a worker runs counts for what comes after, until retired."""
    assert Exit.DONE == (await terminal("db", "migrate")).code
    shipped = [(each["name"], each["sla"]) for each in (await terminal("slas", "list", "--json")).json]
    assert [(f"polaris.{name}", name) for name in ("assessment", "intake", "review")] == shipped
    async with running(settings, endpoints), producer(endpoints) as opened:

        async def create(service_area: str, kind: str) -> str:
            name = f"task-{uuid4()}"
            body = creation(name, "polaris.task") | {"service_area": service_area, "type": kind}
            record = put(body)
            await opened.send_and_wait(settings.topics.commands, record.value, record.key)
            return name

        async def promised(name: str) -> set[tuple[str, str]]:
            found = await rows(endpoints, "select body from workflow where workflow_id = $1", name)
            slas = orjson.loads(found[0]["body"]).get("slas", {}) if found else {}
            return {(each, record["configured"]) for each, record in slas.items()}

        review = await create("lab", "review")
        await assert_eventually({("review", "polaris.review")}, lambda: promised(review))
        (account,) = (await terminal("why", review, "--json")).json[0]["slas"]
        assert (7200, "polaris.review", 1) == (
            account["target_seconds"],
            account["configured"],
            account["configured_version"],
        )

        assert ", by configuration polaris.review version 1\n" in (await terminal("why", review)).out
        file = terminal.folder / "lab.yaml"
        file.write_text(LAB, "utf-8")
        assert "lab.stat version 1 applied\n" == (await terminal("slas", "apply", "lab.yaml", "--by", "ann")).out
        assert LAB == (await terminal("slas", "show", "lab.stat")).out

        async def reached() -> str:
            name = await create("lab", "any")
            await all_decided(settings, endpoints)
            return "promised" if ("turnaround", "lab.stat") in await promised(name) else "not promised"

        await assert_eventually("promised", reached)

        async def breached() -> set[str]:
            return {row["name"] for row in await rows(endpoints, "select name from sla where status = 'breached'")}

        await assert_eventually({"turnaround"}, breached)
        assert {("review", "polaris.review")} == await promised(review)

        file.write_text(LAB.replace("version: 1", "version: 2\nretired: true"), "utf-8")
        assert Exit.DONE == (await terminal("slas", "apply", "lab.yaml")).code

        await assert_eventually("not promised", reached)

        async def pending() -> int:
            return len(await rows(endpoints, "select from sla where name = 'turnaround' and status <> 'breached'"))

        await assert_eventually(0, pending)  # none is breached while topics and tables are read
        await all_decided(settings, endpoints)
        seen = await look(settings, endpoints)
    assert [] == differences(seen)
    same = await terminal("definitions", "backtest", "--json", "--of", "polaris.task", "--target", "turnaround=1s")
    found = same.json[0]["slas"]
    assert (Exit.DONE, {"review", "turnaround"}) == (same.code, found.keys())
    assert found["turnaround"]["breached"]["recorded"] == found["turnaround"]["breached"]["candidate"] > 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("holds: [blocked]", "holds: [asleep]"), "polaris.task version 1 has no state asleep"),
        (("target: 1s", "target: 1s, calendar: nobody"), "there is no calendar nobody"),
        (("target: 1s", "target: 0s"), "it takes no time"),
        (("definition: polaris.task", "definition: polaris.task\nkind: task"), "give definition or kind"),
        (("sla:", "hours: 4\nsla:"), "UNKNOWN_CLAUSE"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
async def test_a_promise_that_could_not_be_kept_is_not_applied(
    terminal: Terminal, change: tuple[str, str], said: str
) -> None:
    """What a worker would stumble over is said before."""
    await terminal("db", "migrate")
    (terminal.folder / "lab.yaml").write_text(LAB.replace(*change), "utf-8")
    refused = await terminal("slas", "apply", "lab.yaml")
    assert (Exit.REFUSED, True) == (refused.code, said in refused.err)


async def told_whom(settings: Settings, endpoints: Endpoints) -> str:
    """Return whom the last alert tells."""
    alerts = await read_json(endpoints, settings.topics.alerts)
    return str(alerts[-1].get("to")) if alerts else "nobody"


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

        await assert_eventually(["breached"], status)


def by_workflow(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return each workflow's events in their order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for event in sorted(events, key=lambda event: event["sequence"]):
        found.setdefault(event["workflow_id"], []).append(event)
    return found


@pytest.mark.parametrize("end", [0, 10**12], ids=["of no commands", "of more commands than there are"])
async def test_a_forged_tick_is_a_dead_letter_and_breaks_nothing(
    settings: Settings, endpoints: Endpoints, end: int
) -> None:
    """An hour ahead, on each partition; what is promised for half an hour stays, what is due breaks in its time."""
    await define(endpoints, SAMPLE.replace("target: 2s", "target: 30m"))
    await define(endpoints, SAMPLE.replace("lab.sample", "lab.quick"))
    parts = range(settings.partitions)
    forged = [
        Tick(partition=part, time=datetime.now(UTC) + timedelta(hours=1), commands_end_offset=end, emitter="a stranger")
        for part in parts
    ]
    async with running(settings, endpoints):
        await send(endpoints, settings.topics.commands, [put(creation("slow", "lab.sample"))])
        await all_decided(settings, endpoints)
        topic = settings.topics.scheduler
        await send(
            endpoints, topic, [Put(each.model_dump_json().encode(), partition=each.partition) for each in forged]
        )

        async def aside() -> set[int]:
            letters = await read_json(endpoints, settings.topics.dead_letters)
            return {letter["partition"] for letter in letters if letter["reason"] == "BAD_TICK"}

        await assert_eventually(set(parts), aside)
        await send(endpoints, settings.topics.commands, [put(creation(f"quick-{part}", "lab.quick")) for part in parts])

        async def broken() -> set[str]:
            found = await rows(endpoints, "select workflow_id from sla where status = 'breached'")
            return {row["workflow_id"] for row in found}

        await assert_eventually({f"quick-{part}" for part in parts}, broken)
        statuses = await rows(endpoints, "select status from sla where workflow_id = 'slow'")
    assert ["on_track"] == [row["status"] for row in statuses]
