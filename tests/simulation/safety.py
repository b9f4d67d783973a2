"""What must hold at every moment of a simulated world: as each turn commits, as each record becomes readable."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import orjson

from contracts.topics import Topics
from handlers.placement import partition_of
from handlers.ports import JournalRow, Ownership, Turn
from tests.e2e.audit import Seen, differences
from tests.fakes.ports import CommandRecord
from tests.faults.synthetic import sla_rows, timer_rows
from tests.simulation.database import Database
from tests.simulation.kafka import Kafka, Where
from tests.simulation.load import GATE, GATES_MAX

# Every way a door can move: not by a guard that denies, nor by one that nobody answers.
MOVES = frozenset(
    {
        ("shut", "open"), ("ajar", "open"), ("open", "shut"), ("shut", "ajar"), ("shut", "bricked"),
        ("open", "bricked"), ("open", "jammed"), ("jammed", "shut"),
    }
)  # fmt: skip


# Two ticks and the grace.
LATE_MAX = timedelta(seconds=8)


class Violation(NamedTuple):
    """A promise that was broken: which, and how."""

    rule: str
    detail: str


class Safety:
    """Watches a database and a broker from outside; `violations` says what it saw."""

    def __init__(self, topics: Topics, *, parts: int) -> None:
        self.violations: list[Violation] = []
        self.database: Database
        self.kafka: Kafka
        self._topics = topics
        self._parts = parts
        self._next_offset = dict.fromkeys(range(parts), 0)
        self._answered: dict[int, set[int]] = defaultdict(set)
        self._parked: dict[int, set[int]] = defaultdict(set)
        self._due: dict[Where, list[bytes]] = defaultdict(list)
        self._shown: dict[Where, int] = defaultdict(int)
        self._versions: dict[str, int] = {}
        self._states: dict[str, str] = {}
        self._open: set[str] = set()

    def broken(self, rule: str, detail: str) -> None:
        """Keep a violation."""
        self.violations.append(Violation(rule, detail))

    def committed(self, owned: Ownership, turn: Turn) -> None:
        """Look at a turn that was just written."""
        part, row = owned.part, self.database.rows[owned.part]
        if owned.epoch != row.epoch:
            self.broken("one owner", f"partition {part} was written at epoch {owned.epoch}, it is at {row.epoch}")
        journal = self.database.journal[part]
        if row.next_seq != len(journal) + 1:
            self.broken("gapless journal", f"partition {part} is at row {row.next_seq} and has {len(journal)}")
        self._look_at_offsets(part, turn)
        for journal_row in turn.rows:
            self._look_at_row(part, journal_row)
        for workflow in turn.created:
            if workflow.workflow_id in self._versions and workflow.version <= self._versions[workflow.workflow_id] - 1:
                self.broken("one workflow per id", f"{workflow.workflow_id} was created again on partition {part}")
        for workflow in (*turn.created, *turn.changed):
            if partition_of(workflow.root_id, self._parts) != part:
                self.broken("own partition", f"{workflow.workflow_id} of root {workflow.root_id} is on {part}")
            if workflow.definition == GATE:
                (self._open.add if workflow.completed_at is None else self._open.discard)(workflow.workflow_id)
        if len(self._open) > GATES_MAX:
            self.broken("max_open", f"{len(self._open)} of {GATES_MAX} are open")

    def shown(self, record: CommandRecord) -> None:
        """Look at a record that readers with read_committed see from now on."""
        where = (record.topic, record.partition)
        if record.topic in {self._topics.commands, self._topics.scheduler}:
            return
        due, place = self._due[where], self._shown[where]
        self._shown[where] += 1
        if place < len(due) and due[place] == record.value:
            return
        name = f"{record.topic}/{record.partition}: record {place}"
        if record.value in due[:place]:
            self.broken("published once", f"{name} was published before")
        elif record.value in due:
            self.broken("published in order", f"{name} comes before others that were committed earlier")
        else:
            self.broken("committed first", f"{name} is not committed")

    def settled(self) -> bool:
        """Say whether everything sent is decided, and everything decided is published."""
        return self.kafka.idle() and not any(self.unsettled())

    def unsettled(self) -> Iterator[str]:
        """Say what is not decided or not published."""
        for part, row in self.database.rows.items():
            commands = self.kafka.readable(self._topics.commands, part)
            if commands and commands[-1].offset >= row.next_offset:
                yield f"partition {part} is decided up to {row.next_offset} of {commands[-1].offset + 1}"
        yield from (f"partition {part} has parked {sorted(parked)}" for part, parked in self._parked.items() if parked)
        late = self.database.now - LATE_MAX
        yield from (
            f"partition {part} has not fired {timer}"
            for (part, *_), timer in self.database.timers.items()
            if timer.due_at is not None and timer.due_at < late
        )
        for where, due in self._due.items():
            if self._shown[where] != len(due):
                yield f"{where[0]}/{where[1]} shows {self._shown[where]} of {len(due)}"

    def look_back(self, sent: list[dict[str, Any]]) -> None:
        """Compare topics, journal and rows, as the tests on the real servers do, once all is settled."""
        database, topics = self.database, self._topics
        parts = range(self._parts)
        seen = Seen(
            commands=[record for part in parts for record in self.kafka.readable(topics.commands, part)],
            events=[record for part in parts for record in self.kafka.readable(topics.events, part)],
            replies=[record for part in parts for record in self.kafka.readable(topics.replies, part)],
            dead_letters=[record for part in parts for record in self.kafka.readable(topics.dead_letters, part)],
            alerts=[record for part in parts for record in self.kafka.readable(topics.alerts, part)],
            journal=[
                {"part": part, "seq": seq, **row._asdict()}
                for part in parts
                for seq, row in enumerate(database.journal[part], start=1)
            ],
            workflows=[_columns(part, workflow_id, body) for (part, workflow_id), body in database.workflows.items()],
            partitions=[
                # `published_seq` is a hint: a claim that came late leaves it behind, until the next turn.
                {
                    "part": part,
                    "next_offset": row.next_offset,
                    "next_seq": row.next_seq,
                    "published_seq": max(row.published_seq, row.next_seq),
                    "tick_time": row.tick_time,
                }
                for part, row in database.rows.items()
            ],
            counters=[{"definition": GATE, "open": database.counts[GATE].open}],
            slas=sla_rows(database),
            timers=timer_rows(database),
        )
        for difference in differences(seen):
            self.broken("audit", difference)
        ids = [workflow_id for _, workflow_id in database.workflows]
        if len(ids) != len(set(ids)):
            self.broken("one workflow per id", f"{sorted(ids)} are stored")
        self._look_at_expectations(sent, [orjson.loads(record.value or b"") for record in seen.replies])

    def _look_at_expectations(self, sent: list[dict[str, Any]], replies: list[dict[str, Any]]) -> None:
        """Of commands that expect one version at most one is accepted, and it makes the next version."""
        expected = {
            (str(body.get("root_id") or body["workflow_id"]), body["command_id"]): body["expected_version"]
            for body in sent
            if "expected_version" in body and "reason" not in body
        }
        met: dict[tuple[str, int], str] = {}
        for reply in replies:
            version = expected.get((reply["root_id"], reply["command_id"]))
            if version is None or reply["outcome"] != "accepted" or reply.get("duplicate"):
                continue
            first = met.setdefault((reply["workflow_id"], version), reply["command_id"])
            if first != reply["command_id"] or reply["version"] != version + 1:
                self.broken("expected version", f"{reply['workflow_id']} at {version}: {reply['command_id']}, {first}")

    def _look_at_offsets(self, part: int, turn: Turn) -> None:
        before, after = self._next_offset[part], turn.next_offset
        if after < before:
            self.broken("offset goes on", f"partition {part} went from offset {before} to {after}")
        answered = self._answered[part]
        for row in turn.rows:
            if row.kind in {"event", "alert"} and row.reply is None:
                continue
            if row.kind == "dead_letter" and orjson.loads(row.event or b"{}")["topic"] != self._topics.commands:
                continue
            if row.record_offset in answered:
                self.broken("one outcome", f"command {part}/{row.record_offset} has another outcome")
            answered.add(row.record_offset)
        parked = self._look_at_parked(part, turn)
        records, _ = self.kafka.read((self._topics.commands, part), before, max(after - before, 0))
        for record in records:
            if record.offset < after and record.offset not in answered and record.offset not in parked:
                self.broken("one outcome", f"command {part}/{record.offset} was passed over")
        self._next_offset[part] = max(before, after)

    def _look_at_parked(self, part: int, turn: Turn) -> set[int]:
        """Return what the partition has parked after a turn; what is parked no more has its outcome."""
        parked, answered = self._parked[part], self._answered[part]
        parked.update(record.offset for record in turn.parked)
        for offset in (each.offset for each in turn.unparked):
            if offset not in parked or offset not in answered:
                self.broken("one outcome", f"command {part}/{offset} is parked no more and has no outcome")
            parked.discard(offset)
        if both := sorted(parked & answered):
            self.broken("one outcome", f"commands {both} of partition {part} have an outcome and are parked")
        return parked

    def _look_at_row(self, part: int, row: JournalRow) -> None:
        topics = self._topics
        if row.reply is not None:
            self._due[topics.replies, part].append(row.reply)
        if row.kind == "dead_letter" and row.event is not None:
            self._due[topics.dead_letters, part].append(row.event)
        if row.kind == "alert" and row.event is not None:
            self._due[topics.alerts, part].append(row.event)
        if row.kind != "event" or row.event is None:
            return
        self._due[topics.events, part].append(row.event)
        event = orjson.loads(row.event)
        workflow_id, version = event["workflow_id"], event["version"]
        if version != self._versions.get(workflow_id, 0) + (event["category"] != "sla"):
            self.broken("versions 1..n", f"{workflow_id}: {version} after {self._versions.get(workflow_id, 0)}")
        self._versions[workflow_id] = version
        state = self._states.get(workflow_id)
        after = event.get("to_state", state)
        if state is not None and after != state and (state, after) not in MOVES:
            self.broken("valid transitions", f"{workflow_id} went from {state} to {after}")
        self._states[workflow_id] = after


def _columns(part: int, workflow_id: str, body: bytes) -> dict[str, Any]:
    row = orjson.loads(body)
    return {
        "part": part,
        "workflow_id": workflow_id,
        "definition": row["definition"],
        "state": row["state"],
        "version": row["version"],
        "is_open": row.get("completed_at") is None,
        "body": body.decode(),
    }
