"""What timers cost: deciding what is due among many that are not, commands while a downtime's timers drain, lateness.

The workflows are put into the store by set-based inserts, each with an open SLA and its timer, as turns would have left
them; nobody sends them commands. So a million are there in a minute, and only what fires is measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

import asyncpg

from contracts.ticks import Tick
from handlers.ports import Ownership, Turn
from handlers.promises import fire
from handlers.ticks import Clock, ReceivedTick
from service.bench.latency import WORKFLOWS, Quantiles, measuring
from service.bench.load import Fleet
from service.bench.pace import at_best, pace
from service.bench.place import Ground, Place, define, place
from service.bench.published import Patience
from service.bench.scale import BenchError, Say, Scale
from service.bench.throughput import Course, course
from service.memory import settle
from service.store.adapter import PostgresStore
from service.store.pool import open_connection, open_pool

DEFINITION = "bench.promised"
PROMISED = f"""
name: {DEFINITION}
version: 1
description: Two states and a promise to come from one to the other.
states: {{A: {{initial: true}}, B: {{}}}}
transitions: [{{name: forth, from: A, to: B}}, {{name: back, from: B, to: A}}]
slas: [{{name: reply, target: 1h, stops: [B]}}]
"""
SEED_ROWS = 50_000
DUE_AT_ONCE = 500
TICKED_APART = timedelta(microseconds=1)
SEED_SECONDS_MAX = 300.0
# A workflow at risk, due at $4 and every $5 after it; the body is the fold of its events, but there are none.
SEED = """
with made as materialized (
    select format('%s-%s', $1::text, n) as id, n % $6::int as part, $4::timestamptz + n * $5::interval as due
      from generate_series($2::bigint, $3::bigint) as n
), told as materialized (
    select id, part, due, clock_timestamp() as now,
           to_char(due at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as due_text,
           to_char((due - interval '1 h') at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as start_text
      from made
), promised as materialized (
    select *, format('{"due_at":"%s","next_at":"%s","run":1,"since":"%s","spent":{},"started_at":"%s",'
                     '"status":"at_risk","step":1,"target_seconds":3600,"warning_seconds":900}',
                     due_text, due_text, start_text, start_text) as record
      from told
), registered as (
    insert into workflow_id (workflow_id, part, root_id) select id, part, id from promised
), stored as (
    insert into workflow (part, workflow_id, root_id, definition, definition_version, state, version, is_open,
                          created_at, updated_at, body)
    select part, id, id, 'bench.promised', 1, 'A', 1, true, now, now,
           format('{"created_at":"%s","definition":"bench.promised","definition_version":1,"metadata":{},"root_id":"%s",'
                  '"sequence":1,"slas":{"reply":%s},"state":"A","updated_at":"%s","version":1,"workflow_id":"%s"}',
                  start_text, id, record, start_text, id)
      from promised
), kept as (
    insert into sla (part, workflow_id, name, run, status, is_open, started_at, due_at, next_at, body)
    select part, id, 'reply', 1, 'at_risk', true, due - interval '1 h', due, due, record from promised
)
insert into timer (part, workflow_id, name, due_at) select part, id, 'reply', due from promised
"""
LATE = """
select extract(epoch from decided_at - step_due_at)::float8
  from journal cross join lateral (
        select (convert_from(event, 'UTF8')::jsonb #>> '{details,step_due_at}')::timestamptz as step_due_at
       ) as told
 where kind = 'event' and type like '%.SLA_BREACHED' and workflow_id like $1 || '-%'
"""
LEFT = "select count(*) from timer where due_at < clock_timestamp()"


@dataclass(slots=True)
class Timed:
    """What was measured, in milliseconds; `late` without the grace, `ticks_at_best` as `service.bench.pace` says."""

    pending: int
    ticks: Quantiles | None = None
    ticks_at_best: Quantiles | None = None
    idle: Quantiles | None = None
    draining: Quantiles | None = None
    due_at_once: int = 0
    drained_seconds: float = 0.0
    late: Quantiles | None = None
    late_rate: int = 0

    @property
    def draining_against_idle(self) -> float | None:
        """The commands' p99 while timers drain by that of commands alone."""
        return self.draining.p99 / self.idle.p99 if self.draining and self.idle else None


async def timers(ground: Ground, scale: Scale, say: Say) -> Timed:
    """Measure all of it on one store."""
    found = Timed(scale.timers, due_at_once=scale.due, late_rate=scale.late_rate)
    async with place(ground, "timers") as where:
        await define(where.database_url, PROMISED)
        async with course(where, say) as runs:
            connection = await open_connection(where.database_url)
            try:
                await _with_worker(connection, runs, found, scale, say)
            finally:
                await connection.close()
        found.ticks, found.ticks_at_best = await _ticks(where, scale, say)
    return found


async def _with_worker(connection: asyncpg.Connection, runs: Course, found: Timed, scale: Scale, say: Say) -> None:
    """Measure commands alone, while due timers drain, and how late timers fire beside commands."""
    where, what = runs.place, "timers"
    fleet = Fleet(WORKFLOWS, where.settings.partitions)
    await runs.filling.fill(fleet.creates())
    await runs.filling.release()
    await runs.events.until_read(WORKFLOWS, runs.worker, f"{what}, creations (not counted)", say)
    far = await connection.fetchval("select clock_timestamp() + interval '30 days'")
    await _seed(connection, where, "pending", scale.timers, far, timedelta(milliseconds=1), say)
    async with measuring(where, runs, fleet, what) as window:
        await window(scale.rate, scale.warm_seconds)
        found.idle = await window(scale.rate, scale.seconds)
        say(f"{what}: {scale.rate} commands a second alone: p99 {found.idle.p99:.0f} ms")
        past = await connection.fetchval("select clock_timestamp() - interval '1 h'")
        began = monotonic()
        await _seed(connection, where, "due", scale.due, past, timedelta(microseconds=1), say)
        found.draining = await window(scale.rate, scale.seconds)
        patience = Patience(runs.worker, scale.due, f"{what}: draining", say)
        while left := await connection.fetchval(LEFT):
            patience.note(scale.due - left)
        found.drained_seconds = monotonic() - began
        say(f"{what}: beside {scale.due:,} that drain: p99 {found.draining.p99:.0f} ms")
        soon = await connection.fetchval("select clock_timestamp() + interval '5 s'")
        count = int(scale.seconds * scale.late_rate / 10)
        await _seed(connection, where, "soon", count, soon, timedelta(seconds=scale.seconds) / count, say)
        await window(scale.late_rate, scale.seconds + 10)
    late = [row[0] for row in await connection.fetch(LATE, "soon", timeout=SEED_SECONDS_MAX)]
    grace = where.settings.sla_grace_seconds
    found.late = Quantiles.of([each - grace for each in late])
    beside = f"beside {scale.late_rate} commands a second"
    say(f"{what}: {len(late):,} fired {beside}: p99 {found.late.p99:.0f} ms after the grace")


async def _ticks(where: Place, scale: Scale, say: Say) -> tuple[Quantiles, Quantiles]:
    """Measure how long a tick takes that finds so many due, in a process like a worker; also at its best pace."""
    settle()
    parts = where.settings.partitions
    each = max(scale.rounds * 40 // parts, 1)
    connection = await open_connection(where.database_url)
    try:
        past = await connection.fetchval("select clock_timestamp() - interval '1 h'")
        await _seed(connection, where, "ticked", each * parts * DUE_AT_ONCE, past, TICKED_APART, say)
        await _at_rest(connection)
    finally:
        await connection.close()
    pool = await open_pool(where.database_url, size=2)
    times: list[float] = []
    paces: list[tuple[float, float]] = []
    try:
        store = PostgresStore(pool, owner="turnstile bench", damper=timedelta())
        for part in range(parts):
            owned = await store.claim(part, 1)
            for number in range(1, each + 1):
                before_next = past + number * DUE_AT_ONCE * parts * TICKED_APART - TICKED_APART
                before = pace()
                owned, spent = await _fired(store, owned, before_next)
                paces.append((before, pace()))
                times.append(spent)
    finally:
        await pool.close()
    found, best = Quantiles.of(times), Quantiles.of(at_best(times, paces))
    say(f"timers: {len(times)} ticks that find {DUE_AT_ONCE}: p50 {found.p50:.0f} ms, p99 {found.p99:.0f} ms")
    return found, best


async def _fired(store: PostgresStore, owned: Ownership, until: datetime) -> tuple[Ownership, float]:
    """Fire what is due of a partition up to an instant; return the ownership after it and the seconds it took."""
    clock = Clock()
    tick = Tick(partition=owned.part, time=until + clock.grace, commands_end_offset=owned.next_offset, emitter="")
    count, more = 0, True

    def applied(_: Ownership, __: Ownership, turn: Turn) -> None:
        nonlocal count
        count += len(turn.timers)

    began = monotonic()
    while more:
        owned, more = await fire(store, clock, owned, ReceivedTick(_NoRecord(), tick), applied=applied)
    spent = monotonic() - began
    if count != DUE_AT_ONCE:
        raise BenchError(f"no figure: a tick found {count} timers, not {DUE_AT_ONCE}")
    return owned, spent


class _NoRecord:
    """Stands for the record of a tick that came on no topic."""

    topic = ""
    partition = offset = timestamp = 0
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()


async def _at_rest(connection: asyncpg.Connection) -> None:
    """Have the database do now what so many rows at once leave it to do: no tick brings them."""
    for order in ("vacuum (analyze)", "checkpoint"):
        await connection.execute(order, timeout=SEED_SECONDS_MAX)


async def _seed(
    connection: asyncpg.Connection, where: Place, name: str, count: int, due: datetime, apart: timedelta, say: Say
) -> None:
    """Put workflows with timers into the store, all visible at once."""
    async with connection.transaction():
        for first in range(0, count, SEED_ROWS):
            say(f"timers, {name}: {first:,} of {count:,} put into the store")
            last = min(first + SEED_ROWS, count) - 1
            await connection.execute(
                SEED, name, first, last, due, apart, where.settings.partitions, timeout=SEED_SECONDS_MAX
            )
    if count > SEED_ROWS:
        await connection.execute("analyze", timeout=SEED_SECONDS_MAX)
