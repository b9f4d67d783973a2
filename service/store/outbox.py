"""The journal as the relay reads it after a crash: rows from a place on, in order."""

from handlers.ports import JournalRow
from service.store.pool import Connection, faults_of

ROW_BYTES = 4096
"""What a row may take where as many as asked for are to come."""

OUTBOX = f"""
select seq, {
    ", ".join(
        "command_id::text" if name == "command_id" else "sequence" if name == "sequence" else name
        for name in JournalRow._fields
    )
}
  from (select *, sum(coalesce(octet_length(event), 0) + coalesce(octet_length(reply), 0))
                      over (order by seq rows between unbounded preceding and 1 preceding) as bytes_before
          from journal where part = $1 and seq >= $2 order by seq limit $3) j
 where coalesce(bytes_before, 0) < $4 order by seq
"""  # noqa: S608 - the names are the row's own fields


async def read_outbox(connection: Connection, part: int, seq: int, limit: int) -> list[tuple[int, JournalRow]]:
    """Return up to `limit` rows from `seq` on, each with its seq; at least one, and fewer where they are large."""
    with faults_of():
        rows = await connection.fetch(OUTBOX, part, seq, limit, limit * ROW_BYTES)
    return [(row["seq"], JournalRow(*tuple(row)[1:])) for row in rows]
