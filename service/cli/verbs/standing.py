"""How a workflow's SLAs stand, in words and as JSON: what was promised, where its time went, which steps time took."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import orjson

from domain.sla import parse_record
from domain.sla_account import ACCOUNTS, Account, accounts
from handlers.ticks import Clock
from service.cli.verbs.wording import length_of
from service.store.calendars import calendars_of
from service.store.pool import Connection
from service.store.reads import Found, clocks, history

Json = Mapping[str, Any]
SlaStatus = Literal["on_track", "at_risk", "breached", "met"]

_GRAVEST_FIRST = ("breached", "at_risk", "on_track", "met")
_DOING = {"person": "with a person"}


async def standing(connection: Connection, clock: Clock, found: Found) -> list[Account]:
    """Return a workflow's SLAs, each of their runs, reckoned up to now."""
    workflow = found.workflow
    if workflow.slas is None:
        return []
    past = [orjson.loads(body) for body in await history(connection, workflow.workflow_id, limit=None)]
    records = [parse_record(body) for event in past for body in event.get("slas", {}).values()]
    wanted = {(each.calendar, each.calendar_version) for each in records}
    named = [(name, version) for name, version in wanted if name is not None and version is not None]
    calendars = await calendars_of(connection, named)
    return accounts(past, calendars, clock.now(*await clocks(connection, found.part)))


def account_document(account: Account) -> dict[str, Any]:
    """Return one run of an SLA as JSON."""
    record = account.record
    return {
        "sla": account.name,
        "run": record.run,
        "status": record.status,
        "open": record.is_open,
        "started_at": record.started_at,
        "until": record.since,
        "due_at": record.due_at,
        "target_seconds": record.target_seconds,
        "extended_seconds": record.extended_seconds,
        "calendar": record.calendar,
        "calendar_version": record.calendar_version,
        "configured": record.configured,
        "configured_version": record.configured_version,
        "held": record.held,
        "paused": record.paused,
        "passed_seconds": account.passed_seconds,
        "spent": {name: record.spent.get(name, 0) for name in ACCOUNTS if name != "paused"},
        "by_state": account.by_state,
        "breached_at": record.breached_at,
        "over_seconds": account.over_seconds,
        "stopped_at": record.stopped_at,
        "impact": record.impact,
        "steps": [step._asdict() for step in account.steps],
    }


def account_lines(account: Json) -> Iterator[str]:
    """Say one run of an SLA, as `account_document` has it."""
    run = f", run {account['run']}" if account["run"] > 1 else ""
    status = account["status"].replace("_", " ")
    if account["over_seconds"] is not None:
        status += f" by {_about(account['over_seconds'])}{' so far' if account['open'] else ''}"
    impact = f": {account['impact']}" if account["impact"] and account["breached_at"] else ""
    yield f"SLA {account['sla']}{run} is {status}{impact}"
    yield f"  {_promise(account)}"
    parts = [
        f"{_about(length)} {_DOING.get(name, name)} in {state}"
        for state, spent in account["by_state"].items()
        for name, length in spent.items()
        if _about(length) != length_of(0)
    ]
    passed = f"{_about(account['passed_seconds'])} {'have' if account['open'] else 'had'} passed"
    yield f"  {passed}: {', '.join(parts)}" if parts else f"  {passed}"
    if account["steps"]:
        yield f"  {', '.join(map(_step, account['steps']))}"


def sla_line(body: Json) -> str:
    """Say how an SLA's record stands, on one line."""
    record = parse_record(body)
    said = [record.status.replace("_", " ")]
    if record.held or record.paused:
        said.append("paused" if record.paused else "held")
    if not record.is_open:
        said.append(f"ended {record.stopped_at}")
    if record.due_at is not None:
        said.append(f"due {record.due_at}")
    return ", ".join(said)


def statuses(slas: Json | None) -> str | None:
    """Say the status of each of a workflow's SLAs, the gravest first; None where there are none."""
    found = sorted(
        (_GRAVEST_FIRST.index(record["status"]), name, record["status"]) for name, record in (slas or {}).items()
    )
    return ", ".join(f"{name} {status.replace('_', ' ')}" for _, name, status in found) or None


def _promise(account: Json) -> str:
    hours = f" in hours of {account['calendar']} version {account['calendar_version']}" if account["calendar"] else ""
    target = account["target_seconds"]
    promised = "its due date" if target is None else f"{length_of(target)} from {account['started_at']}"
    if account["extended_seconds"]:
        promised += f" and {length_of(account['extended_seconds'])} more"
    if account["configured"]:
        promised += f", by configuration {account['configured']} version {account['configured_version']}"
    if account["due_at"] is None:
        why = "it is paused" if account["paused"] else "its state holds it" if account["held"] else "there is no date"
        return f"not due while {why}{hours}: {promised}"
    over = account["breached_at"] is not None or not account["open"]
    return f"{'it was' if over else 'it is'} due {account['due_at']}{hours}: {promised}"


def _step(step: Json) -> str:
    if step["rung"]:
        return f"rung {step['rung']} at {step['due_at']}"
    return f"{'at risk' if step['kind'] == 'SLA_AT_RISK' else 'breached'} at {step['due_at']}"


def _about(span: float) -> str:
    """Say a length as people read it; `--json` has it to the microsecond."""
    return length_of(round(span) if span >= 60 else round(span, 1))  # noqa: PLR2004 - a minute
