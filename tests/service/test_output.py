"""Progress of long work, on a terminal and off one."""

from io import StringIO

import pytest
from rich.console import Console

from service.cli import output


@pytest.mark.parametrize(
    ("terminal", "said"), [(True, ["folding", "3/8", "waiting for a lock"]), (False, ["waiting for a lock"])]
)
def test_progress_is_drawn_on_a_terminal_and_only_waits_are_said_off_it(
    monkeypatch: pytest.MonkeyPatch, *, terminal: bool, said: list[str]
) -> None:
    """Of how many may be known later; a wait is said once however often it is told."""
    written = StringIO()
    monkeypatch.setattr(output, "ERR", Console(file=written, force_terminal=terminal, width=100))
    with output.progress("folding") as tell:
        tell(0, total=8)
        tell(2, "waiting for a lock")
        tell(3, "waiting for a lock")
    shown = written.getvalue()
    assert said == [each for each in ("folding", "3/8", "waiting for a lock") if each in shown]
    assert terminal or 1 == shown.count("waiting")
