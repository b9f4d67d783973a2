"""What the handlers need from outside, as protocols; `service` supplies the adapters and `tests` the fakes."""

from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from math import inf
from typing import Any, NamedTuple, Protocol, Self
from uuid import UUID

from contracts.predicates import Verdict
from domain.calendar import Calendar
from domain.decision import Facts
from domain.definition import Definition
from domain.guards import Question
from domain.idempotency import Remembered
from domain.sla_config import Configured
from domain.workflow import Workflow

Header = tuple[str, bytes | None]


class Unread(bytes):
    """What stands, empty, for a value that the consumer could not take into memory; `problem` says why."""

    problem: str

    def __new__(cls, problem: str) -> Self:
        """Stand for a value."""
        unread = super().__new__(cls)
        unread.problem = problem
        return unread


class Record(Protocol):
    """One record as the consumer hands it over; `timestamp` in milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]


NO_RECORD = -1


class JournalRow(NamedTuple):
    """One row of the journal: an event, the reply of its command, or what leaves another way.

    It is history, outbox, stored reply and idempotency record at once. `kind` is "event", "reply", "alert",
    "dead_letter", "forward", "follow_up" or "adopted", which publishes nothing; `key` the record's key; `type` the
    `ce_type` of what it publishes. `command_id` is set where the reply binds the id. `record_offset` is
    the command record's own, `NO_RECORD` where time alone is the cause.
    """

    kind: str
    key: str | None
    workflow_id: str | None
    type: str
    record_offset: int
    sequence: int | None = None
    command_id: str | None = None
    digest: bytes | None = None
    event: bytes | None = None
    reply: bytes | None = None
    traceparent: str | None = None


class ParkReason(StrEnum):
    """Why a command is parked: its guard has not answered, an earlier one is, our own code failed, it is early."""

    GUARD = "guard"
    BEHIND = "behind"
    ERROR = "internal_error"
    DELAYED = "delayed"


class Parked(NamedTuple):
    """A command whose outcome is still open, without its bytes; `offset` is its record's own.

    `attempts` counts what came to nothing: guards that could not tell, failures of ours. Before `not_before` nothing
    is tried again. `workflow_id` is empty where our own code failed and the id cannot be read. `size` is about how many
    bytes the record has.
    """

    offset: int
    workflow_id: str
    command_id: str | None
    reason: ParkReason
    detail: str
    parked_at: datetime
    attempts: int
    not_before: datetime
    expires_at: datetime | None = None
    size: int = 0


@dataclass(slots=True)
class ParkedRecord:
    """The record of a parked command, as it came."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]
    parked: Parked


@dataclass(frozen=True, slots=True)
class Ownership:
    """A partition as its owner holds it: what the next turn must find in the store."""

    part: int
    epoch: int
    turn: int
    next_offset: int
    next_seq: int
    published_seq: int
    incarnation: UUID
    n_parts: int
    tick_time: datetime | None = None
    halted: str | None = None


class Place(NamedTuple):
    """Where a workflow is stored."""

    part: int
    root_id: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a turn is decided on: the database's clock, rows by workflow id, places of ids stored elsewhere.

    `last_events` are those of the workflows whose last change may be undone.
    """

    now: datetime
    workflows: Mapping[str, Workflow]
    places: Mapping[str, Place]
    remembered: Mapping[tuple[str, str], Remembered]
    latest: Mapping[str, int]
    last_events: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


LOADED_BYTES_MAX = 4 * 1024 * 1024


class Wanted(NamedTuple):
    """What a turn asks the store for; `undone` are the workflows whose last event is wanted too."""

    workflow_ids: Sequence[str]
    command_ids: Sequence[str]
    definitions: Sequence[str]
    undone: Sequence[str] = ()

    @property
    def bytes_max(self) -> float:
        """How many bytes may be loaded at once; what one command names, with its root, is loaded whatever it has."""
        of_one = len(self.workflow_ids) <= 2 and len(self.command_ids) <= 1  # noqa: PLR2004 - a workflow and its root
        return inf if of_one else LOADED_BYTES_MAX


class SlaRow(NamedTuple):
    """An SLA of a workflow as it stands, for reports and for `timers reconcile`; the workflow itself has it too.

    `body` is its record as plain JSON: see `domain.sla.dump_record`.
    """

    workflow_id: str
    name: str
    body: Mapping[str, Any]


class Timer(NamedTuple):
    """When time alone changes something of a workflow; `due_at` None takes it away."""

    workflow_id: str
    name: str
    due_at: datetime | None


@dataclass(slots=True)
class Turn:
    """What one turn writes, all or nothing.

    `parked` are the commands parked in it, `postponed` earlier ones that stay so, `unparked` those that have their
    outcome. Not written: `outcomes` counts commands by entity type and result, `failures` are ours, by offset, `late`
    is for each step that time took how long before it was due.
    """

    next_offset: int
    now: datetime
    created: list[Workflow] = field(default_factory=list)
    changed: list[Workflow] = field(default_factory=list)
    rows: list[JournalRow] = field(default_factory=list)
    open_deltas: dict[str, int] = field(default_factory=dict)
    parked: list[ParkedRecord] = field(default_factory=list)
    postponed: list[Parked] = field(default_factory=list)
    unparked: list[Parked] = field(default_factory=list)
    slas: list[SlaRow] = field(default_factory=list)
    timers: list[Timer] = field(default_factory=list)
    late: list[timedelta] = field(default_factory=list)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[tuple[int, Exception]] = field(default_factory=list)


class Session(Protocol):
    """A turn whose counters are locked."""

    @property
    def facts(self) -> Facts:
        """What holds until the turn is applied."""
        ...

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Write the turn within the locked transaction; once."""
        ...


class Store(Protocol):
    """The truth."""

    async def load(self, owned: Ownership, wanted: Wanted) -> Loaded:
        """Read everything a turn needs, and the clock; raises Overlong where that is too much at once."""
        ...

    async def parked(self, owned: Ownership) -> Sequence[Parked]:
        """Return what the partition has parked but for what is delayed, by offset."""
        ...

    async def delayed(self, owned: Ownership, until: datetime, limit: int) -> Sequence[ParkedRecord]:
        """Return up to `limit` delayed commands whose time has come at an instant, the earliest first."""
        ...

    async def parked_records(self, owned: Ownership, offsets: Sequence[int]) -> Sequence[ParkedRecord]:
        """Return the records of parked commands, by offset."""
        ...

    async def definition(self, name: str, version: int) -> Definition | None:
        """Return a definition's version; immutable, so it may be kept."""
        ...

    async def calendar(self, name: str, version: int | None) -> Calendar | None:
        """Return a calendar's version; without one the newest, or one that was that a second ago."""
        ...

    async def configured(self) -> Configured:
        """Return the SLAs that are promised by configuration, or that were a second ago."""
        ...

    async def due(self, owned: Ownership, until: datetime, limit: int) -> Sequence[Timer]:
        """Return up to `limit` timers that are due at an instant or before, the earliest first."""
        ...

    async def apply(self, owned: Ownership, turn: Turn) -> Ownership | Facts:
        """Write a turn behind its fence in one commit and return the ownership after it.

        Returns facts where the store saw a conflict; then nothing was written. Raises Fenced,
        OutcomeUnknown, Poison or Transient.
        """
        ...

    def locked(
        self, owned: Ownership, counters: Sequence[str], workflow_ids: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[Session]:
        """Lock the partition and the counters, in this order, for a turn that met a full one.

        The session knows the room of each counter, and which of the ids that the turn would create are taken by now.
        """
        ...


class Outbox(Protocol):
    """What the relay needs of the store."""

    async def outbox(self, part: int, seq: int, limit: int) -> list[tuple[int, JournalRow]]:
        """Return up to `limit` committed rows from `seq` on, in order: fewer where they are large, but one at least."""
        ...

    async def note_published(self, owned: Ownership, seq: int) -> None:
        """Remember that every row below `seq` is published."""
        ...


class LastDecided(NamedTuple):
    """A command that was decided, or parked: where in the log it was, and its id."""

    offset: int
    command_id: str


class Claims(Protocol):
    """What ownership needs of the store."""

    async def claim(self, part: int, generation: int) -> Ownership:
        """Become a partition's owner, unless it is halted; raises Fenced for a stale generation."""
        ...

    async def last_decided(self, owned: Ownership) -> LastDecided | None:
        """Return the last command before the next offset that the store knows of, None where that is long before."""
        ...

    async def note_halted(self, owned: Ownership, reason: str) -> None:
        """Remember why the partition is halted; raises Fenced where another owner took it or took turns meanwhile.

        Who was overtaken compares its own old figures with another's new ones, and must not halt for it.
        """
        ...

    async def halts(self) -> Mapping[int, str | None]:
        """Return each partition, and why it is halted if it is."""
        ...

    async def halt_all(self, reason: str) -> None:
        """Halt every partition of the store."""
        ...


class Publisher(Protocol):
    """Publishes one partition's rows; thrown away after any error."""

    async def start(self) -> int | None:
        """Fence earlier publishers and return the next seq by the broker's cursor, None if it has none."""
        ...

    async def publish(self, rows: Sequence[tuple[int, JournalRow]]) -> None:
        """Publish rows in order, all or none, and move the cursor past the last; raises Transient."""
        ...

    async def close(self) -> None:
        """Let go of it; never raises."""
        ...


class Log(Protocol):
    """The commands topic as the consumer of this worker sees it."""

    async def bounds(self, part: int) -> tuple[int, int]:
        """Return the first offset that is there and the next one to be written."""
        ...

    def seek(self, part: int, offset: int) -> None:
        """Read on from `offset`."""
        ...

    def passed(self, part: int) -> int:
        """Return the offset before which every command since the last seek was handed over.

        It may be beyond the last one's next: the ends of transactions, and what was aborted, have offsets too.
        """
        ...

    def pause(self, part: int) -> None:
        """Stop fetching."""
        ...

    def resume(self, part: int) -> None:
        """Fetch again."""
        ...

    def generation(self) -> int:
        """Return the consumer group's generation."""
        ...


class Guards(Protocol):
    """The predicate engine."""

    def ask(self, questions: Sequence[Question]) -> list[Verdict] | Awaitable[Sequence[Verdict]]:
        """Answer each question in its place; an engine that fails is `unavailable`, not an exception.

        A list is the answer itself, of an engine that need not wait.
        """
        ...


async def verdicts(guards: Guards, questions: Sequence[Question]) -> Sequence[Verdict]:
    """Ask, and wait where there is something to wait for."""
    answer = guards.ask(questions)
    return answer if isinstance(answer, list) else await answer
