"""The command line in the process of a test."""

import io
import sys
from typing import NamedTuple

import pytest

from service.cli.main import main


class Said(NamedTuple):
    """What a run of the command line came to."""

    code: int
    out: str
    err: str


class CommandLine:
    """The command line in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *words: str, stdin: str = "") -> Said:
        """Run a verb and return what it said."""
        self._monkeypatch.setattr(sys, "argv", ["turnstile", *words])
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as ended:
            main()
        said = self._capsys.readouterr()
        code = ended.value.code
        return Said(code if isinstance(code, int) else 0, said.out, said.err)
