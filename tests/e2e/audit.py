"""What must hold of topics and tables however often a worker stopped; found from outside, empty when all is well."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import ConsumerRecord

from service.app import Endpoints
from service.settings import Settings
from tests.e2e.outside import read, rows
from tests.faults.history import History, Record, check


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything the topics and the store hold, read once all was decided."""

    commands: Sequence[ConsumerRecord]
    events: Sequence[ConsumerRecord]
    replies: Sequence[ConsumerRecord]
    dead_letters: Sequence[ConsumerRecord]
    alerts: Sequence[ConsumerRecord]
    journal: Sequence[Any]
    workflows: Sequence[Any]
    partitions: Sequence[Any]
    counters: Sequence[Any]
    slas: Sequence[Any] = ()
    timers: Sequence[Any] = ()


async def look(settings: Settings, endpoints: Endpoints) -> Seen:
    """Read all topics and tables."""
    topics = settings.topics
    return Seen(
        await read(endpoints, topics.commands),
        await read(endpoints, topics.events),
        await read(endpoints, topics.replies),
        await read(endpoints, topics.dead_letters),
        await read(endpoints, topics.alerts),
        await rows(endpoints, "select * from journal order by part, seq"),
        await rows(endpoints, "select * from workflow"),
        await rows(endpoints, "select * from partition order by part"),
        await rows(endpoints, "select definition, open from open_count"),
        await rows(endpoints, "select * from sla"),
        await rows(endpoints, "select * from timer"),
    )


def differences(seen: Seen, *, repeats: bool = False) -> list[str]:
    """Say everything that breaks a promise; `repeats`: a record may have been published again, word for word."""
    history = History(
        log=None,
        answers={},
        commands=map(_record, seen.commands),
        journal=seen.journal,
        events=map(_record, seen.events),
        replies=map(_record, seen.replies),
        dead_letters=map(_record, seen.dead_letters),
        alerts=map(_record, seen.alerts),
        workflows=seen.workflows,
        partitions=seen.partitions,
        counters=seen.counters,
        slas=seen.slas,
        timers=seen.timers,
    )
    return [str(violation) for violation in check(history, repeats=repeats).violations]


def _record(record: ConsumerRecord) -> Record:
    return Record(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        list(record.headers),
    )
