"""The partitions' rows: who owns them, whether this store and this cluster belong together."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import orjson

from handlers.faults import Fenced, Parted
from handlers.ports import LastDecided, Ownership
from service.store.pool import Connection, faults_of

LOOKED_BACK_ROWS = 10_000
"""More than a turn writes."""
LOOKED_BACK_RECORDS = 1_000
"""More than what leaves no answer, such as the end of a transaction, as a rule follows each other in a log."""
# What is before an adoption may be of another log, whose offsets were others'.
_ADOPTED = "coalesce((select max(seq) from journal where part = $1 and kind = 'adopted' and seq >= $3), 0)"
LAST = f"""
select record_offset, reply, command_id from (
    (select record_offset, reply, command_id from journal
      where part = $1 and record_offset between $2 and $4 and seq >= $3 and seq > {_ADOPTED} and reply is not null
      order by record_offset desc, seq desc limit 1)
    union all
    (select record_offset, null, command_id from parked
      where part = $1 and record_offset between $2 and $4 and command_id is not null
      order by record_offset desc limit 1)
) as known
order by record_offset desc limit 1
"""  # noqa: S608 - a name of ours


class WrongClusterError(Exception):
    """The store belongs to another cluster, or the topic has another number of partitions than it was used with."""


@dataclass(frozen=True, slots=True)
class PartitionState:
    """A partition as the store has it, for people to look at."""

    part: int
    epoch: int
    turn: int
    owner: str | None
    group_generation: int
    touched_at: datetime
    n_parts: int
    cluster_id: str
    incarnation: UUID
    next_offset: int
    next_seq: int
    published_seq: int
    tick_time: datetime | None
    halted: str | None
    outbox_age_s: float | None
    parked: int
    parked_since: datetime | None


async def ensure(connection: Connection, *, cluster_id: str, n_parts: int) -> None:
    """Make the partitions' rows on a new store; refuse another cluster or another number of partitions."""
    with faults_of():
        async with connection.transaction():
            await connection.execute("lock table partition in share row exclusive mode")
            rows = await connection.fetch("select part, n_parts, cluster_id from partition order by part")
            if not rows:
                await connection.executemany(
                    "insert into partition (part, n_parts, cluster_id, incarnation) values ($1, $2, $3, $4)",
                    [(part, n_parts, cluster_id, uuid4()) for part in range(n_parts)],
                )
                return
    stored_cluster = next((row["cluster_id"] for row in rows if row["cluster_id"] != cluster_id), cluster_id)
    stored_parts = rows[0]["n_parts"]
    if stored_cluster != cluster_id:
        raise WrongClusterError(
            f"this database belongs to Kafka cluster {stored_cluster}, but the broker is {cluster_id}: "
            "give the broker this database was used with, or an empty database, or look at "
            "`turnstile partitions adopt --all --cluster`"
        )
    if n_parts < stored_parts:
        raise WrongClusterError(
            f"the commands topic has {n_parts} partitions, but {stored_parts} were used: "
            "the topic was made anew; restore it, or use an empty database"
        )
    if n_parts > stored_parts:
        raise WrongClusterError(
            f"the commands topic has {n_parts} partitions, the database knows {stored_parts}: "
            "run `turnstile topics grow` to take the new ones in"
        )


async def grow(connection: Connection, *, cluster_id: str, n_parts: int) -> int:
    """Take new partitions in; roots that are stored stay where they are. Returns how many were added.

    Whoever owns a partition claims it again, since where a root belongs depends on how many there are.

    Raises WrongClusterError on another cluster's store, or where partitions would go.
    """
    with faults_of():
        async with connection.transaction():
            await connection.execute("lock table partition in share row exclusive mode")
            known = await connection.fetchval("select count(*) from partition")
            strange = await connection.fetchval("select count(*) from partition where cluster_id <> $1", cluster_id)
            if strange or n_parts < known:
                raise WrongClusterError(
                    f"this database knows {known} partitions, {strange} of them of another cluster: "
                    f"it cannot grow to {n_parts} of cluster {cluster_id}"
                )
            await connection.executemany(
                "insert into partition (part, n_parts, cluster_id, incarnation) values ($1, $2, $3, $4)",
                [(part, n_parts, cluster_id, uuid4()) for part in range(known, n_parts)],
            )
            await connection.execute(
                "update partition set n_parts = $1, epoch = epoch + 1 where n_parts <> $1", n_parts
            )
    return n_parts - int(known)


async def claim(connection: Connection, part: int, *, owner: str, generation: int, damper: timedelta) -> Ownership:
    """Become the partition's owner; a halted one is returned as it stands, and stays nobody's.

    Raises Fenced where a later generation has it, Parted where there is no such partition.
    """
    with faults_of():
        row = await connection.fetchrow("select * from claim_v3($1, $2, $3, $4)", part, owner, generation, damper)
        if row is None:
            row = await connection.fetchrow("select * from partition where part = $1", part)
            if row is None:
                raise Parted(part, "the store does not know it: run `turnstile topics grow`")
            if row["halted"] is None:
                raise Fenced(f"partition {part} was claimed by a later generation of the group")
    return Ownership(
        part=part,
        epoch=row["epoch"],
        turn=row["turn"],
        next_offset=row["next_offset"],
        next_seq=row["next_seq"],
        published_seq=row["published_seq"],
        incarnation=row["incarnation"],
        n_parts=row["n_parts"],
        tick_time=row["tick_time"],
        halted=row["halted"],
    )


async def note_published(connection: Connection, part: int, epoch: int, seq: int) -> None:
    """Remember how far the relay got: a hint in exactly-once mode, the cursor in at-least-once mode."""
    with faults_of():
        await connection.execute(
            "update partition set published_seq = $3 where part = $1 and epoch = $2 and published_seq < $3",
            part,
            epoch,
            seq,
        )


async def last_decided(connection: Connection, owned: Ownership) -> LastDecided | None:
    """Return the last command before the next offset that was answered lately or is parked; None where none is near."""
    last = owned.next_offset - 1
    first = max(last - LOOKED_BACK_RECORDS, 0)
    with faults_of():
        row = await connection.fetchrow(LAST, owned.part, first, owned.next_seq - LOOKED_BACK_ROWS, last)
    if row is None:
        return None
    command_id = row["command_id"] if row["reply"] is None else orjson.loads(row["reply"])["command_id"]
    return LastDecided(row["record_offset"], str(command_id))


async def note_halted(connection: Connection, owned: Ownership, reason: str) -> None:
    """Remember why a partition is halted, so that no worker takes it up; raises Fenced where it is another owner's."""
    with faults_of():
        noted = await connection.fetchval(
            "update partition set halted = $4 where part = $1 and epoch = $2 and turn = $3 returning true",
            owned.part,
            owned.epoch,
            owned.turn,
            reason,
        )
    if not noted:
        raise Fenced(f"partition {owned.part} was taken by another owner before it was recovered")


async def halts(connection: Connection) -> dict[int, str | None]:
    """Return each partition, and why it is halted if it is."""
    with faults_of():
        rows = await connection.fetch("select part, halted from partition")
    return {row["part"]: row["halted"] for row in rows}


async def halt(connection: Connection, parts: Sequence[int] | None, reason: str) -> list[int]:
    """Halt partitions, None for all: their owners are fenced. Returns those that were not halted yet."""
    with faults_of():
        rows = await connection.fetch(
            """
            update partition set halted = $2
             where halted is null and ($1::int[] is null or part = any ($1)) returning part
            """,
            parts,
            reason,
        )
    return sorted(row["part"] for row in rows)


async def resume(connection: Connection, parts: Sequence[int] | None) -> list[int]:
    """Let partitions, None for all, be claimed again. Returns those that were halted."""
    with faults_of():
        rows = await connection.fetch(
            """
            update partition set halted = null
             where halted is not null and ($1::int[] is null or part = any ($1)) returning part
            """,
            parts,
        )
    return sorted(row["part"] for row in rows)


async def states(connection: Connection) -> list[PartitionState]:
    """Return every partition as it stands, with the age in seconds of its oldest unpublished row and what is parked."""
    with faults_of():
        rows = await connection.fetch(
            """
            select p.*, extract(epoch from clock_timestamp() - j.decided_at)::float8 as outbox_age_s,
                   (select count(*) from parked k where k.part = p.part) as parked,
                   (select min(parked_at) from parked k where k.part = p.part) as parked_since
              from partition p left join journal j on j.part = p.part and j.seq = p.published_seq
             order by p.part
            """
        )
    return [PartitionState(**dict(row)) for row in rows]
