"""What checks of the store find: how much of each kind, and the first of them by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from service.store.pool import Connection

SHOWN_MAX = 20
SECONDS_MAX = 3600.0


class Problem(NamedTuple):
    """One thing that is not as it must be; `kind` names the check."""

    kind: str
    what: str


@dataclass(slots=True)
class Problems:
    """How many problems of each kind there are, and the first of them."""

    found: dict[str, int] = field(default_factory=dict)
    first: list[Problem] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.found

    def note(self, kind: str, what: str) -> None:
        """Count a problem, and keep it if it is among the first of its kind."""
        self.found[kind] = self.found.get(kind, 0) + 1
        if self.found[kind] <= SHOWN_MAX:
            self.first.append(Problem(kind, what))


async def ask(connection: Connection, checks: Mapping[str, str], result: Problems) -> None:
    """Run queries that give the bad rows as text, each under its kind, through cursors."""
    for kind, query in checks.items():
        async for row in connection.cursor(query, timeout=SECONDS_MAX):
            result.note(kind, row[0])
