-- The first schema: partitions, the id registry, workflows, the journal, definitions and counters.
-- Every row but those of the registry, the counters and the definitions carries its part first in its keys.

-- The oldest schema version whose builds may work on this schema; a step that breaks them raises it.
create table schema_floor (version text not null);
insert into schema_floor values ('0001');

-- One row per commands partition: its owner, and how far it got. Every write of an owner moves `turn`.
create table partition (
    part             int primary key,
    epoch            bigint not null default 0,
    turn             bigint not null default 0,
    owner            text,
    group_generation int not null default 0,
    touched_at       timestamptz not null default clock_timestamp(),
    n_parts          int not null,
    cluster_id       text not null,
    incarnation      uuid not null,
    next_offset      bigint not null default 0,   -- the next record to decide
    next_seq         bigint not null default 1,   -- the next journal row
    published_seq    bigint not null default 1,   -- a hint: rows below it are published
    tick_time        timestamptz,
    halted           text                         -- why it is halted, or null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Every id ever used, store-wide.
create table workflow_id (
    workflow_id text primary key,
    part        int not null,
    root_id     text not null
);

-- A workflow as it stands; `body` is canonical JSON and equals the fold of its events.
create table workflow (
    part               int not null,
    workflow_id        text not null,
    root_id            text not null,
    tenant             text,
    definition         text not null,
    definition_version int not null,
    state              text not null,
    version            bigint not null,
    is_open            boolean not null,
    created_at         timestamptz not null,
    updated_at         timestamptz not null,
    body               text not null,
    primary key (part, workflow_id)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
alter table workflow alter column body set storage main;
create index workflow_definition on workflow (definition, created_at);

-- One row per event or outcome: history, outbox, stored reply and idempotency record at once.
create table journal (
    part          int not null,
    seq           bigint not null,                -- gapless, in commit order
    kind          text not null,                  -- event, reply, dead_letter, forward
    key           text,                           -- the root id
    workflow_id   text,
    sequence      bigint,                         -- of the event, gapless per workflow
    type          text not null,                  -- the ce_type of what it publishes
    command_id    uuid,                           -- set where the reply binds the id
    digest        bytea,
    event         bytea,
    reply         bytea,
    traceparent   text,
    record_offset bigint not null,                -- of the command record
    decided_at    timestamptz not null,
    primary key (part, seq)
) with (autovacuum_freeze_max_age = 1000000000);
create index journal_workflow on journal (part, workflow_id, sequence) where sequence is not null;
create index journal_command on journal (command_id) where command_id is not null;
-- What `why` reads: refusals and repeats alone, so an accepted command pays nothing for it.
create index journal_reply on journal (part, workflow_id, seq) where kind = 'reply';
create index journal_dead_letter on journal (part, seq) where kind = 'dead_letter';

-- Definitions, immutable once applied.
create table definition (
    name       text not null,
    version    int not null,
    body       text not null,
    source     text not null,
    digest     text not null,
    applied_at timestamptz not null default clock_timestamp(),
    applied_by text,
    primary key (name, version)
);

-- How many workflows of a limited definition are open; a definition without a limit has no row.
create table open_count (
    definition text primary key,
    open       bigint not null,
    max_open   bigint
) with (fillfactor = 50);

-- Take a partition. A lower generation of the consumer group is refused while the row was touched lately.
create function claim_v1(p_part int, p_owner text, p_generation int, p_damper interval) returns setof partition
language sql as $$
    update partition
       set epoch = epoch + 1, owner = p_owner, group_generation = p_generation, touched_at = clock_timestamp()
     where part = p_part
       and (group_generation <= p_generation or touched_at < clock_timestamp() - p_damper)
    returning *
$$;

-- Apply one turn: the fence first, counters last. Nothing is written unless all of it is.
-- TS001 fenced; TS002 conflict, its detail names the ids taken and the definitions that are full.
create function apply_v1(
    p_part int, p_epoch bigint, p_turn bigint, p_expected bigint, p_next bigint,
    p_tick timestamptz, p_published bigint, p_now timestamptz,
    n_id text[], n_root text[], n_tenant text[], n_definition text[], n_definition_version int[],
    n_state text[], n_version bigint[], n_open boolean[], n_body text[],
    c_id text[], c_state text[], c_version bigint[], c_open boolean[], c_definition_version int[], c_body text[],
    j_kind text[], j_key text[], j_workflow text[], j_sequence bigint[], j_type text[], j_command uuid[],
    j_digest bytea[], j_event bytea[], j_reply bytea[], j_trace text[], j_offset bigint[],
    o_definition text[], o_delta bigint[]
) returns bigint
language plpgsql
-- A plan made while the tables are empty is kept when they are not: it must be an index plan from the start.
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
declare
    first_seq bigint;
    touched   bigint;
    taken     jsonb := '{}';
    room      jsonb := '{}';
begin
    update partition
       set turn = turn + 1,
           next_offset = p_next,
           next_seq = next_seq + cardinality(j_kind),
           published_seq = greatest(published_seq, p_published),
           tick_time = greatest(tick_time, p_tick),
           touched_at = p_now
     where part = p_part and epoch = p_epoch and turn = p_turn and next_offset = p_expected and halted is null
    returning next_seq - cardinality(j_kind) into first_seq;
    if not found then
        raise exception 'partition % is not at epoch %, turn %, offset %', p_part, p_epoch, p_turn, p_expected
            using errcode = 'TS001';
    end if;

    if cardinality(n_id) > 0 then
        insert into workflow_id (workflow_id, part, root_id)
        select n.id, p_part, n.root from unnest(n_id, n_root) as n (id, root) order by n.id
        on conflict do nothing;
        get diagnostics touched = row_count;
        if touched <> cardinality(n_id) then
            select jsonb_object_agg(r.workflow_id, r.root_id) into taken
              from workflow_id r
             where r.workflow_id = any (n_id) and r.xmin <> pg_current_xact_id()::xid;
            raise exception 'ids are taken' using errcode = 'TS002',
                detail = jsonb_build_object('taken', taken, 'room', room)::text;
        end if;
        insert into workflow (part, workflow_id, root_id, tenant, definition, definition_version,
                              state, version, is_open, created_at, updated_at, body)
        select p_part, n.id, n.root, n.tenant, n.definition, n.definition_version,
               n.state, n.version, n.is_open, p_now, p_now, n.body
          from unnest(n_id, n_root, n_tenant, n_definition, n_definition_version, n_state, n_version, n_open, n_body)
               as n (id, root, tenant, definition, definition_version, state, version, is_open, body);
    end if;

    if cardinality(c_id) > 0 then
        update workflow w
           set state = c.state, version = c.version, is_open = c.is_open,
               definition_version = c.definition_version, updated_at = p_now, body = c.body
          from unnest(c_id, c_state, c_version, c_open, c_definition_version, c_body)
               as c (id, state, version, is_open, definition_version, body)
         where w.part = p_part and w.workflow_id = c.id and w.version < c.version;
        get diagnostics touched = row_count;
        if touched <> cardinality(c_id) then
            raise exception 'workflows changed behind their owner' using errcode = 'TS001';
        end if;
    end if;

    insert into journal (part, seq, kind, key, workflow_id, sequence, type, command_id, digest, event, reply,
                         traceparent, record_offset, decided_at)
    select p_part, first_seq + j.i - 1, j.kind, j.key, j.workflow, j.sequence, j.type, j.command, j.digest,
           j.event, j.reply, j.trace, j.record_offset, p_now
      from unnest(j_kind, j_key, j_workflow, j_sequence, j_type, j_command, j_digest, j_event, j_reply, j_trace, j_offset)
           with ordinality as j (kind, key, workflow, sequence, type, command, digest, event, reply, trace, record_offset, i);

    if cardinality(o_definition) > 0 then
        perform 1 from open_count where definition = any (o_definition) order by definition for update;
        select coalesce(jsonb_object_agg(c.definition, c.max_open - c.open), '{}') into room
          from open_count c join unnest(o_definition, o_delta) as o (definition, delta) using (definition)
         where o.delta > 0 and c.max_open is not null and c.open + o.delta > c.max_open;
        if room <> '{}' then
            raise exception 'definitions are full' using errcode = 'TS002',
                detail = jsonb_build_object('taken', taken, 'room', room)::text;
        end if;
        update open_count c set open = c.open + o.delta
          from unnest(o_definition, o_delta) as o (definition, delta)
         where c.definition = o.definition;
    end if;
    return first_seq;
end
$$;
