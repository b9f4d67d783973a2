"""Years of promises in seconds: an event log under logical time, judged by a script that shares no code with ours."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from service.app import Endpoints, running
from service.demo.pages import read_page
from service.event_logs.discover import discover, to_yaml
from service.event_logs.read import log_name, read_log
from service.settings import Settings
from tests.e2e.audit import differences, look
from tests.e2e.outside import TURNSTILE, all_decided, environment, read_json, rows, turnstile, value, worker_process
from tests.event_log_files import event_logs, real
from tests.eventually import assert_eventually
from tests.independent_fold import Expected, expected
from tests.independent_slas import Hours, Promise, Run, runs

pytestmark = pytest.mark.stack
NOTHING: list[str] = []
WEEK = (("09:00-13:00", "14:00-18:00"),) * 5 + (("09:00-12:00",), ())
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
CLOSED = frozenset(
    date(year, *day) for year in range(2010, 2025) for day in ((1, 1), (4, 1), (5, 1), (8, 15), (12, 25), (12, 26))
)
HOURS = Hours("Europe/Rome", WEEK, CLOSED)
REAL = Promise(
    16 * 3600,
    starts=("new", "Take in charge ticket"),
    holds=("Wait",),
    stops=("Resolve ticket", "Closed"),
    accounts={"Require upgrade": "waiting", "Create SW anomaly": "person"},
    hours=HOURS,
)
GENERATED = Promise(
    1800,
    starts=("new", "Register request"),
    holds=("Check (urgent)",),
    stops=("Decide", "Notify applicant é"),
    accounts={"Check: documents": "person"},
    hours=HOURS._replace(week=(("00:00-23:30",),) * 7),
)
BEGUN = "select count(*) >= $1 and (select sum(published_seq - 1) from partition) >= $1 from workflow"
Told = tuple[str, datetime, datetime | None, float | None, dict[str, float]]


async def test_an_imported_log_keeps_and_breaks_its_promises_as_the_file_says(
    settings: Settings, endpoints: Endpoints, tmp_path: Path
) -> None:
    """Importer and worker are killed once: each breach is there once, to the second, and all time is accounted for."""
    path = next(path for path in event_logs().values() if path.name.endswith(".xes.gz"))
    promise = REAL if real() else GENERATED
    found = settings.model_copy(update={"clock": "logical"})
    want = expected(path)
    until = max(step.occurred_at for steps in want.steps.values() for step in steps)
    calendar = _written(tmp_path / "hours.calendar.yaml", _calendar(promise.hours))
    definition = _written(tmp_path / "log.yaml", _definition(path, promise))
    words = ("import", str(path), "--definition", str(definition), "--tick-every", "24", "--json")
    assert 0 == (await turnstile(found, endpoints, "calendars", "apply", str(calendar)))[0]
    async with worker_process(found, endpoints, tmp_path / "worker.log") as worker:
        await _cut_short(found, endpoints, words, len(want.steps) // 10)
        await worker.kill()
        await worker.start()
        code, printed = await turnstile(found, endpoints, *words)
        assert (0, {}) == (code, orjson.loads(printed)["rejected"])
        await all_decided(found, endpoints)
        events = await read_json(endpoints, found.topics.events)
        seen = await look(found, endpoints)
        assert 0 == await worker.stop()
    assert 0 < orjson.loads(printed)["duplicates"]
    stored = await rows(endpoints, "select workflow_id, name, run, status, body from sla")
    assert NOTHING == _differing(want, promise, [dict(row) for row in stored], until, log_name(path))
    breaches = [event["workflow_id"] for event in events if event["event_type"] == "SLA_BREACHED"]
    assert Counter(row["workflow_id"] for row in stored if row["status"] == "breached") == Counter(breaches)
    assert 0 < len(breaches) < len(stored)
    assert {"worked", "held", "closed"} <= {name for row in stored for name in orjson.loads(row["body"])["spent"]}
    assert [] == differences(seen)
    if real():
        print(f"{len(stored)} runs, {len(breaches)} breaches")  # noqa: T201 - figures for the reader of a run


async def test_a_simulated_week_shows_how_its_promises_fared(settings: Settings, endpoints: Endpoints) -> None:
    """Every workflow's promise is met, broken or open; the worker says that it emits no ticks, and time is its own.

    Neither another simulation goes back in it, nor a log of an earlier year, nor does one pass the end of calendars.
    """
    path = next(iter(event_logs().values()))
    found = settings.model_copy(update={"clock": "logical"})
    words = ("simulate", "--days", "7", "--workflows", "30", "--start", "2030-01-07T00:00:00Z", "--json")
    async with running(found, endpoints) as service:
        readiness = orjson.loads((await read_page(service.address, "/health/ready")).body)
        code, printed = await turnstile(found, endpoints, *words)
        sent = len(await read_json(endpoints, found.topics.commands))
        refused = [words, ("import", str(path)), ("simulate", "--start", "2099-12-30T00:00:00Z")]
        ends = [(await turnstile(found, endpoints, *each))[0] for each in refused]
        assert sent == len(await read_json(endpoints, found.topics.commands))
    assert {"clock": "logical"} == readiness["scheduler"]
    assert 0 == code
    said = orjson.loads(printed)
    (promised,) = said["slas"]
    assert (30, 0) == (promised["met"] + promised["breached"] + promised["open"], said["due"])
    assert promised["breached"] == await value(endpoints, "select count(*) from sla where status = 'breached'")
    assert promised["alerts"] == len(await read_json(endpoints, found.topics.alerts))
    assert 0 < promised["breached"] < promised["alerts"]
    assert [1, 1, 1] == ends


async def test_a_simulation_is_refused_where_time_is_real(settings: Settings, endpoints: Endpoints) -> None:
    """Nothing is sent, and the exit code says that the surroundings are not as needed."""
    code, _ = await turnstile(settings, endpoints, "simulate")
    assert (3, 0) == (code, len(await read_json(endpoints, settings.topics.commands)))


async def _cut_short(settings: Settings, endpoints: Endpoints, words: tuple[str, ...], cases: int) -> None:
    """Import, and kill the importer once so many cases are there and what came of as many commands is published."""
    process = await asyncio.create_subprocess_exec(
        TURNSTILE,
        *words,
        env=environment(settings, endpoints),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def begun() -> bool:
        return bool(await value(endpoints, BEGUN, cases))

    await assert_eventually(expected=True, actual=begun)
    process.kill()
    await process.wait()


def _differing(
    want: Expected, promise: Promise, stored: list[Mapping[str, Any]], until: datetime, log: str
) -> list[str]:
    """Compare every run of every case: how it ended, when, by how much, and where its time went."""
    told = {(row["workflow_id"], row["run"]): _told(row) for row in stored}
    found = []
    for case, steps in want.steps.items():
        for run in runs(steps, promise, until):
            row = told.pop((f"{log}:{case}", run.number), None)
            status = _status(run, promise)
            if row is None:
                found.append(f"{case} run {run.number}: not there")
                continue
            if run.stopped_at is None and row[4] != run.spent:
                # What is open is reckoned up to the last change alone: hold it against the same case up to there.
                since = _since(stored, f"{log}:{case}", run.number)
                run.spent = runs([each for each in steps if each.occurred_at <= since], promise, since)[-1].spent
            mine = (status, run.started_at, run.stopped_at, run.over(promise) if run.stopped_at else None, run.spent)
            if mine != row:
                found.append(f"{case} run {run.number}: {row}, expected {mine}")
    return [*found, *(f"{key}: one too many" for key in told)][:50]


def _status(run: Run, promise: Promise) -> str:
    if run.over(promise) is not None:
        return "breached"
    return "open" if run.stopped_at is None else "met"


def _told(row: Mapping[str, Any]) -> Told:
    body = orjson.loads(row["body"])
    stopped = body.get("stopped_at")
    return (
        "open" if row["status"] in {"on_track", "at_risk"} else row["status"],
        _at(body["started_at"]),
        None if stopped is None else _at(stopped),
        body.get("breach_seconds"),
        body["spent"],
    )


def _since(stored: list[Mapping[str, Any]], workflow_id: str, run: int) -> datetime:
    body = next(row["body"] for row in stored if (row["workflow_id"], row["run"]) == (workflow_id, run))
    return _at(orjson.loads(body)["since"])


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _calendar(hours: Hours) -> dict[str, Any]:
    return {
        "name": "hours",
        "version": 1,
        "time_zone": hours.zone,
        "week": {day: list(texts) for day, texts in zip(DAYS, hours.week, strict=True) if texts},
        "exceptions": {day.isoformat(): {"hours": []} for day in sorted(hours.closed)},
    }


def _definition(path: Path, promise: Promise) -> dict[str, Any]:
    document = discover(read_log(path), "import.promised")
    for state, category in promise.accounts.items():
        document["states"][state] = {"category": category}
    sla = {
        "name": "resolution",
        "target": f"{promise.seconds}s",
        "warning": "10m",
        "calendar": "hours",
        "starts": list(promise.starts),
        "holds": list(promise.holds),
        "stops": list(promise.stops),
    }
    return document | {"slas": [sla]}


def _written(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(to_yaml(document), encoding="utf-8")
    return path
