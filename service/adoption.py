"""Decides what taking a parted partition up again means, shows it, and does it when told to: never by itself.

Whatever the kind, an adoption is one transaction of the store alone: a new incarnation, from where in the log commands
are decided, and from where in the journal rows are published. The log is left as it is; see ADR 9.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from contracts.topics import Topics
from service.broker.cluster import ClusterFacts
from service.broker.positions import Positions, Reader
from service.broker.publishers import Elsewhere, TransactionalPublisher
from service.store import adoption as rows
from service.store.adoption import Named, Standing
from service.store.pool import Connection


@dataclass(slots=True)
class Published:
    """Events that were published and are not in the store: they happened for whoever read them, and here never did."""

    count: int = 0
    first: Named | None = None
    last: Named | None = None
    sequences: dict[str, list[int]] = field(default_factory=dict)

    def add(self, event: Named) -> None:
        """Count one more, in the order of their publication."""
        self.count += 1
        self.first = self.first or event
        self.last = event
        self.sequences.setdefault(event.workflow_id, []).append(event.sequence)


@dataclass(frozen=True, slots=True)
class Plan:
    """What adopting a partition would do, and why; `findings` are sentences for a person."""

    before: Standing
    cluster_id: str
    next_offset: int
    next_seq: int
    published: Published
    findings: tuple[str, ...]

    def fields(self) -> dict[str, Any]:
        """Return it for machines."""
        named = asdict(self.published) | {
            name: None if event is None else event._asdict()
            for name, event in (("first", self.published.first), ("last", self.published.last))
        }
        return {
            "partition": self.before.part,
            "halted": self.before.halted,
            "cluster_id": {"from": self.before.cluster_id, "to": self.cluster_id},
            "next_offset": {"from": self.before.next_offset, "to": self.next_offset},
            "next_seq": {"from": self.before.next_seq, "to": self.next_seq},
            "published_and_not_stored": named,
            "findings": list(self.findings),
        }


async def plan(connection: Connection, reader: Reader, before: Standing, facts: ClusterFacts) -> Plan:
    """Compare a partition's log with its store, changing nothing."""
    positions = await reader.positions(before.part)
    published = Published()
    findings = []
    cursor = positions.cursor or 0
    if facts.cluster_id != before.cluster_id:
        next_offset = positions.start
        findings.append(
            f"the broker is of cluster {facts.cluster_id}, the store of {before.cluster_id}: stored offsets mean "
            f"nothing there, so commands are decided from the log's first offset {positions.start} on; "
            "one that was decided before gets the reply it had"
        )
    else:
        next_offset, found = await _next_offset(connection, reader, before, positions)
        findings += found
    async for events in reader.events(before.part, await rows.last_decided_ms(connection, before.part)):
        for event in await rows.unknown(connection, before.part, [Named(*each) for each in events]):
            published.add(event)
    if cursor > before.next_seq:
        findings.append(
            f"rows up to {cursor} were published, the store ends before {before.next_seq}: "
            f"{cursor - before.next_seq} rows are missing in it, and the journal goes on at {cursor}"
        )
    if published.count:
        findings.append(
            f"{published.count} events of {len(published.sequences)} workflows were published and are not stored; "
            "what is decided now takes the same sequences under other event ids"
        )
    return Plan(before, facts.cluster_id, next_offset, max(cursor, before.next_seq), published, tuple(findings))


async def _next_offset(
    connection: Connection, reader: Reader, before: Standing, positions: Positions
) -> tuple[int, list[str]]:
    """Return from where commands are to be decided: where the store stopped, if the log still has it."""
    stored, start, end = before.next_offset, positions.start, positions.end
    if stored < start:
        gone = f"{start - stored} records are gone undecided, and nothing can bring them back"
        return start, [f"the log starts at {start}, the store has decided up to {stored}: {gone}"]
    decided = await rows.decided_within(connection, before.part, start, min(stored, end))
    same = decided is not None and await reader.command_id(before.part, decided[0]) == decided[1]
    if stored <= end and (same or decided is None):
        waiting = f"{end - stored} records of the log, from {stored} to before {end}, are still to be decided"
        return stored, [waiting] if end > stored else []
    found = f"the log holds {start} to {end}, the store has decided up to {stored}"
    if same and decided is not None:
        left = f"what is left was decided (offset {decided[0]} is the command that it was)"
        return end, [f"{found}: it lost its end, and {left}; commands are decided from {end} on"]
    others = "its records are others than those decided: it was made anew"
    return start, [f"{found}, and {others}, so commands are decided from its first offset {start} on"]


async def fence(part: int, *, bootstrap_servers: str, topics: Topics, group_id: str) -> None:
    """End whatever transaction a former owner of the partition left open, so that its cursor stands still."""
    elsewhere = Elsewhere(bootstrap_servers)
    publisher = TransactionalPublisher(
        part, bootstrap_servers=bootstrap_servers, topics=topics, group_id=group_id, elsewhere=elsewhere
    )
    try:
        await publisher.start()
    finally:
        await publisher.close()


async def carry_out(connection: Connection, planned: Plan, *, by: str) -> None:
    """Do what was planned; raises Fenced where the partition changed since."""
    await rows.adopt(
        connection,
        planned.before,
        cluster_id=planned.cluster_id,
        next_offset=planned.next_offset,
        next_seq=planned.next_seq,
        by=by,
    )
