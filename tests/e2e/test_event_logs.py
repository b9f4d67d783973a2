"""Event logs go through the topics with nothing lost; a script that shares no code with the product judges."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from service.app import Endpoints, running
from service.event_logs.commands import Import, as_commands, number_of_commands
from service.event_logs.discover import discover, to_yaml
from service.event_logs.drive import DriveResult, Pace, Progress, drive
from service.event_logs.event import LoggedEvent
from service.event_logs.read import log_name, read_log
from service.settings import Settings
from tests.e2e.outside import define, read, read_json, rows, turnstile, worker_process
from tests.event_log_files import event_logs, real
from tests.eventually import assert_eventually
from tests.independent_fold import Expected, differing_events, differing_refusals, differing_workflows, expected

pytestmark = pytest.mark.stack
KILLS = 3
NOTHING: list[str] = []


class Running:
    """An import under way: what it said last, and its end."""

    def __init__(self, settings: Settings, endpoints: Endpoints, events: Sequence[LoggedEvent], target: Import) -> None:
        self.total = number_of_commands(events)
        self._last = Progress(0, 0, self.total)
        self.result: asyncio.Task[DriveResult] = asyncio.create_task(
            drive(
                as_commands(events, target),
                bootstrap_servers=endpoints.bootstrap_servers,
                topics=settings.topics,
                report=self._note,
                total=self.total,
                pace=Pace(outstanding_max=max(20, self.total // 15)),
            )
        )

    async def reached(self, share: float) -> None:
        """Wait until this share of the commands is answered."""
        goal = int(share * self.total)

        async def there() -> int:
            return min(self._last.replied, goal)

        await assert_eventually(goal, there)

    def _note(self, progress: Progress) -> None:
        self._last = progress


def _log(suffix: str) -> Path:
    return next(path for path in event_logs().values() if path.name.endswith(suffix))


async def _differences(settings: Settings, endpoints: Endpoints, want: Expected, log: str) -> list[str]:
    """Compare the store's rows and what a subscriber reads with the raw file."""
    stored = [dict(row) for row in await rows(endpoints, "select workflow_id, state, version from workflow")]
    published = await read_json(endpoints, settings.topics.events)
    return [*differing_workflows(want, stored, log=log), *differing_events(want, published, log=log)]


async def test_an_import_outlives_every_kill(settings: Settings, endpoints: Endpoints, tmp_path: Path) -> None:
    """The worker is killed three times and the importer once on the way: rows and events are what the file says."""
    path = _log(".xes.gz")
    events, target = list(read_log(path)), Import(log_name(path), "import.log")
    await define(endpoints, to_yaml(discover(events, target.definition)))
    async with worker_process(settings, endpoints, tmp_path / "worker.log") as worker:
        cut_short = Running(settings, endpoints, events, target)
        await cut_short.reached(0.2)
        cut_short.result.cancel()
        await asyncio.wait([cut_short.result])
        importing = Running(settings, endpoints, events, target)
        for number in range(1, KILLS + 1):
            await importing.reached(0.2 + number / 5)
            await worker.kill()
            await worker.start()
        result = await importing.result
        assert 0 == await worker.stop()
    total = number_of_commands(events)
    assert (total, total, 0) == (result.sent, result.accepted, result.unanswered)
    assert result.duplicates >= total // 5
    want = expected(path)
    assert NOTHING == await _differences(settings, endpoints, want, target.log)
    if real():
        assert (4_580, 21_348, 25_928) == _figures(want)


async def test_the_command_line_imports_a_log_and_again(settings: Settings, endpoints: Endpoints) -> None:
    """`turnstile import FILE` needs no more than the file; a second time all is repeats and nothing changes."""
    path = _log(".csv.gz")
    want = expected(path)
    cases, _, commands = _figures(want)
    async with running(settings, endpoints):
        ends = [await turnstile(settings, endpoints, "import", str(path), "--json") for _ in range(2)]
    told = {"cases": cases, "commands": commands, "accepted": commands, "rejected": {}, "unanswered": 0}
    assert [(0, told | {"duplicates": 0}), (0, told | {"duplicates": commands})] == [
        (code, {name: orjson.loads(printed)[name] for name in (*told, "duplicates")}) for code, printed in ends
    ]
    assert NOTHING == await _differences(settings, endpoints, want, log_name(path))


async def test_a_stricter_definition_refuses_exactly_what_deviates(settings: Settings, endpoints: Endpoints) -> None:
    """A refused event leaves the state, and its refusal says why and what would have been allowed."""
    path = _log(".csv.gz")
    events, target = list(read_log(path)), Import("strict", "import.strict")
    document = _stricter(discover(events, target.definition))
    allowed = {(source, move["to"]) for move in document["transitions"] for source in move["from"]}
    want = expected(path, allowed)
    await define(endpoints, to_yaml(document))
    async with running(settings, endpoints):
        result = await Running(settings, endpoints, events, target).result
    assert {"INVALID_TRANSITION": len(want.refused)} == result.rejected
    assert NOTHING == await _differences(settings, endpoints, want, target.log)
    refused = await _refused(settings, endpoints)
    assert NOTHING == differing_refusals(want, refused, log=target.log)
    assert Counter((f"strict:{each.case}", each.from_state, each.to_state) for each in want.refused) == Counter(
        (each["workflow_id"], each["why"]["values"]["state"], each["asks"]) for each in refused
    )
    assert NOTHING == _unexplained(refused, allowed)


def _stricter(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out every third way of getting somewhere."""
    pairs = [(source, move["to"]) for move in document["transitions"] for source in move["from"]]
    dropped = set(pairs[2::3])
    transitions = [
        move | {"from": kept}
        for move in document["transitions"]
        if (kept := [source for source in move["from"] if (source, move["to"]) not in dropped])
    ]
    return document | {"transitions": transitions}


async def _refused(settings: Settings, endpoints: Endpoints) -> list[dict[str, Any]]:
    """Return each refusal with what its command asked for."""
    commands = [orjson.loads(record.value) for record in await read(endpoints, settings.topics.commands)]
    asks = {command["command_id"]: command.get("target_state") for command in commands}
    return [
        {"workflow_id": reply["workflow_id"], "asks": asks[reply["command_id"]], **reply["rejection"]}
        for reply in await read_json(endpoints, settings.topics.replies)
        if reply["outcome"] == "rejected"
    ]


def _unexplained(refused: Iterable[dict[str, Any]], allowed: set[tuple[str, str]]) -> list[str]:
    """Name the refusals whose clause or whose allowed moves are not what the definition says."""
    found = []
    for each in refused:
        state = each["why"]["values"]["state"]
        clause = f"transition from {state} to {each['asks']} exists in state {state}"
        targets = {target for source, target in allowed if source == state}
        if (clause, targets) != (each["why"]["clause"], {move["target_state"] for move in each["allowed"]}):
            found.append(f"{each['workflow_id']}: {each['why']}, {each['allowed']}")
    return found


def _figures(want: Expected) -> tuple[int, int, int]:
    versions = sum(map(len, want.steps.values()))
    return len(want.steps), versions - len(want.steps), versions


SHOP = """
name: shop
version: {version}
states:
  new: {{initial: true}}
  paid: {{}}
transitions:
  - {{name: pay, from: {source}, to: paid}}
"""


async def test_a_grown_log_waits_until_its_cases_are_migrated(
    settings: Settings, endpoints: Endpoints, tmp_path: Path
) -> None:
    """What came later is not sent to a version that refuses it for good; after the migration that was named it is."""
    path = tmp_path / "grown.csv"
    line = "c{},{},2020-01-01T00:00:0{}Z"
    lines = ["case,what,at", line.format(1, "asked", 1), line.format(2, "asked", 2)]
    words = ("import", str(path), "--case", "case", "--activity", "what", "--timestamp", "at", "--json")
    migrate = ("definitions", "migrate", "import.grown", "--from", "1", "--to", "2", "--reason", "the log has grown")
    async with running(settings, endpoints):
        path.write_text("\n".join(lines))
        first, _ = await turnstile(settings, endpoints, *words)
        path.write_text("\n".join([*lines, line.format(1, "answered", 3)]))
        before = len(await read(endpoints, settings.topics.commands))
        grown, _ = await turnstile(settings, endpoints, *words)
        assert (0, 1, before) == (first, grown, len(await read(endpoints, settings.topics.commands)))
        assert 0 == (await turnstile(settings, endpoints, *migrate))[0]
        code, printed = await turnstile(settings, endpoints, *words)
    said = orjson.loads(printed)
    assert (0, 5, 4, {}) == (code, said["accepted"], said["duplicates"], said["rejected"])
    assert {"answered", "asked"} == {row["state"] for row in await rows(endpoints, "select state from workflow")}


async def test_a_definition_from_a_file_judges_though_there_is_a_newer_version(
    settings: Settings, endpoints: Endpoints, tmp_path: Path
) -> None:
    """The version that the import names is the one that its workflows are on."""
    path, shop = tmp_path / "log.csv", tmp_path / "shop.yaml"
    path.write_text("case,what,at\nc,paid,2020-01-01T00:00:01Z\n")
    shop.write_text(SHOP.format(version=1, source="new"))
    await define(endpoints, SHOP.format(version=1, source="new"))
    await define(endpoints, SHOP.format(version=2, source="paid"))
    words = ("--case", "case", "--activity", "what", "--timestamp", "at", "--definition", str(shop))
    async with running(settings, endpoints):
        code, _ = await turnstile(settings, endpoints, "import", str(path), *words)
    stored = await rows(endpoints, "select definition_version, state from workflow")
    assert (0, [(1, "paid")]) == (code, [(row["definition_version"], row["state"]) for row in stored])
