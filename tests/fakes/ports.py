"""The other ports in memory: guards, the log of commands, the broker's cursor and what was published."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from contracts.predicates import Verdict
from domain.guards import Question
from handlers.faults import Transient
from handlers.ports import JournalRow

ENGINE = "scripted"
NOBODY_KNOWS = "workflow.nobody_knows"


class ScriptedGuards:
    """Answers by the expression: `command.context.x` as the command says of x, NOBODY_KNOWS unavailable, else false.

    `!(x)` and `!x` are the opposite of x, where x can be asked.
    """

    def __init__(self) -> None:
        self.asked = 0

    def ask(self, questions: Sequence[Question]) -> list[Verdict]:
        """Answer each question in its place."""
        self.asked += len(questions)
        return [scripted(question) for question in questions]


def scripted(question: Question) -> Verdict:
    """Answer a question as ScriptedGuards does."""
    expression = question.guard.expression
    negated, asked = expression.startswith("!"), expression.lstrip("!").strip("()")
    scope, _, name = asked.rpartition(".")
    if asked == NOBODY_KNOWS:
        return Verdict(outcome="unavailable", cause="nobody answers", clause=expression, engine=ENGINE)
    holds = asked == "true" or (scope == "command.context" and question.inputs.command.context.get(name) is True)
    if holds != negated:
        return Verdict(outcome="allow", engine=ENGINE)
    return Verdict(outcome="deny", clause=expression, values={"state": question.inputs.workflow.state},
                   engine=ENGINE)  # fmt: skip


@dataclass(slots=True)
class MemoryLog:
    """A partition's log as its consumer sees it; `calls` is what it was asked, in order."""

    start: int = 0
    end: int = 0
    calls: list[tuple[str, int]] = field(default_factory=list)
    group_generation: int = 1
    read_past: int = 0

    async def bounds(self, _part: int) -> tuple[int, int]:
        """Return where the log starts and ends."""
        return self.start, self.end

    def seek(self, _part: int, offset: int) -> None:
        """Note where to read on."""
        self.calls.append(("seek", offset))

    def passed(self, _part: int) -> int:
        """Return what was read past without a command."""
        return self.read_past

    def pause(self, part: int) -> None:
        """Note that fetching stops."""
        self.calls.append(("pause", part))

    def resume(self, part: int) -> None:
        """Note that fetching goes on."""
        self.calls.append(("resume", part))

    def generation(self) -> int:
        """Return the group's generation."""
        return self.group_generation

    @property
    def fetching(self) -> bool:
        """Say whether records would come."""
        return next((name for name, _ in reversed(self.calls) if name != "seek"), "pause") == "resume"


@dataclass(slots=True)
class MemoryBroker:
    """What publishers leave behind: the cursor and the rows; only the newest publisher may write."""

    cursor: int | None = None
    published: list[tuple[int, JournalRow]] = field(default_factory=list)
    newest: "MemoryPublisher | None" = None
    made: int = 0
    closed: int = 0

    def publisher(self, _part: int) -> "MemoryPublisher":
        """Make a publisher."""
        self.made += 1
        return MemoryPublisher(self)

    @property
    def seqs(self) -> list[int]:
        """Return the published seqs in order."""
        return [seq for seq, _ in self.published]


class MemoryPublisher:
    """Exactly once: rows and cursor move together."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    async def start(self) -> int | None:
        """Fence earlier publishers and return the cursor."""
        self._broker.newest = self
        return self._broker.cursor

    async def publish(self, rows: Sequence[tuple[int, JournalRow]]) -> None:
        """Publish all of the rows, or none."""
        if self._broker.newest is not self:
            raise Transient("fenced by a newer publisher")
        self._broker.published.extend(rows)
        self._broker.cursor = rows[-1][0] + 1

    async def close(self) -> None:
        """Let go."""
        self._broker.closed += 1


@dataclass(slots=True)
class CommandRecord:
    """A record as it came."""

    value: bytes | None
    offset: int = 0
    partition: int = 0
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    topic: str = "turnstile.commands"
    timestamp: int = 1_795_253_400_000


def numbered(records: Iterable[CommandRecord], *, first: int = 0) -> list[CommandRecord]:
    """Give records their offsets."""
    listed = list(records)
    for offset, record in enumerate(listed, start=first):
        record.offset = offset
    return listed


def header(record: CommandRecord, **values: str) -> CommandRecord:
    """Return a record with text headers."""
    stated: Mapping[str, str] = values
    record.headers = [*record.headers, *((name, value.encode()) for name, value in stated.items())]
    return record
