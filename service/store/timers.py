"""Timers as stored: which are due."""

from datetime import datetime

from handlers.ports import Ownership, Timer
from service.store.pool import Connection, faults_of

DUE = "select workflow_id, name, due_at from timer where part = $1 and due_at <= $2 order by due_at limit $3"


async def load_due(connection: Connection, owned: Ownership, until: datetime, limit: int) -> list[Timer]:
    """Return up to `limit` timers that are due at an instant or before, the earliest first."""
    with faults_of():
        rows = await connection.fetch(DUE, owned.part, until, limit)
    return [Timer(*row) for row in rows]


async def count_due(connection: Connection, until: datetime) -> int:
    """Return how many timers of any partition are due at an instant or before."""
    with faults_of():
        return int(await connection.fetchval("select count(*) from timer where due_at <= $1", until))
