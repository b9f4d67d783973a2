"""Workflows moved to another version of their definition while the service runs: foreseen, done, killed, undone."""

import asyncio
import re
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from domain.evolve import MIGRATION
from service.app import Endpoints, running
from service.cli.exits import Exit
from service.settings import Settings
from tests.e2e.audit import differences, look
from tests.e2e.load import SECOND, keep_sending
from tests.e2e.outside import (
    TURNSTILE,
    all_decided,
    busy,
    command,
    creation,
    define,
    move,
    put,
    rows,
    send,
    value,
)
from tests.e2e.terminal import Terminal
from tests.eventually import assert_eventually
from tests.faults.history import Record
from tests.faults.replay import Replay
from tests.faults.synthetic import definitions

pytestmark = pytest.mark.stack
GUIDE = Path(__file__).parents[2] / "docs" / "changing-definitions.md"
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WORDS = ("definitions", "migrate", "alims.workflow", "--from", "1", "--to", "2", "--map", "PAUSED=ON_HOLD")
REASON = ("--reason", "new names", "--give-up", "30")


async def test_the_guide_does_what_it_says(settings: Settings, endpoints: Endpoints, terminal: Terminal) -> None:
    """Every block of docs/changing-definitions.md runs, ends as it says and prints what it shows."""
    said: list[str] = []
    async with running(settings, endpoints):
        for language, note, text in BLOCK.findall(GUIDE.read_text("utf-8")):
            if note.startswith(" file="):
                (terminal.folder / note.removeprefix(" file=")).write_text(text, "utf-8")
            elif language == "text":
                assert text.splitlines() == [line.rstrip() for line in said]
            else:
                code = int(note.removeprefix(" exits=")) if note else Exit.DONE
                said = [line for words in text.splitlines() for line in await _typed(terminal, words, code)]
    states = await rows(endpoints, "select workflow_id, state, definition_version from workflow order by 1")
    assert [
        ("order-1", "packing", 2),
        ("order-2", "packing", 1),
        ("order-3", "waiting", 1),
        ("order-4", "shipped", 1),
    ] == [tuple(row) for row in states]
    assert (await terminal("verify", "--json")).json[0]["sound"]


async def _typed(terminal: Terminal, words: str, code: int) -> list[str]:
    """Type a line of the guide, which ends as it says; returns what it prints."""
    found = await terminal(*(word.strip('"') for word in re.findall(r'"[^"]*"|\S+', words)[1:]))
    assert code == found.code, f"{words}\n{found.out}\n{found.err}"
    return found.out.splitlines()


async def _fill(settings: Settings, endpoints: Endpoints, number: int) -> None:
    """Create workflows in four states, one of them terminal, some of a tenant and some within a tree."""
    records = []
    for each in range(number):
        name, where = f"w{each}", {}
        if each % 5 == 1:
            where = {"tenant": "acme"}
        elif each % 5 == 2:
            where = {"root_id": f"w{each - 2}"}
        ways = ((), ("ACTIVE",), ("ACTIVE", "PAUSED"), ("ACTIVE", "COMPLETED"))[each % 4]
        created = creation(name, definition_version=1)
        records += [put(body | where) for body in (created, *(move(name, way) for way in ways))]
    await send(endpoints, settings.topics.commands, records)
    await all_decided(settings, endpoints)


async def _migrations(endpoints: Endpoints) -> Counter[str]:
    """Count the migrations and undos in each workflow's history."""
    found: Counter[str] = Counter()
    for row in await rows(endpoints, "select workflow_id, event from journal where type like '%.MIGRATED'"):
        assert MIGRATION == orjson.loads(row["event"])["category"]
        found[row["workflow_id"]] += 1
    return found


def _counts(said: Any) -> tuple[int, int, dict[str, int]]:  # noqa: ANN401 - JSON
    moved: int = said["would_move"] if "would_move" in said else said["moved"]
    return said["workflows"], moved, said["refused"]


async def test_a_dry_run_tells_what_applying_it_does(
    settings: Settings, endpoints: Endpoints, terminal: Terminal
) -> None:
    """Without traffic the counts are the same, forwards and back, and what was touched is refused both times."""
    unmapped = WORDS[:-2]
    async with running(settings, endpoints):
        await _fill(settings, endpoints, 120)
        await define(endpoints, SECOND)
        open_before = await value(endpoints, "select count(*) from workflow where is_open")
        seen = []
        for words in (unmapped, WORDS):
            foreseen = (await terminal(*words, "--dry-run", "--json")).json[0]
            done = (await terminal(*words, *REASON, "--batch", "17", "--json")).json[0]
            assert _counts(foreseen) == _counts(done)
            seen.append(_counts(done))
        refused = open_before // 3
        assert [
            (open_before, open_before - refused, {"INVALID_TRANSITION": refused}),
            (refused, refused, {}),
        ] == seen
        assert (0, 0, {}) == _counts((await terminal(*WORDS, *REASON, "--json")).json[0])
        assert open_before == (await _migrations(endpoints)).total()
        (touched,) = await rows(
            endpoints, "select workflow_id, root_id, tenant from workflow where state = 'ON_HOLD' limit 1"
        )
        body = command(
            touched["workflow_id"], "update_metadata", metadata={"touched": True}, root_id=touched["root_id"]
        )
        tenant = await value(endpoints, "select tenant from workflow where workflow_id = $1", touched["workflow_id"])
        await send(endpoints, settings.topics.commands, [put(body | ({} if tenant is None else {"tenant": tenant}))])
        await all_decided(settings, endpoints)
        foreseen = (await terminal(*WORDS, "--undo", "--dry-run", "--json")).json[0]
        undone = await terminal(*WORDS, "--undo", *REASON, "--batch", "7", "--json")
        expected = (refused, refused - 1, {"VERSION_CONFLICT": 1})
        assert (expected, expected, Exit.REFUSED) == (_counts(foreseen), _counts(undone.json[0]), undone.code)
        again = (await terminal(*WORDS, "--undo", *REASON, "--json")).json[0]
        assert (1, 0, {"VERSION_CONFLICT": 1}, 1) == (*_counts(again), again["duplicates"])
        assert (await terminal("verify", "--json")).json[0]["sound"]
    seen_after = await look(settings, endpoints)
    assert [] == differences(seen_after)


PROMISED = """
name: shop.promised
version: {version}
states: {{open: {{initial: true}}, answered: {{}}, closed: {{terminal: true}}}}
transitions: [{{name: answer, from: open, to: answered}}, {{name: close, from: [open, answered], to: closed}}]
slas: [{{name: reply, target: 4h, stops: [answered]}}]
"""


async def test_a_run_that_ends_slas_is_taken_back_with_them(
    settings: Settings, endpoints: Endpoints, terminal: Terminal
) -> None:
    """A wrong mapping: what becomes of the timers is foreseen both ways, and the promises go on in the same runs."""
    words = ("definitions", "migrate", "shop.promised", "--from", "1", "--to", "2", "--map", "open=answered")
    due = "select workflow_id, run, status, is_open, due_at, next_at from sla order by workflow_id"
    for version in (1, 2):
        await define(endpoints, PROMISED.format(version=version))
    async with running(settings, endpoints):
        created = [put(creation(f"p{each}", "shop.promised", definition_version=1)) for each in range(20)]
        await send(endpoints, settings.topics.commands, created)
        await all_decided(settings, endpoints)
        before = await rows(endpoints, due)
        for way, timers in (((), {"gone": 20}), (("--undo",), {"set": 20})):
            foreseen = (await terminal(*words, *way, "--dry-run", "--json")).json[0]
            done = (await terminal(*words, *way, *REASON, "--json")).json[0]
            assert (20, 20, {}) == _counts(foreseen) == _counts(done)
            assert timers == {what: count for what, count in foreseen["timers"].items() if count}
        assert [tuple(row) for row in before] == [tuple(row) for row in await rows(endpoints, due)]
        for verb in (("timers", "reconcile"), ("verify",)):
            assert (await terminal(*verb, "--json")).code == Exit.DONE
    assert [] == differences(await look(settings, endpoints))


async def test_a_run_under_traffic_tells_the_truth(
    settings: Settings, endpoints: Endpoints, terminal: Terminal
) -> None:
    """While others change and migrate the same workflows: totals are the store's, and all is decided again the same."""
    await define(endpoints, SECOND)
    enough = asyncio.Event()
    async with running(settings, endpoints):
        await _fill(settings, endpoints, 40)
        sending = asyncio.create_task(keep_sending(settings, endpoints, enough, seed=3, migrating=True))
        try:
            await busy(endpoints, turns=30)
            done = (await terminal(*WORDS, *REASON, "--batch", "10", "--json")).json[0]
            undone = (await terminal(*WORDS, "--undo", *REASON, "--json")).json[0]
        finally:
            enough.set()
            await sending
        await all_decided(settings, endpoints)
        assert (await terminal("verify", "--json")).json[0]["sound"]
    migrated = await rows(endpoints, "select event from journal where type like '%.MIGRATED'")
    events = [orjson.loads(row["event"]) for row in migrated]
    back = ["undoes" in each["details"] for each in events if each["correlation_id"] == done["correlation_id"]]
    assert (done["moved"], undone["moved"]) == (back.count(False), back.count(True))
    for said in (done, undone):
        assert (said["workflows"], 0) == (said["moved"] + sum(said["refused"].values()), said["unanswered"])
    assert done["moved"] == undone["workflows"] > 20
    seen = await look(settings, endpoints)
    assert [] == differences(seen)
    replay = Replay({row["part"]: UUID(str(row["incarnation"])) for row in seen.partitions}, definitions())
    records = [
        Record(each.topic, each.partition, each.offset, each.timestamp, each.key, each.value, list(each.headers))
        for each in seen.commands
    ]
    assert [] == await replay.again(seen.journal, records)
    assert replay.counts["migrations decided again"] > done["workflows"]


async def test_a_killed_run_goes_on(settings: Settings, endpoints: Endpoints, terminal: Terminal) -> None:
    """Killed in the middle and started again: each workflow is moved once, by the one or the other."""
    async with running(settings, endpoints):
        await _fill(settings, endpoints, 100)
        await define(endpoints, SECOND)
        total = await value(endpoints, "select count(*) from workflow where is_open")
        process = await asyncio.create_subprocess_exec(TURNSTILE, *WORDS, *REASON, "--batch", "1", cwd=terminal.folder)
        try:

            async def begun() -> str:
                return "begun" if (await _migrations(endpoints)).total() > 5 else "waiting"

            await assert_eventually("begun", begun, poll_seconds=0.02)
        finally:
            process.kill()
            await process.wait()
        await all_decided(settings, endpoints)
        moved = (await _migrations(endpoints)).total()
        assert moved < total
        rest = (await terminal(*WORDS, *REASON, "--json")).json[0]
        assert ((total - moved, total - moved, {}), 0) == (_counts(rest), rest["left"])
    assert dict.fromkeys(await _open(endpoints), 1) == await _migrations(endpoints)


async def _open(endpoints: Endpoints) -> list[str]:
    return [row["workflow_id"] for row in await rows(endpoints, "select workflow_id from workflow where is_open")]


async def test_closed_by_a_mapping_and_open_again(settings: Settings, endpoints: Endpoints, terminal: Terminal) -> None:
    """What a mapping ends frees its place; while others have it, its undo is refused, and the dry run knew.

    A migration that is forged afterwards is found.
    """
    limited = SECOND.replace("max_open: 1000", "max_open: 4")
    await define(endpoints, limited)
    words = (*WORDS[:-1], "PAUSED=CANCELLED")
    async with running(settings, endpoints):
        records = [put(body) for each in range(4) for body in (creation(f"w{each}", definition_version=1),
                   move(f"w{each}", "ACTIVE"), move(f"w{each}", "PAUSED"))]  # fmt: skip
        await send(endpoints, settings.topics.commands, records)
        await all_decided(settings, endpoints)
        assert (4, 4, {}) == _counts((await terminal(*words, *REASON, "--json")).json[0])
        counter = "select open from open_count where definition = 'alims.workflow'"
        assert 0 == await value(endpoints, counter)
        await send(endpoints, settings.topics.commands, [put(creation(f"v{each}")) for each in range(3)])
        await all_decided(settings, endpoints)
        foreseen = (await terminal(*words, "--undo", "--dry-run", "--json")).json[0]
        undone = (await terminal(*words, "--undo", *REASON, "--json")).json[0]
        assert (4, 1, {"LIMIT_REACHED": 3}) == _counts(foreseen) == _counts(undone)
        assert (4, 4) == (await value(endpoints, counter), len(await _open(endpoints)))
        forged = """
            update journal set event = convert_to(replace(convert_from(event, 'UTF8'), '"from_version":1',
                                                          '"from_version":3'), 'UTF8')
             where type like '%.MIGRATED' and workflow_id = (select workflow_id from workflow where not is_open limit 1)
        """
        await rows(endpoints, forged)
        assert {"migration": 1} == (await terminal("verify", "--json")).json[0]["problems"]


async def test_what_cannot_be_asked_for(terminal: Terminal) -> None:
    """No reason, one version, a mapping that is none or names no state, a version there is not: each says so."""
    asked = [
        (WORDS, Exit.USAGE, "--reason"),
        ((*WORDS[:4], "2", *WORDS[5:], "--dry-run"), Exit.USAGE, "same version"),
        ((*WORDS, "--map", "nothing", "--dry-run"), Exit.USAGE, "OLD=NEW"),
        ((*WORDS, "--map", "PAUSED=ACTIVE", "--dry-run"), Exit.USAGE, "twice"),
        ((*WORDS, "--dry-run"), Exit.REFUSED, "no definition alims.workflow version 2"),
    ]
    for words, code, said in asked:
        found = await terminal(*words)
        assert (code, "", True) == (found.code, found.out, said in found.err), found
