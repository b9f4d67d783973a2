"""The journal as the relay reads it after a crash: rows from a place on, in order."""

from handlers.ports import JournalRow
from service.store.pool import Connection, faults_of

OUTBOX = f"""
select seq, {
    ", ".join(
        "command_id::text" if name == "command_id" else "sequence" if name == "sequence" else name
        for name in JournalRow._fields
    )
}
  from journal where part = $1 and seq >= $2 order by seq limit $3
"""  # noqa: S608 - the names are the row's own fields


async def read_outbox(connection: Connection, part: int, seq: int, limit: int) -> list[tuple[int, JournalRow]]:
    """Return up to `limit` rows from `seq` on, each with its seq."""
    with faults_of():
        rows = await connection.fetch(OUTBOX, part, seq, limit)
    return [(row["seq"], JournalRow(*tuple(row)[1:])) for row in rows]
