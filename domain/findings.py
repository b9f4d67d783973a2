"""What there is to know about a document that people wrote: each thing with its place."""

from dataclasses import dataclass
from typing import Literal

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know about a document: an error forbids applying it. `line` and `column` count from 1.

    `commands` is a shortest sequence that shows it: `create_workflow`, then names of transitions; empty if none does.
    """

    severity: Literal["error", "warning", "note"]
    code: str
    message: str
    path: Path
    line: int | None = None
    column: int | None = None
    commands: tuple[str, ...] = ()
