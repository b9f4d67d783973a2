"""Holds timers and table `sla` against the workflows' own records, from which both are derived.

Each way is asked, in one snapshot and within the database: what a record needs and is not there, and what is there and
no record needs. So a running service may go on, and memory stays small however much there is.
"""

from dataclasses import dataclass

from service.store.pool import faults_of, open_connection
from service.store.problems import SECONDS_MAX, Problems, ask

# What the workflows say. A body is read as JSON only where it may have some: reading is what takes the time.
_PROMISED = """
with promised as (
    select w.part, w.workflow_id, each.name, each.body, (each.body ->> 'run')::int as run,
           each.body ->> 'stopped_at' is null as is_open, (each.body ->> 'next_at')::timestamptz as next_at
      from workflow w cross join lateral jsonb_each(w.body::jsonb -> 'slas') as each (name, body)
     where position('"slas":' in w.body) > 0
)
"""
_OF_WORKFLOWS = {
    "timer": """
        , needed as (select * from promised where is_open and next_at is not null)
        select format('%s: SLA %s has its next step %s, its timer is set for %s', workflow_id, name,
                      coalesce('at ' || n.next_at, 'nowhere'), coalesce(t.due_at::text, 'never: there is none'))
          from needed n full join timer t using (part, workflow_id, name)
         where n.next_at is distinct from t.due_at order by workflow_id, name
    """,
    "sla_run": """
        select format('%s: SLA %s was started %s times, there are rows of %s',
                      p.workflow_id, p.name, p.run, count(s.run))
          from promised p left join sla s
            on s.part = p.part and s.workflow_id = p.workflow_id and s.name = p.name and s.run between 1 and p.run
         group by p.workflow_id, p.name, p.run having count(s.run) <> p.run order by p.workflow_id, p.name
    """,
    # A workflow keeps an SLA's latest run; those before it have ended.
    "sla": """
        select format('%s: SLA %s, run %s: the row says %s, the workflow %s', workflow_id, name, s.run, s.body,
                      case when p.body is null then 'nothing' else p.body::text end)
          from sla s left join promised p using (part, workflow_id, name)
         where case when s.run < p.run then s.is_open else s.body::jsonb is distinct from p.body end
         order by workflow_id, name, s.run
    """,
}
# Each gives the bad rows as text, the first by place; one that gives none is well.
CHECKS = {kind: _PROMISED + query for kind, query in _OF_WORKFLOWS.items()} | {
    "sla_columns": """
        select format('%s: SLA %s, run %s: column %s is %s, its body says %s', workflow_id, name, run, what,
                      coalesce(here, 'null'), coalesce(there, 'null'))
          from sla cross join lateral (select body::jsonb as said) as parsed cross join lateral (values
                   ('run', run::text, said ->> 'run'),
                   ('status', status, said ->> 'status'),
                   ('is_open', is_open::text, (said ->> 'stopped_at' is null)::text),
                   ('started_at', started_at::text, (said ->> 'started_at')::timestamptz::text),
                   ('due_at', due_at::text, (said ->> 'due_at')::timestamptz::text),
                   ('next_at', next_at::text, (said ->> 'next_at')::timestamptz::text)
               ) as compared (what, here, there)
         where here is distinct from there order by workflow_id, name, run, what
    """
}
_COUNTS = """
select count(*) filter (where is_open), count(*) filter (where is_open and next_at is not null),
       (select count(*) from timer), (select count(*) from sla)
  from promised
"""


@dataclass(slots=True)
class Reconciled(Problems):
    """What was looked at: open SLAs, those of them that have a next step, timers, and rows of table `sla`."""

    open: int = 0
    due: int = 0
    timers: int = 0
    rows: int = 0


async def reconcile(database_url: str) -> Reconciled:
    """Check every timer and SLA; raises DatabaseUnreachableError and Fault."""
    result = Reconciled()
    connection = await open_connection(database_url)
    try:
        with faults_of():
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                counts = await connection.fetchrow(_PROMISED + _COUNTS, timeout=SECONDS_MAX)
                result.open, result.due, result.timers, result.rows = counts or (0, 0, 0, 0)
                await ask(connection, CHECKS, result)
    finally:
        await connection.close()
    return result
