"""`get --at` and `diff` over rows of a real store: every version there was, and what is not there."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest

from domain.instants import read, written
from service.app import Endpoints
from service.cli.exits import Exit
from service.settings import Settings
from tests.fakes.machines import command, create, door, move
from tests.service.command_line import CommandLine
from tests.service.lived import Lived, lived

pytestmark = pytest.mark.stack
LIVES: dict[str, list[str | dict[str, Any]]] = {
    "ended": ["open", "shut", "push", "open", "brick"],
    "painted": ["open", {"colour": "blue", "size": {"height": 2}}, {"colour": None, "size": {"width": 1}}, "shut"],
    "failed": ["open", "jam", "recover", {"note": "oiled"}, "brick", {"note": "over"}],
    "new": [],
}


@pytest.fixture(scope="module")
def past(servers: Endpoints) -> Iterator[Lived]:
    """Give a store in which a few workflows have lived."""
    with lived(servers.database_url, [door()], _commands()) as given:
        yield given


def _commands() -> list[dict[str, Any]]:
    found = [create(name, metadata={"colour": "red"}) for name in LIVES]
    for name, steps in LIVES.items():
        for number, step in enumerate(steps):
            if isinstance(step, dict):
                found.append(command("update_metadata", name, f"{name} {number}", metadata=step))
            else:
                found.append(move(name, step, f"{name} {number}"))
    return [body | {"requested_by": "ann", "reason": "so"} for body in found]


@pytest.fixture
def turnstile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: Settings, past: Lived
) -> CommandLine:
    """Give the command line on that store."""
    assert settings.database_url is None
    monkeypatch.setenv("TURNSTILE_DATABASE_URL", past.database_url)
    return CommandLine(monkeypatch, capsys)


def test_every_version_is_as_it_was_recorded(turnstile: CommandLine, past: Lived) -> None:
    """By its number, and by the times from its decision until the next."""
    assert [6, 5, 7, 1] == [len(rows) for rows in past.rows.values()]
    for name, rows in past.rows.items():
        for version, row in enumerate(rows, start=1):
            recorded = orjson.loads(row)
            since = recorded["updated_at"]
            until = written(_moment(rows[version]) - timedelta(microseconds=1)) if version < len(rows) else since
            for moment in (str(version), since, until):
                said = turnstile("get", name, "--at", moment, "--json")
                assert (Exit.DONE, recorded) == (said.code, orjson.loads(said.out)), (name, moment)
    assert orjson.loads(past.rows["ended"][-1])["state"] == "bricked"


def _moment(row: bytes) -> datetime:
    return read(orjson.loads(row)["updated_at"])


def test_a_moment_that_never_was(turnstile: CommandLine, past: Lived) -> None:
    """Before the creation, beyond the last version, or of nobody: 1, and what there is."""
    created = orjson.loads(past.rows["ended"][0])["created_at"]
    before = written(read(created) - timedelta(microseconds=1))
    said = turnstile("get", "ended", "--at", before)
    assert (Exit.REFUSED, "") == (said.code, said.out)
    assert f"turnstile: ended did not exist at {before}: it was created at {created}\n" == said.err
    assert "ended has no version 7 yet: it is at version 6" in turnstile("get", "ended", "--at", "7").err
    assert "ended has no version 0: its first is 1" in turnstile("diff", "ended", "--from", "0").err
    assert "no workflow nobody" in turnstile("get", "nobody", "--at", "1").err
    assert "version 3 comes after version 2: swap" in turnstile("diff", "ended", "--from", "3", "--to", "2").err


def test_what_changed_between_two_moments(turnstile: CommandLine) -> None:
    """Fields before and after, down to those of the metadata, and the events between with who and why."""
    told = orjson.loads(turnstile("diff", "painted", "--from", "2", "--to", "4", "--json").out)
    assert (2, 4) == (told["from"]["version"], told["to"]["version"])
    assert [
        {"path": ["metadata", "colour"], "before": "red"},
        {"path": ["metadata", "size"], "after": {"height": 2, "width": 1}},
    ] == [each for each in told["changed"] if each["path"][0] == "metadata"]
    assert {"version", "sequence", "updated_at", "metadata"} == {each["path"][0] for each in told["changed"]}
    assert [(3, "ann", "so"), (4, "ann", "so")] == [
        (event["sequence"], event["actor"], event["reason"]) for event in told["events"]
    ]
    shown = turnstile("diff", "painted")
    assert Exit.DONE == shown.code
    assert {"metadata.size", "previous_state", "METADATA_UPDATED", "ann"} <= set(shown.out.split())
    assert "nothing changed\n" in turnstile("diff", "new").out
