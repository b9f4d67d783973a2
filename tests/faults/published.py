"""One topic's published records held against the rows the store wrote: the same ones, in the same order, each once.

One pass over the rows, one over the records; what is kept of a row is its place and a digest.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple


class Kind(StrEnum):
    """Every way in which a history can break a promise."""

    LOST_RECORD = "the broker took a command, and its topic does not hold it"
    NOT_SENT = "the commands topic holds what nobody sent"
    NO_OUTCOME = "a command has no outcome"
    DOUBLED_OUTCOME = "a command has more than one outcome"
    INVENTED_OUTCOME = "an outcome of what is no command"
    OUT_OF_TURN = "a command was decided before an earlier one of its workflow"
    DECIDED_TWICE = "one command id was decided twice"
    WRONG_REPEAT = "a repeat was not answered with the first reply"
    GAP = "the journal of a partition is not gapless"
    UNFINISHED = "a partition was left with work undone"
    LOST = "the store holds a row that was not published"
    DOUBLED = "a row was published twice"
    REORDERED = "rows were published in another order than they were committed"
    INVENTED = "something was published that the store does not hold"
    ALTERED = "something was published otherwise than the store holds it"
    BROKEN_CHAIN = "an event does not follow the one before it of its workflow"
    DISAGREES = "a reply says otherwise than the events"
    STALE = "a command was judged on a state that was not the current one"
    WRONG_VERSION = "a command was accepted on a version it did not expect"
    BEFORE_ITS_CAUSE = "a command was decided before one whose reply its sender had seen"
    NOT_THE_FOLD = "a row is not the fold of its events"
    MISCOUNTED = "a counter is not the number of what it counts"
    STEP_TWICE = "a step of an SLA was taken twice in one run"
    STEP_MISSING = "a step of an SLA is missing"
    MET_AND_BREACHED = "an SLA was met and breached in one run"
    TOO_EARLY = "a step of an SLA was taken before it was due"
    WRONG_ALERT = "an alert is not of the highest of the steps that were taken together"
    OVERDUE = "a step of an SLA was not taken, although its time had come"
    DECIDED_OTHERWISE = "the decision made again comes out otherwise"


class Violation(NamedTuple):
    """One broken promise: its kind, where it was seen, and what was found there."""

    kind: Kind
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}: {self.what}"


class _Written(NamedTuple):
    place: int
    digest: bytes


@dataclass(slots=True)
class Line:
    """One partition of one topic: rows are written, then records seen, then the line is closed.

    With `repeats` a record may come again, word for word, after it was published once; those are counted.
    """

    name: str
    repeats: bool
    repeated: int = 0
    _written: dict[str, _Written] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _next: int = 0

    def write(self, key: str, content: bytes) -> Iterator[Violation]:
        """Take a row of the store, in its order."""
        if key in self._written:
            yield Violation(Kind.DECIDED_TWICE, self.name, f"the store holds {key} twice")
        self._written[key] = _Written(len(self._written), _digest(content))

    def see(self, key: str, content: bytes) -> tuple[bool, list[Violation]]:
        """Take a published record, in its order; returns whether it is new, and what is wrong with it."""
        written = self._written.get(key)
        if written is None:
            return False, [Violation(Kind.INVENTED, self.name, key)]
        if written.digest != _digest(content):
            return False, [Violation(Kind.ALTERED, self.name, key)]
        if key in self._seen:
            self.repeated += 1
            return False, [] if self.repeats else [Violation(Kind.DOUBLED, self.name, key)]
        self._seen.add(key)
        late = written.place < self._next
        self._next = max(self._next, written.place + 1)
        return True, [Violation(Kind.REORDERED, self.name, key)] if late else []

    def close(self) -> Iterator[Violation]:
        """Say which rows were never published."""
        for key in self._written:
            if key not in self._seen:
                yield Violation(Kind.LOST, self.name, key)


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=12).digest()
