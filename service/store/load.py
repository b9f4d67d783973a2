"""Reads what a turn needs in one query: rows, the places of ids stored elsewhere, decided commands, the clock."""

import orjson

from domain.definition import Definition, compile_document
from domain.idempotency import Remembered
from domain.workflow import Workflow
from handlers.breath import Breath
from handlers.faults import Fault, Overlong
from handlers.ports import Loaded, Ownership, Place, Wanted
from service.store.pool import Connection, faults_of
from service.store.versions import UnreadableVersionError

# Where there is more than $5 bytes of bodies and replies, none is sent. A column's size is known without reading it.
LOAD = """
with wanted as materialized (select unnest($2::text[]) as id),
     found as materialized (
         select w.workflow_id, w.body from wanted join workflow w on w.part = $1 and w.workflow_id = wanted.id
     ),
     decided as materialized (
         select command_id, key, digest, reply from journal where command_id = any ($3::uuid[]) and part = $1
     ),
     held as materialized (
         select coalesce((select sum(octet_length(body)) from found), 0)
              + coalesce((select sum(octet_length(reply)) from decided), 0) as bytes
     )
select 1 as kind, workflow_id as id, body as text, null::bytea as digest, null::bytea as reply, null::bigint as number,
       null::timestamptz as at from found where (select bytes from held) <= $5::float8
union all
select 2, r.workflow_id, r.root_id, null, null, r.part, null
  from wanted join workflow_id r on r.workflow_id = wanted.id
 where not exists (select from found where found.workflow_id = wanted.id)
union all
select 3, command_id::text, key, digest, reply, null, null from decided where (select bytes from held) <= $5::float8
union all
select 4, d.name, null, null, null, max(d.version), null
  from definition d where d.name = any ($4::text[]) group by d.name
union all
select 5, null, null, null, null, bytes, clock_timestamp() from held
"""
# The last change of a workflow w: the first of the events that have its version, for what comes of a change, or of
# time alone, has its version and comes after it. An event ends in these two fields, since its keys are in order: so
# no JSON is read, and of the history no more than what came after that change.
_ENDING = """convert_to(format('"version":%s,"workflow_id":%s}', w.version, to_json(w.workflow_id)), 'UTF8')"""
_OF_W = "j.part = w.part and j.workflow_id = w.workflow_id and j.sequence is not null"
LAST_CHANGE = f"""
select j.event from journal j
 where {_OF_W} and j.sequence > coalesce((
       select j.sequence from journal j
        where {_OF_W} and substring(j.event from octet_length(j.event) - octet_length({_ENDING}) + 1) <> {_ENDING}
        order by j.sequence desc limit 1), 0)
 order by j.sequence limit 1
"""  # noqa: S608 - names of ours
LAST_EVENTS = f"""
select w.workflow_id as id, case when sum(octet_length(last.event)) over () <= $3::float8 then last.event end as event
  from workflow w cross join lateral ({LAST_CHANGE}) as last
 where w.part = $1 and w.workflow_id = any ($2::text[])
"""  # noqa: S608 - as above
DEFINITION = "select body from definition where name = $1 and version = $2"


async def load(connection: Connection, owned: Ownership, wanted: Wanted) -> Loaded:
    """Load a turn's facts as they stand now; raises Overlong where they are too much at once."""
    most = wanted.bytes_max
    names = map(list, (wanted.workflow_ids, wanted.command_ids, wanted.definitions))
    with faults_of():
        rows = await connection.fetch(LOAD, owned.part, *names, most)
        undone = list(wanted.undone)
        last = await connection.fetch(LAST_EVENTS, owned.part, undone, most) if undone else ()
    workflows: dict[str, Workflow] = {}
    places: dict[str, Place] = {}
    remembered: dict[tuple[str, str], Remembered] = {}
    latest: dict[str, int] = {}
    now, held = None, 0
    breath = Breath()
    for kind, key, text, digest, reply, number, at in rows:
        if kind == 1:
            workflows[key] = Workflow(**orjson.loads(text))
            await breath.taken()
        elif kind == 2:  # noqa: PLR2004 - the query's own kinds
            places[key] = Place(number, text)
        elif kind == 3:  # noqa: PLR2004
            remembered[(text, key)] = Remembered(digest, reply)
        elif kind == 4:  # noqa: PLR2004
            latest[key] = number
        else:
            now, held = at, number
    if now is None:
        raise Fault("the load query gave no clock")
    if held > most or any(row["event"] is None for row in last):
        raise Overlong(f"more than {most} bytes at once")
    last_events = {row["id"]: orjson.loads(row["event"]) for row in last}
    return Loaded(now, workflows, places, remembered, latest, last_events)


async def load_definition(connection: Connection, name: str, version: int) -> Definition | None:
    """Load and compile one version of a definition; raises UnreadableVersionError."""
    with faults_of():
        body = await connection.fetchval(DEFINITION, name, version)
    if body is None:
        return None
    compiled = compile_document(orjson.loads(body))
    if not isinstance(compiled, Definition):
        raise UnreadableVersionError(f"definition {name} version {version}", compiled)
    return compiled
