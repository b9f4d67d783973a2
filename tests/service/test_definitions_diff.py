"""`definitions diff` over a real store: the open work that each change concerns, by version and by file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from service.app import Endpoints
from service.cli.exits import Exit
from service.settings import Settings
from tests.fakes.machines import DOOR, create, door, move
from tests.service.command_line import CommandLine
from tests.service.lived import Lived, lived

pytestmark = pytest.mark.stack
# Open work of version 1: three shut, two open, one jammed; one is bricked, and closed.
MOVES = {"a": [], "b": [], "c": [], "d": ["open"], "e": ["open"], "f": ["open", "jam"], "g": ["brick"]}


def changed(version: int, **clauses: Any) -> dict[str, Any]:  # noqa: ANN401 - as a document has it
    """Return a door that is no longer jammed, and that is painted before it is opened."""
    kept = [each for each in door()["transitions"] if each["name"] not in {"jam", "recover", "knock", "phone"}]
    states = {name: state for name, state in door()["states"].items() if name != "jammed"}
    painted = [{"name": "paint", "from": "shut", "to": "painted"}, {"name": "dry", "from": "painted", "to": "shut"}]
    return (
        door(version=version)
        | {"states": states | {"painted": {}}, "transitions": [*kept, *painted], "metadata_default": {}}
        | clauses
    )


@pytest.fixture(scope="module")
def store(servers: Endpoints) -> Iterator[Lived]:
    """Give a store with two versions and work on both."""
    commands = [create(name, definition_version=1) for name in MOVES]
    commands += [move(name, step) for name, steps in MOVES.items() for step in steps]
    commands += [create("on version 2", definition_version=2)]
    with lived(servers.database_url, [door(), changed(2)], commands) as given:
        yield given


@pytest.fixture
def turnstile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: Settings, store: Lived
) -> CommandLine:
    """Give the command line on that store."""
    assert settings.database_url is None
    monkeypatch.setenv("TURNSTILE_DATABASE_URL", store.database_url)
    return CommandLine(monkeypatch, capsys)


def test_each_change_counts_the_open_work_it_concerns(turnstile: CommandLine) -> None:
    """Of the old version, in the states concerned, closed work left out; a breaking change makes the exit 1."""
    said = turnstile("definitions", "diff", DOOR, "--from", "1", "--to", "2", "--json")
    told = orjson.loads(said.out)
    assert (Exit.REFUSED, DOOR, 1, 2, 6, True) == (
        said.code, told["name"], told["from"], told["to"], told["open"], told["breaking"],
    )  # fmt: skip
    assert [
        ("takes away", "STATE_REMOVED", ["jammed"], 1, True),
        ("takes away", "TRANSITION_REMOVED", ["open"], 2, False),
        ("adds", "STATE_ADDED", ["shut"], 3, False),
        ("changes", "METADATA_DEFAULT", [], 0, False),
    ] == [tuple(each[name] for name in ("effect", "code", "states", "open", "breaking")) for each in told["changes"]]
    shown = turnstile("definitions", "diff", DOOR)
    assert "BREAKING: The state jammed is gone: open work in it has no counterpart. [1 workflow open]" in shown.out
    assert (
        f"{DOOR} version 1 to 2\n6 workflows open on version 1, and on it until migrated\n\nIt takes away\n"
        in shown.out
    )


def test_a_file_is_compared_before_it_is_applied(turnstile: CommandLine, tmp_path: Path) -> None:
    """With the latest version, or with one that is named; nothing is stored."""
    file = tmp_path / "door.yaml"
    file.write_bytes(orjson.dumps(changed(3, limits={"max_open": 7})))
    said = turnstile("definitions", "diff", str(file), "--json")
    told = orjson.loads(said.out)
    assert (Exit.DONE, 2, 3, 1, ["MAX_OPEN"]) == (
        said.code, told["from"], told["to"], told["open"], [each["code"] for each in told["changes"]],
    )  # fmt: skip
    older = orjson.loads(turnstile("definitions", "diff", str(file), "--from", "1", "--json").out)
    assert (1, 6, True) == (older["from"], older["open"], older["breaking"])
    assert [2, 1] == [
        orjson.loads(line)["version"] for line in turnstile("definitions", "list", "--json").out.splitlines()
    ]


def test_a_version_is_no_different_from_itself(turnstile: CommandLine) -> None:
    """Nor is what goes back the same as what comes."""
    said = turnstile("definitions", "diff", DOOR, "--from", "2", "--to", "2")
    assert (Exit.DONE, f"{DOOR} version 2 to 2\nnothing changes\n") == (said.code, said.out)
    back = orjson.loads(turnstile("definitions", "diff", DOOR, "--from", "2", "--to", "1", "--json").out)
    assert ["STATE_REMOVED", "STATE_ADDED"] == [
        each["code"] for each in back["changes"] if each["code"].startswith("STATE")
    ]


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["shop.nothing"], Exit.REFUSED, "no definition shop.nothing; "),
        ([DOOR, "--to", "9"], Exit.REFUSED, f"no definition {DOOR} version 9; "),
        ([DOOR, "--from", "9"], Exit.REFUSED, f"no definition {DOOR} version 9; "),
        ([DOOR, "--to", "1"], Exit.REFUSED, "version 1 is the first: there is nothing to compare it with"),
        (["door.yaml"], Exit.USAGE, "door.yaml cannot be read"),
        (["door.yaml", "--to", "1"], Exit.USAGE, "door.yaml is the new side itself"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_compared(turnstile: CommandLine, words: list[str], code: Exit, problem: str) -> None:
    """Each with what to do."""
    said = turnstile("definitions", "diff", *words)
    assert (code, "") == (said.code, said.out)
    assert problem in said.err
