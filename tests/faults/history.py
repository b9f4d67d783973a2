"""Decides from the outside whether a run kept every promise: what was sent, published and stored, held together.

Each source is gone through once, in its own order, so a run of 100,000s of commands is read from files in linear
time. Nothing here knows which fault struck: only whether, in at-least-once mode, a record may come again.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

import orjson

from domain.evolve import evolve
from domain.workflow import Workflow, dump
from tests.faults.promises import Promises
from tests.faults.published import Kind, Line, Violation

Row = Mapping[str, Any]

NUMBER = "load-number"
"""The header under which the client numbers what it sends; a forwarded copy keeps it."""
FOLLOW_UP = "turnstile_depth"
"""The header of what the service sends to itself."""
TOO_MANY_PARKED = "parked < parked_max"
BINDS_NO_ID = frozenset({"COMMAND_ID_REUSED", "EXPIRED", "INVALID_COMMAND", "PREDICATE_UNAVAILABLE"})


@dataclass(slots=True)
class Record:
    """A record of a topic, as `handlers.ports.Record` has it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]

    def header(self, name: str) -> str | None:
        """Return a header's text."""
        return next((text.decode() for key, text in self.headers if key == name and text is not None), None)

    @property
    def place(self) -> str:
        """Return partition/offset."""
        return f"{self.partition}/{self.offset}"


class Sent(NamedTuple):
    """One line of the client's log; `place` is None where the broker's answer was lost, times in seconds."""

    number: int
    place: str | None
    sent_at: float


@dataclass(frozen=True, slots=True)
class History:
    """What a run left: topics by (partition, offset), the journal by (part, seq), each read once in this order.

    Without a client's log (None) what depends on it is not looked at. `answers` says when the client first saw the
    reply to the record at a place, on the clock of `sent_at`.
    """

    log: Iterable[Sent] | None
    answers: Mapping[str, float]
    commands: Iterable[Record]
    journal: Iterable[Row]
    events: Iterable[Record]
    replies: Iterable[Record]
    dead_letters: Iterable[Record]
    alerts: Iterable[Record]
    workflows: Iterable[Row]
    partitions: Iterable[Row]
    counters: Iterable[Row]
    slas: Iterable[Row]
    timers: Iterable[Row]


@dataclass(slots=True)
class Findings:
    """What a check found, and how much it looked at: a check of nothing proves nothing."""

    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def kinds(self) -> set[Kind]:
        """The kinds of promise that were broken."""
        return {violation.kind for violation in self.violations}


def check(history: History, *, repeats: bool = False) -> Findings:
    """Hold a run's sources together; `repeats`: a record may have been published again, word for word."""
    run = _Run(repeats)
    run.findings.violations.extend(run.look(history))
    return run.findings


class _Command(NamedTuple):
    number: int
    origin: str | None
    expected_version: int | None


class _Stage(NamedTuple):
    """A workflow at one moment of the journal."""

    version: int
    state: str | None


class _Run:
    """One check; every pass adds to what the later ones compare with."""

    def __init__(self, repeats: bool) -> None:  # noqa: FBT001 - the one setting there is
        self.findings = Findings()
        self._repeats = repeats
        self._sent_at: dict[int, float] = {}
        self._commands: dict[str, _Command] = {}
        self._outcomes: Counter[str] = Counter()
        self._forwarded: Counter[str] = Counter()
        self._lines: dict[tuple[str, int], Line] = {}
        self._order: dict[str, list[str]] = defaultdict(list)
        self._stages: dict[str, _Stage] = {}
        self._first: dict[tuple[str, str], dict[str, Any]] = {}
        self._changed: dict[tuple[str, str], dict[str, Any]] = {}
        self._folded: dict[str, Workflow] = {}
        self._ends: dict[int, int] = {}
        self._ends_of_journal: dict[int, int] = {}
        self._decided: dict[tuple[int, str], int] = {}
        self._answered: Counter[int] = Counter()
        self._promises = Promises()
        self._letters: Counter[str] = Counter()

    def look(self, history: History) -> Iterator[Violation]:
        yield from self._sending(history.log, history.commands)
        yield from self._journal(history.journal)
        yield from self._partitions(history.partitions)
        yield from self._events(history.events)
        yield from self._replies(history.replies)
        yield from self._dead_letters(history.dead_letters)
        yield from self._alerts(history.alerts)
        for line in self._lines.values():
            yield from line.close()
            self.findings.counts["repeats"] += line.repeated
        yield from self._each_has_one_outcome()
        yield from self._rows(history.workflows, history.counters)
        yield from self._promises.close()
        yield from self._promises.tables(history.slas, history.timers)
        self.findings.counts.update(self._promises.counts)
        yield from self._in_real_time(history.answers)

    def _sending(self, log: Iterable[Sent] | None, commands: Iterable[Record]) -> Iterator[Violation]:
        """Hold the client's log against the commands topic."""
        acknowledged = {}
        for sent in log or ():
            self._sent_at[sent.number] = sent.sent_at
            if sent.place is not None:
                acknowledged[sent.place] = sent.number
        for record in commands:
            number = int(record.header(NUMBER) or -1)
            origin = record.header("turnstile_origin")
            if record.header(FOLLOW_UP) is not None:
                self._promises.follow_up(record.partition, record.value or b"")
            elif log is not None and number not in self._sent_at:
                yield Violation(Kind.NOT_SENT, record.place, f"it is numbered {number}")
            if origin is not None:
                self._forwarded[origin] += 1
            elif acknowledged.pop(record.place, number) != number:
                yield Violation(Kind.LOST_RECORD, record.place, f"number {number} is in its place")
            self._commands[record.place] = _Command(number, origin, _expected_version(record))
            self._ends[record.partition] = record.offset + 1
        for place, number in acknowledged.items():
            yield Violation(Kind.LOST_RECORD, place, f"number {number}")
        self.findings.counts["commands"] = len(self._commands)

    def _journal(self, journal: Iterable[Row]) -> Iterator[Violation]:
        """Take the store's rows: gapless, each workflow's in the order of its commands and on the state before it.

        Across workflows there is no order: one whose guard does not answer waits alone.
        """
        for row in journal:
            part, seq = row["part"], row["seq"]
            before = self._ends_of_journal.get(part, 0)
            if seq != before + 1:
                yield Violation(Kind.GAP, f"partition {part}", f"{seq} after {before}")
            yield from self._in_turn(row)
            yield from self._promises.row(row)
            yield from self._disposition(row, f"{part}/{row['record_offset']}")
            self._ends_of_journal[part] = seq
            self.findings.counts[f"rows of kind {row['kind']}"] += 1

    def _in_turn(self, row: Row) -> Iterator[Violation]:
        """Compare a decision's place with the one before it of the same workflow on the same partition."""
        rejection = {} if row["reply"] is None else orjson.loads(row["reply"]).get("rejection", {})
        if row["reply"] is None or rejection.get("code") == "INVALID_COMMAND" or turned_away(rejection):
            return  # what needs no workflow need not wait for it
        name, offset = (row["part"], row["workflow_id"]), row["record_offset"]
        self.findings.counts["answered after later ones"] += offset < self._answered[row["part"]]
        self._answered[row["part"]] = max(offset, self._answered[row["part"]])
        last = self._decided.get(name, -1)
        if offset < last:
            yield Violation(Kind.OUT_OF_TURN, f"{row['part']}/{offset}", f"row {row['seq']} comes after offset {last}")
        self._decided[name] = offset

    def _disposition(self, row: Row, place: str) -> Iterator[Violation]:
        part = row["part"]
        if row["kind"] == "forward":
            self._outcomes[place] += 1
            if not self._forwarded.pop(place, 0):
                yield Violation(Kind.LOST, place, "it was to be forwarded, and never arrived")
            return
        if row["kind"] == "dead_letter":
            letter = orjson.loads(row["event"])
            name = _letter_id(letter)
            self._letters[name] += 1
            yield from self._line("dead letters", part).write(_numbered(letter, self._letters[name]), row["event"])
            return
        if row["kind"] == "alert":
            yield from self._line("alerts", part).write(orjson.loads(row["event"])["alert_id"], row["event"])
        elif row["kind"] == "event":
            event = orjson.loads(row["event"])
            yield from self._line("events", part).write(event["event_id"], _content(row["key"], row["event"]))
            self._stages[event["workflow_id"]] = _Stage(
                event["version"], event.get("to_state", self._stage(event["workflow_id"]).state)
            )
        if row["reply"] is not None:
            reply = orjson.loads(row["reply"])
            yield from self._line("replies", part).write(place, _content(row["key"], row["reply"]))
            self._order[reply["workflow_id"]].append(place)
            shown = _Stage(reply.get("version", 0), reply.get("state"))
            if shown.state is not None and not reply.get("duplicate") and shown != self._stage(reply["workflow_id"]):
                current = self._stage(reply["workflow_id"])
                yield Violation(Kind.STALE, place, f"it shows {tuple(shown)}, its workflow was at {tuple(current)}")

    def _partitions(self, partitions: Iterable[Row]) -> Iterator[Violation]:
        for row in partitions:
            part = row["part"]
            name = f"partition {part}"
            self._promises.partition(row)
            if row["next_seq"] != self._ends_of_journal.get(part, 0) + 1:
                end = self._ends_of_journal.get(part, 0)
                yield Violation(Kind.GAP, name, f"the journal ends at {end}, the next is {row['next_seq']}")
            if row["published_seq"] != row["next_seq"]:
                yield Violation(Kind.UNFINISHED, name, f"published {row['published_seq']} of {row['next_seq']}")
            if row["next_offset"] < self._ends.get(part, 0):
                yield Violation(Kind.UNFINISHED, name, f"decided {row['next_offset']} of {self._ends.get(part, 0)}")

    def _events(self, events: Iterable[Record]) -> Iterator[Violation]:
        """Hold the events against the journal, and each workflow's against each other."""
        for record in events:
            event = orjson.loads(record.value or b"{}")
            new, wrong = self._line("events", record.partition).see(
                record.header("ce_id") or "", _content(record.key, record.value)
            )
            yield from wrong
            if not new:
                continue
            self.findings.counts["events"] += 1
            before = self._folded.get(event["workflow_id"])
            # What comes of a change, or of time alone, leaves the version as it is.
            changes = event["category"] != "sla" or before is None or event["version"] != before.version
            name = (event["root_id"], event.get("command_id"))
            if changes and name in self._changed:
                yield Violation(Kind.DECIDED_TWICE, str(name), "it changed things twice")
            if changes:
                self._changed[name] = event
            yield from self._follow(before, event, changes=changes)

    def _follow(self, before: Workflow | None, event: dict[str, Any], *, changes: bool) -> Iterator[Violation]:
        workflow_id = event["workflow_id"]
        sequence, version, state = (0, 0, None) if before is None else (before.sequence, before.version, before.state)
        if (event["sequence"], event["version"], event.get("from_state", state)) != (
            sequence + 1,
            version + changes,
            state,
        ):
            found = f"event {event['sequence']}, version {event['version']}, from {event.get('from_state')}"
            yield Violation(Kind.BROKEN_CHAIN, workflow_id, f"{found} after {sequence}, version {version} in {state}")
            return
        self._folded[workflow_id] = evolve(before, event)

    def _replies(self, replies: Iterable[Record]) -> Iterator[Violation]:
        """Hold the replies against the journal, the events and each other."""
        for record in replies:
            place = record.header("ce_id") or ""
            new, wrong = self._line("replies", record.partition).see(place, _content(record.key, record.value))
            yield from wrong
            if not new:
                continue
            self._outcomes[place] += 1
            reply = orjson.loads(record.value or b"{}")
            self.findings.counts[_named(reply)] += 1
            yield from self._reply(place, reply)
        for name in self._changed.keys() - self._first.keys():
            yield Violation(Kind.DISAGREES, str(name), "it made an event and has no reply of its own")

    def _reply(self, place: str, reply: dict[str, Any]) -> Iterator[Violation]:
        name = (reply["root_id"], reply["command_id"])
        if reply.get("duplicate"):
            if _same(reply) != _same(self._first.get(name, {})):
                yield Violation(Kind.WRONG_REPEAT, place, f"the repeat of {name}")
            return
        if reply.get("rejection", {}).get("code") in BINDS_NO_ID:
            return
        if name in self._first:
            yield Violation(Kind.DECIDED_TWICE, place, str(name))
        self._first[name] = reply
        event = self._changed.get(name)
        if reply["outcome"] != "accepted":
            if event is not None:
                yield Violation(Kind.DISAGREES, place, f"{name} was refused, and there is an event of it")
            return
        if event is None:
            yield Violation(Kind.DISAGREES, place, f"{name} was accepted, and there is no event of it")
            return
        says = (reply["events"][:1], reply["version"], reply.get("to_state"))
        if says != ([event["event_id"]], event["version"], event.get("to_state")):
            yield Violation(Kind.DISAGREES, place, f"the reply says {says}, the event is {event['event_id']}")
        command = self._commands.get(place)
        if command is not None and command.expected_version not in {None, event["version"] - 1}:
            yield Violation(Kind.WRONG_VERSION, place, f"version {event['version']} follows {command.expected_version}")

    def _dead_letters(self, dead_letters: Iterable[Record]) -> Iterator[Violation]:
        seen: Counter[str] = Counter()
        for record in dead_letters:
            letter = orjson.loads(record.value or b"{}")
            name = _letter_id(letter)
            seen[name] = min(seen[name] + 1, self._letters[name])
            new, wrong = self._line("dead letters", record.partition).see(
                _numbered(letter, seen[name]), record.value or b""
            )
            yield from wrong
            if new and letter["topic"].endswith(".commands"):
                self._outcomes[f"{letter['partition']}/{letter['offset']}"] += 1
                self.findings.counts["dead letters"] += 1

    def _alerts(self, alerts: Iterable[Record]) -> Iterator[Violation]:
        """Hold the alerts against the journal."""
        for record in alerts:
            line = self._line("alerts", record.partition)
            new, wrong = line.see(record.header("ce_id") or "", record.value or b"")
            yield from wrong
            self.findings.counts["alerts"] += new

    def _each_has_one_outcome(self) -> Iterator[Violation]:
        for place in self._commands:
            number = self._outcomes.pop(place, 0)
            if number != 1:
                yield Violation(Kind.DOUBLED_OUTCOME if number else Kind.NO_OUTCOME, place, f"it has {number}")
        for place in self._outcomes:
            yield Violation(Kind.INVENTED_OUTCOME, place, "there is no such command")
        for origin in self._forwarded:
            yield Violation(Kind.INVENTED, origin, "it was forwarded, and the store knows nothing of it")

    def _rows(self, workflows: Iterable[Row], counters: Iterable[Row]) -> Iterator[Violation]:
        """Hold each row against the fold of its events, and each counter against the rows."""
        is_open: Counter[str] = Counter()
        for row in workflows:
            folded = self._folded.pop(row["workflow_id"], None)
            is_open[row["definition"]] += row["is_open"]
            self.findings.counts["workflows"] += 1
            yield from self._promises.workflow(row)
            if folded is None:
                yield Violation(Kind.NOT_THE_FOLD, row["workflow_id"], "it has no events")
            elif dump(folded).decode() != row["body"]:
                yield Violation(Kind.NOT_THE_FOLD, row["workflow_id"], "its body differs")
            elif (folded.state, folded.version) != (row["state"], row["version"]):
                yield Violation(Kind.NOT_THE_FOLD, row["workflow_id"], "its columns are not its body")
        for workflow_id in self._folded:
            yield Violation(Kind.NOT_THE_FOLD, workflow_id, "it has events and no row")
        for row in counters:
            if row["open"] != is_open[row["definition"]]:
                counted = is_open[row["definition"]]
                yield Violation(Kind.MISCOUNTED, row["definition"], f"{row['open']} for {counted} open workflows")

    def _in_real_time(self, answers: Mapping[str, float]) -> Iterator[Violation]:
        """Say which command was decided before one whose reply its sender had seen.

        Backwards through a workflow's decisions: none may have been sent after a later one was answered.
        """
        for workflow_id, places in self._order.items():
            earliest, which, latest = inf, "", 0.0
            for place in reversed(places):
                command = self._commands.get(place)
                sent_at = 0.0 if command is None else self._sent_at.get(command.number, 0.0)
                if sent_at > earliest:
                    yield Violation(Kind.BEFORE_ITS_CAUSE, workflow_id, f"{place} knew the reply to {which}")
                if answers.get(place, inf) < earliest:
                    earliest, which = answers[place], place
                self.findings.counts["commands sent after a reply"] += answers.get(place, inf) < latest
                latest = max(latest, sent_at)

    def _line(self, topic: str, part: int) -> Line:
        line = self._lines.get((topic, part))
        if line is None:
            line = self._lines[topic, part] = Line(f"{topic} of partition {part}", self._repeats)
        return line

    def _stage(self, workflow_id: str) -> _Stage:
        return self._stages.get(workflow_id, _Stage(0, None))


def _content(key: str | bytes | None, value: bytes | None) -> bytes:
    return (key.encode() if isinstance(key, str) else key or b"") + b"\0" + (value or b"")


def _letter_id(letter: dict[str, Any]) -> str:
    return f"{letter['topic']}/{letter['partition']}/{letter['offset']}"


def _numbered(letter: dict[str, Any], number: int) -> str:
    """Name a letter; a tick has no exactly-once position, so two owners may each put the same one aside."""
    return f"{_letter_id(letter)} {number}" if letter["topic"].endswith(".scheduler") else _letter_id(letter)


def turned_away(rejection: Mapping[str, Any]) -> bool:
    """Say whether a command was refused because too many are parked: at once, before those that wait."""
    return bool(rejection.get("why", {}).get("clause") == TOO_MANY_PARKED)


def _expected_version(record: Record) -> int | None:
    try:
        body = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError:
        return None
    version = body.get("expected_version") if isinstance(body, dict) else None
    return version if isinstance(version, int) else None


def _same(reply: dict[str, Any]) -> dict[str, Any]:
    """Return what a repeat must say as the first reply said it."""
    return {name: said for name, said in reply.items() if name not in {"duplicate", "correlation_id"}}


def _named(reply: dict[str, Any]) -> str:
    if reply.get("duplicate"):
        return "duplicates"
    return "accepted" if reply["outcome"] == "accepted" else "refused"
