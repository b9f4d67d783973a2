"""What tests of the command line share."""

from pathlib import Path

import pytest

from service.settings import Settings
from tests.service.command_line import CommandLine


@pytest.fixture
def turnstile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, settings: Settings
) -> CommandLine:
    """Give the command line where no broker and no database runs."""
    assert settings.bootstrap_servers is None
    monkeypatch.setenv("TURNSTILE_DATA_DIR", str(tmp_path / "nothing"))
    return CommandLine(monkeypatch, capsys)
