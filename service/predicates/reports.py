"""What the predicate engines tell the metrics."""

from typing import Protocol

from service.predicates.breaker import State


class Reports(Protocol):
    """Who counts; `service.telemetry` does."""

    def judged(self, engine: str, outcome: str, seconds: float) -> None:
        """Take one verdict, and how long it took."""
        ...

    def sent(self, questions: int, under_way: int) -> None:
        """Take a request to the remote engine, and how many are under way now."""
        ...

    def under_way(self, requests: int) -> None:
        """Take how many requests are under way."""
        ...

    def retried(self) -> None:
        """Take a request that is sent again."""
        ...

    def breaker(self, state: State) -> None:
        """Take the breaker's state."""
        ...


class _Silent:
    """Tells nobody."""

    def judged(self, engine: str, outcome: str, seconds: float) -> None:
        """Tell nobody."""

    def sent(self, questions: int, under_way: int) -> None:
        """Tell nobody."""

    def under_way(self, requests: int) -> None:
        """Tell nobody."""

    def retried(self) -> None:
        """Tell nobody."""

    def breaker(self, state: State) -> None:
        """Tell nobody."""


SILENT: Reports = _Silent()
