"""What must hold of topics and tables however often a worker stopped; found from outside, empty when all is well."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiokafka import ConsumerRecord

from domain.evolve import fold
from domain.workflow import dump
from service.app import Endpoints
from service.settings import Settings
from tests.e2e.outside import header, read, rows

NO_NEW_OUTCOME = frozenset({"COMMAND_ID_REUSED", "EXPIRED", "INVALID_COMMAND", "PREDICATE_UNAVAILABLE"})


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything the topics and the store hold, read once all was decided."""

    commands: Sequence[ConsumerRecord]
    events: Sequence[ConsumerRecord]
    replies: Sequence[ConsumerRecord]
    dead_letters: Sequence[ConsumerRecord]
    journal: Sequence[Any]
    workflows: Sequence[Any]
    partitions: Sequence[Any]
    counters: Sequence[Any]


async def look(settings: Settings, endpoints: Endpoints) -> Seen:
    """Read all topics and tables."""
    topics = settings.topics
    return Seen(
        await read(endpoints, topics.commands),
        await read(endpoints, topics.events),
        await read(endpoints, topics.replies),
        await read(endpoints, topics.dead_letters),
        await rows(endpoints, "select * from journal order by part, seq"),
        await rows(endpoints, "select * from workflow"),
        await rows(endpoints, "select * from partition order by part"),
        await rows(
            endpoints,
            """
            select definition, open, (select count(*) from workflow w where w.definition = c.definition and is_open)
                as counted from open_count c
            """,
        ),
    )


def differences(seen: Seen, *, repeats: bool = False) -> list[str]:
    """Say everything that breaks a promise; `repeats`: a record may have been published again, word for word."""
    events = list(_once(seen.events)) if repeats else seen.events
    replies = list(_once(seen.replies)) if repeats else seen.replies
    dead_letters = list(_once(seen.dead_letters)) if repeats else seen.dead_letters
    return [
        *_gaps(seen),
        *_unlike_the_journal(seen, events, "event"),
        *_unlike_the_journal(seen, replies, "reply"),
        *_outcomes(seen, replies, dead_letters),
        *_decided_twice(replies, events),
        *_histories(events),
        *_folds(seen, events),
    ]


def _once(records: Iterable[ConsumerRecord]) -> Iterator[ConsumerRecord]:
    """Leave out what was published before under the same id with the same bytes."""
    known: dict[tuple[str, str | None], bytes] = {}
    for record in records:
        name = (record.topic, header(record, "ce_id"))
        if known.get(name) != record.value:
            yield record
        known[name] = record.value


def _gaps(seen: Seen) -> Iterator[str]:
    seqs = defaultdict(list)
    for row in seen.journal:
        seqs[row["part"]].append(row["seq"])
    for row in seen.partitions:
        if seqs[row["part"]] != list(range(1, row["next_seq"])):
            yield f"partition {row['part']}: the journal is not gapless up to {row['next_seq']}"
        if row["published_seq"] != row["next_seq"]:
            yield f"partition {row['part']}: published {row['published_seq']} of {row['next_seq']}"
    for row in seen.counters:
        if row["open"] != row["counted"]:
            yield f"{row['definition']}: {row['open']} are counted open, {row['counted']} are"


def _unlike_the_journal(seen: Seen, records: Sequence[ConsumerRecord], column: str) -> Iterator[str]:
    kinds = {"event": ("event",), "reply": ("event", "reply")}[column]
    for part in sorted({row["part"] for row in seen.partitions}):
        written = [
            (row["key"], row[column])
            for row in seen.journal
            if row["part"] == part and row["kind"] in kinds and row[column] is not None
        ]
        published = [(record.key.decode(), record.value) for record in records if record.partition == part]
        if written != published:
            both = zip(written, published, strict=False)
            place = next((n for n, (a, b) in enumerate(both) if a != b), min(len(written), len(published)))
            numbers = f"{len(written)} of kind {column} written, {len(published)} published"
            yield f"partition {part}: {numbers}; {place} differs"


def _outcomes(seen: Seen, replies: Sequence[ConsumerRecord], dead_letters: Sequence[ConsumerRecord]) -> Iterator[str]:
    """Every command record has one reply, one dead letter or one journey to its own partition."""
    outcomes = Counter(header(record, "ce_id") for record in replies)
    for record in dead_letters:
        letter = orjson.loads(record.value)
        if letter["topic"].endswith(".commands"):
            outcomes[f"{letter['partition']}/{letter['offset']}"] += 1
    for origin in {header(record, "turnstile_origin") for record in seen.commands} - {None}:
        outcomes[origin] += 1
    for record in seen.commands:
        name = f"{record.partition}/{record.offset}"
        if (number := outcomes.pop(name, 0)) != 1:
            yield f"command {name} has {number} outcomes"
    yield from (f"an outcome of {name}, which is no command" for name in outcomes)


def _decided_twice(replies: Sequence[ConsumerRecord], events: Sequence[ConsumerRecord]) -> Iterator[str]:
    decided: Counter[tuple[str, str]] = Counter()
    for record in replies:
        reply = orjson.loads(record.value)
        refused = reply.get("rejection", {}).get("code") in NO_NEW_OUTCOME
        if not reply.get("duplicate") and not refused:
            decided[reply["root_id"], reply["command_id"]] += 1
    yield from (f"command {name} was decided {number} times" for name, number in decided.items() if number > 1)
    changed = Counter((event["root_id"], event["command_id"]) for event in _values(events))
    yield from (f"command {name} changed things {number} times" for name, number in changed.items() if number > 1)
    yield from (f"{name} made an event and has no reply" for name in changed if name not in decided)


def _histories(events: Sequence[ConsumerRecord]) -> Iterator[str]:
    """Sequences and versions are 1..n, each event starts where the one before ended, no id comes twice."""
    last: dict[str, tuple[int, str | None]] = {}
    ids: set[str] = set()
    for event in _values(events):
        workflow_id = event["workflow_id"]
        sequence, state = last.get(workflow_id, (0, None))
        expected = (sequence + 1, sequence + 1, event.get("from_state", state))
        if expected != (event["sequence"], event["version"], state):
            yield f"{workflow_id}: event {event['sequence']} of version {event['version']} after {sequence} in {state}"
        if event["event_id"] in ids:
            yield f"{workflow_id}: event {event['sequence']} twice"
        ids.add(event["event_id"])
        last[workflow_id] = (event["sequence"], event.get("to_state", state))


def _folds(seen: Seen, events: Sequence[ConsumerRecord]) -> Iterator[str]:
    histories: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in _values(events):
        histories[event["workflow_id"]].append(event)
    for row in seen.workflows:
        folded = fold(histories.pop(row["workflow_id"], []))
        if folded is None or dump(folded).decode() != row["body"]:
            yield f"{row['workflow_id']}: its row is not the fold of its events"
        elif (folded.state, folded.version) != (row["state"], row["version"]):
            yield f"{row['workflow_id']}: its columns are not its body"
    yield from (f"{workflow_id}: it has events and no row" for workflow_id in histories)


def _values(records: Iterable[ConsumerRecord]) -> Iterator[dict[str, Any]]:
    return (orjson.loads(record.value) for record in records)
