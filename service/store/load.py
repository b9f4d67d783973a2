"""Reads what a turn needs in one query: rows, the places of ids stored elsewhere, decided commands, the clock."""

import orjson

from domain.definition import Definition, compile_document
from domain.idempotency import Remembered
from domain.workflow import Workflow
from handlers.breath import Breath
from handlers.faults import Fault
from handlers.ports import Loaded, Ownership, Place, Wanted
from service.store.pool import Connection, faults_of
from service.store.versions import UnreadableVersionError

LOAD = """
with wanted as materialized (select unnest($2::text[]) as id),
     found as materialized (
         select w.workflow_id, w.body from wanted join workflow w on w.part = $1 and w.workflow_id = wanted.id
     )
select 1 as kind, workflow_id as id, body as text, null::bytea as digest, null::bytea as reply, null::int as number,
       null::timestamptz as at from found
union all
select 2, r.workflow_id, r.root_id, null, null, r.part, null
  from wanted join workflow_id r on r.workflow_id = wanted.id
 where not exists (select from found where found.workflow_id = wanted.id)
union all
select 3, j.command_id::text, j.key, j.digest, j.reply, null, null
  from journal j where j.command_id = any ($3::uuid[]) and j.part = $1
union all
select 4, d.name, null, null, null, max(d.version), null
  from definition d where d.name = any ($4::text[]) group by d.name
union all
select 5, null, null, null, null, null, clock_timestamp()
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
select w.workflow_id as id, last.event from workflow w cross join lateral ({LAST_CHANGE}) as last
 where w.part = $1 and w.workflow_id = any ($2::text[])
"""  # noqa: S608 - as above
DEFINITION = "select body from definition where name = $1 and version = $2"


async def load(connection: Connection, owned: Ownership, wanted: Wanted) -> Loaded:
    """Load a turn's facts as they stand now."""
    with faults_of():
        rows = await connection.fetch(
            LOAD, owned.part, list(wanted.workflow_ids), list(wanted.command_ids), list(wanted.definitions)
        )
        last = await connection.fetch(LAST_EVENTS, owned.part, list(wanted.undone)) if wanted.undone else ()
    workflows: dict[str, Workflow] = {}
    places: dict[str, Place] = {}
    remembered: dict[tuple[str, str], Remembered] = {}
    latest: dict[str, int] = {}
    now = None
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
            now = at
    if now is None:
        raise Fault("the load query gave no clock")
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
