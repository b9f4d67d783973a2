"""A backtest of a real run: nothing under the same definition, what a run under it gives under a stricter one."""

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from aiokafka import ConsumerRecord

from service.app import Endpoints, running
from service.cli.exits import Exit
from service.definitions.files import read_definition, shipped
from service.predicates.cel import CelEngine
from service.settings import Settings
from tests.e2e.load import keep_sending
from tests.e2e.outside import all_decided, busy, read, rows
from tests.e2e.terminal import Terminal
from tests.e2e.test_parted import delete_before
from tests.fakes.ports import CommandRecord
from tests.fakes.store import MemoryStore
from tests.fakes.turns import Turns

pytestmark = pytest.mark.stack
NAME = "alims.workflow"
SAME = shipped()[NAME]
STRICTER = SAME.replace("from: [ACTIVE, PAUSED, FAILED]", "from: [ACTIVE]").replace(
    "!has(command.context.hold)", "has(command.expected_version)"
)


async def _under(text: str, commands: list[ConsumerRecord], parts: int) -> Turns:
    """Decide the same commands on a store in memory, on which the text is the definition."""
    turns = Turns(store=MemoryStore(parts, now=datetime.fromtimestamp(time.time(), UTC)), guards=CelEngine())
    for each in (text, shipped()["alims.workflow_strict"]):
        definition = read_definition(each).definition
        assert definition is not None
        turns.store.add(definition)
    for part in range(parts):
        records = [CommandRecord(each.value, timestamp=each.timestamp) for each in commands if each.partition == part]
        for start in range(0, len(records), 100):
            await turns.take(*records[start : start + 100], part=part)
    return turns


def _said(reply: bytes) -> str:
    body: dict[str, Any] = orjson.loads(reply)
    return "accepted" if body["outcome"] == "accepted" else body["rejection"]["code"]


async def test_a_real_run_judged_again(settings: Settings, endpoints: Endpoints, terminal: Terminal) -> None:
    """With refusals, denials, repeats, reused ids and conflicts; then with the first of its commands gone."""
    enough = asyncio.Event()
    async with running(settings, endpoints):
        sending = asyncio.create_task(keep_sending(settings, endpoints, enough, seed=9))
        await busy(endpoints, turns=60)
        enough.set()
        await sending
        await all_decided(settings, endpoints)
    commands = await read(endpoints, settings.topics.commands)
    for name, text in (("same", SAME), ("stricter", STRICTER)):
        (terminal.folder / f"{name}.yaml").write_text(text, "utf-8")
    words = ("definitions", "backtest", "--json", "--workflows", "100000")

    same = await terminal(*words, "same.yaml")
    found = same.json[0]
    assert (Exit.DONE, [], [], {}) == (same.code, found["differences"], found["ends"], found["not_judged"])
    names = {row[0] for row in await rows(endpoints, "select workflow_id from workflow where definition = $1", NAME)}
    answers = {
        (row["part"], row["record_offset"]): row["reply"]
        for row in await rows(endpoints, "select * from journal where reply is not null")
        if row["workflow_id"] in names
    }
    assert (len(names), len(answers)) == (found["workflows"], found["commands"])
    assert found["commands"] == found["same"] + found["repeats"]
    assert (True, True) == (found["repeats"] > 5, found["judged"] > 100)
    codes = {_said(reply) for reply in answers.values()}
    assert {"accepted", "GUARD_DENIED", "VERSION_CONFLICT", "INVALID_TRANSITION", "COMMAND_ID_REUSED"} <= codes

    (terminal.folder / "renamed.yaml").write_text(SAME.replace("ACTIVE", "RUNNING"), "utf-8")
    renamed = await terminal(*words, "renamed.yaml", "--map", "ACTIVE=RUNNING")
    assert (Exit.DONE, found | {"states": {"ACTIVE": "RUNNING"}}) == (renamed.code, renamed.json[0])
    for mapping, problem in (
        ("ACTIVE=ACTIVE", "the candidate has no state ACTIVE"),
        ("AKTIVE=RUNNING", "no applied version of alims.workflow has a state AKTIVE"),
    ):
        unknown = await terminal(*words, "renamed.yaml", "--map", mapping)
        assert (Exit.REFUSED, f"turnstile: {problem}: correct the mapping\n") == (unknown.code, unknown.err)

    stricter = await terminal(*words, "stricter.yaml")
    instead = await _under(STRICTER, commands, settings.partitions)
    now = {
        (part, row.record_offset): row.reply
        for part, journal in instead.store.journal.items()
        for row in journal
        if row.reply is not None
    }
    expected: Counter[tuple[str, str]] = Counter()
    for place, reply in answers.items():
        if b'"duplicate"' not in reply and _said(reply) != _said(now[place]):
            expected[_said(reply), _said(now[place])] += 1
    counted: Counter[tuple[str, str]] = Counter()
    for each in stricter.json[0]["differences"]:
        counted[each["recorded"], each["candidate"]] += each["count"]
    assert (Exit.REFUSED, expected) == (stricter.code, counted)
    assert counted["accepted", "GUARD_DENIED"] > 10
    states = await rows(endpoints, "select part, workflow_id, state from workflow where definition = $1", NAME)
    ends = Counter((row["state"], instead.workflow(row["workflow_id"], row["part"]).state) for row in states)
    assert {pair: count for pair, count in ends.items() if pair[0] != pair[1]} == {
        (each["recorded"], each["candidate"]): each["count"] for each in stricter.json[0]["ends"]
    }
    assert "accepted" in (await terminal("definitions", "backtest", "stricter.yaml")).out

    cut = max(each.offset for each in commands if each.partition == 0) // 2
    await delete_before(settings, endpoints, 0, cut)
    found = (await terminal(*words, "same.yaml")).json[0]
    gone = sum(part == 0 and offset < cut for part, offset in answers)
    assert ([], [], {"its record is gone": gone}) == (found["differences"], found["ends"], found["not_judged"])
