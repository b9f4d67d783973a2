"""`import` before it reaches for a service: what it refuses of a log that is well formed, and how it says so."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from service.cli.exits import Exit, RefusedError
from service.cli.verbs import imports
from service.event_logs.event import LoggedEvent
from service.settings import Settings
from tests.service.command_line import CommandLine

HEADER = "case:concept:name,concept:name,time:timestamp\n"


@pytest.fixture
def turnstile(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Give the command line where time is logical and nobody answers."""
    monkeypatch.setenv("TURNSTILE_CLOCK", "logical")
    return CommandLine(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("last", "words"), [("9999-12-31T00:00:00Z", ()), ("2020-01-02T00:00:00Z", ("--until", "2100-01-01T00:00:00Z"))]
)
def test_time_that_is_never_reached_is_refused(
    turnstile: CommandLine, tmp_path: Path, last: str, words: tuple[str, ...]
) -> None:
    """Calendars end with 2099: a tick beyond would never be believed, and the import never end."""
    path = tmp_path / "log.csv"
    path.write_text(f"{HEADER}c,asked,2020-01-01T00:00:00Z\nc,answered,{last}\n")
    said = turnstile("import", str(path), *words)
    assert Exit.REFUSED == said.code
    assert "is never reached" in said.err


def test_a_file_whose_name_is_no_text_is_refused(turnstile: CommandLine, tmp_path: Path) -> None:
    """It says what to do instead of failing on the first id."""
    path = tmp_path / "caf\udce9.csv"
    path.write_text(f"{HEADER}c,asked,2020-01-01T00:00:00Z\n")
    said = turnstile("import", str(path))
    assert Exit.USAGE == said.code
    assert "--name" in said.err


async def test_what_is_wrong_with_a_discovered_definition_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that is too large is refused with its errors above, as one from a file is."""

    @asynccontextmanager
    async def nothing(_chosen: Settings) -> AsyncIterator[None]:
        yield None

    async def none_stored(_opened: None, _name: str) -> list[None]:
        return []

    monkeypatch.setattr(imports, "changing", nothing)
    monkeypatch.setattr(imports, "list_definitions", none_stored)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    chance = Random(1)
    events = [
        LoggedEvent(f"c{index // 40}", f"Activity number {chance.randrange(600)}", start, None, index, {})
        for index in range(20_000)
    ]
    with pytest.raises(RefusedError, match="mend the errors above"):
        await imports._judge(Settings(), None, events, "big")  # noqa: SLF001 - a verb's part, with no service
    assert ": error: " in capsys.readouterr().err
