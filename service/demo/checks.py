"""Numbered checks: what was expected and what was found, told as soon as it is known."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    """One check of one scenario; `expected` and `actual` are plain JSON."""

    scenario: str
    number: int
    what: str
    expected: Any
    actual: Any

    @property
    def ok(self) -> bool:
        """Tell whether what was found is what was expected."""
        return bool(self.expected == self.actual)

    def written(self) -> dict[str, Any]:
        """Return the check as a line of JSON shows it."""
        return {
            "scenario": self.scenario,
            "check": self.number,
            "what": self.what,
            "ok": self.ok,
            "expected": self.expected,
            "actual": self.actual,
        }


class Checklist:
    """The checks of one scenario, in the order in which they were made."""

    def __init__(self, scenario: str, report: Callable[[Check], None]) -> None:
        self._scenario = scenario
        self._report = report
        self.made: list[Check] = []

    def check(self, what: str, expected: object, actual: object) -> None:
        """Compare, keep and tell."""
        made = Check(self._scenario, len(self.made) + 1, what, expected, actual)
        self.made.append(made)
        self._report(made)
