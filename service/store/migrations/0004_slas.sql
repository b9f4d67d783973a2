-- SLAs and timers: written by the turns of their partition, with the workflows they belong to.
-- A worker of the versions before knows nothing of them, so its functions refuse a partition that has some.

-- One row per run of a workflow's SLA, as the workflow's own `slas` say; for reports. `body` is canonical JSON.
create table sla (
    part        int not null,
    workflow_id text not null,
    name        text not null,
    run         int not null,
    status      text not null,                    -- on_track, at_risk, breached, met
    is_open     boolean not null,
    started_at  timestamptz not null,
    due_at      timestamptz,                      -- null while it is held
    next_at     timestamptz,                      -- when time alone changes it
    body        text not null,
    primary key (part, workflow_id, name, run)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
create index sla_breached on sla (started_at) where status = 'breached';
create index sla_open on sla (status) where is_open; -- for counting them

-- When time alone changes something of a workflow. The truth of what is due is the workflow; this is what wakes it.
create table timer (
    part        int not null,
    workflow_id text not null,
    name        text not null,                    -- of the SLA
    due_at      timestamptz not null,
    primary key (part, workflow_id, name)
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
create index timer_due on timer (part, due_at);

-- A delayed command is parked apart from the others: it waits for its own time alone.
create index parked_delayed on parked (part, not_before) where reason = 'delayed';

-- For reports: each run of each SLA. Durations are in seconds and, but for `held_seconds` and `closed_seconds`, working
-- time. They are reckoned up to `reckoned_at`: where an SLA has ended that is its end, else its last change. So is
-- `breach_seconds`, the working time past the target, which is null while a breached SLA has not ended.
create view sla_metrics as
select s.workflow_id,
       w.root_id,
       w.definition,
       w.tenant,
       w.body::jsonb ->> 'service_area' as service_area,
       w.body::jsonb ->> 'type' as type,
       s.name as sla,
       s.run,
       s.status,
       s.is_open,
       s.started_at,
       s.due_at,
       (r.body ->> 'breached_at')::timestamptz as breached_at,
       (r.body ->> 'stopped_at')::timestamptz as stopped_at,
       (r.body ->> 'since')::timestamptz as reckoned_at,
       (r.body ->> 'target_seconds')::numeric + coalesce((r.body ->> 'extended_seconds')::numeric, 0) as target_seconds,
       coalesce((r.body #>> '{spent,worked}')::numeric, 0) + coalesce((r.body #>> '{spent,waiting}')::numeric, 0)
           + coalesce((r.body #>> '{spent,person}')::numeric, 0) as actual_seconds,
       (r.body ->> 'breach_seconds')::numeric as breach_seconds,
       coalesce((r.body #>> '{spent,held}')::numeric, 0) as held_seconds,
       coalesce((r.body #>> '{spent,closed}')::numeric, 0) as closed_seconds,
       r.body ->> 'impact' as business_impact,
       -- The steps before the ladder are at risk and breached.
       greatest(coalesce((r.body ->> 'step')::int, 0) - 2, 0) as rungs
  from sla s
  join workflow w on w.part = s.part and w.workflow_id = s.workflow_id
 cross join lateral (select s.body::jsonb as body) as r;

-- The breached ones: those that are open first, and of them those that were breached the longest ago.
create view v_sla_breaches as
select *, now() - breached_at as breached_for from sla_metrics where status = 'breached'
 order by is_open desc, breached_at;

-- Take a partition, by a worker that knows SLAs.
create function claim_v3(p_part int, p_owner text, p_generation int, p_damper interval) returns setof partition
language sql as $$
    update partition
       set epoch = epoch + 1, owner = p_owner, group_generation = p_generation, touched_at = clock_timestamp()
     where part = p_part
       and halted is null
       and (group_generation <= p_generation or touched_at < clock_timestamp() - p_damper)
    returning *
$$;

-- Apply one turn: as apply_v2, and the SLAs (s) and timers (t) it sets; a timer without a time is taken away. What a
-- workflow's rows say of when it was created and updated is its own, since clocks may be logical.
create function apply_v3(
    p_part int, p_epoch bigint, p_turn bigint, p_expected bigint, p_next bigint,
    p_tick timestamptz, p_published bigint, p_now timestamptz,
    n_id text[], n_root text[], n_tenant text[], n_definition text[], n_definition_version int[],
    n_state text[], n_version bigint[], n_open boolean[], n_created text[], n_updated text[],
    n_body text[],
    c_id text[], c_state text[], c_version bigint[], c_open boolean[], c_definition_version int[], c_updated text[],
    c_body text[],
    j_kind text[], j_key text[], j_workflow text[], j_sequence bigint[], j_type text[], j_command uuid[],
    j_digest bytea[], j_event bytea[], j_reply bytea[], j_trace text[], j_offset bigint[],
    o_definition text[], o_delta bigint[],
    p_offset bigint[], p_workflow text[], p_command uuid[], p_reason text[], p_detail text[], p_parked_at timestamptz[],
    p_attempts int[], p_not_before timestamptz[], p_expires_at timestamptz[],
    p_topic text[], p_timestamp bigint[], p_key bytea[], p_value bytea[], p_headers text[],
    d_offset bigint[], d_reason text[], d_detail text[], d_attempts int[], d_not_before timestamptz[],
    u_offset bigint[],
    s_workflow text[], s_name text[], s_run int[], s_status text[], s_open boolean[], s_started_at text[],
    s_due_at text[], s_next_at text[], s_body text[],
    t_workflow text[], t_name text[], t_due_at timestamptz[]
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
               n.state, n.version, n.is_open, n.created::timestamptz, n.updated::timestamptz, n.body
          from unnest(n_id, n_root, n_tenant, n_definition, n_definition_version, n_state, n_version, n_open,
                      n_created, n_updated, n_body)
               as n (id, root, tenant, definition, definition_version, state, version, is_open, created, updated, body);
    end if;

    if cardinality(c_id) > 0 then
        update workflow w
           set state = c.state, version = c.version, is_open = c.is_open,
               definition_version = c.definition_version, updated_at = c.updated::timestamptz, body = c.body
          from unnest(c_id, c_state, c_version, c_open, c_definition_version, c_updated, c_body)
               as c (id, state, version, is_open, definition_version, updated, body)
         where w.part = p_part and w.workflow_id = c.id and w.version <= c.version;
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

    if cardinality(p_offset) > 0 then
        insert into parked (part, record_offset, workflow_id, command_id, reason, detail, parked_at, attempts, not_before,
                            expires_at, topic, broker_ms, key, value, headers)
        select p_part, p.record_offset, p.workflow, p.command, p.reason, p.detail, p.parked_at, p.attempts, p.not_before,
               p.expires_at, p.topic, p.broker_ms, p.key, p.value, p.headers
          from unnest(p_offset, p_workflow, p_command, p_reason, p_detail, p_parked_at, p_attempts, p_not_before,
                      p_expires_at, p_topic, p_timestamp, p_key, p_value, p_headers)
               as p (record_offset, workflow, command, reason, detail, parked_at, attempts, not_before, expires_at,
                     topic, broker_ms, key, value, headers);
    end if;
    if cardinality(d_offset) > 0 then
        update parked p
           set reason = d.reason, detail = d.detail, attempts = d.attempts, not_before = d.not_before
          from unnest(d_offset, d_reason, d_detail, d_attempts, d_not_before)
               as d (record_offset, reason, detail, attempts, not_before)
         where p.part = p_part and p.record_offset = d.record_offset;
        get diagnostics touched = row_count;
        if touched <> cardinality(d_offset) then
            raise exception 'parked commands changed behind their owner' using errcode = 'TS001';
        end if;
    end if;
    if cardinality(u_offset) > 0 then
        delete from parked p using unnest(u_offset) as u (record_offset)
         where p.part = p_part and p.record_offset = u.record_offset;
        get diagnostics touched = row_count;
        if touched <> cardinality(u_offset) then
            raise exception 'parked commands changed behind their owner' using errcode = 'TS001';
        end if;
    end if;
    if cardinality(s_workflow) > 0 then
        insert into sla (part, workflow_id, name, run, status, is_open, started_at, due_at, next_at, body)
        select p_part, s.workflow, s.name, s.run, s.status, s.is_open, s.started_at::timestamptz,
               s.due_at::timestamptz, s.next_at::timestamptz, s.body
          from unnest(s_workflow, s_name, s_run, s_status, s_open, s_started_at, s_due_at, s_next_at, s_body)
               as s (workflow, name, run, status, is_open, started_at, due_at, next_at, body)
            on conflict (part, workflow_id, name, run) do update
           set status = excluded.status, is_open = excluded.is_open, due_at = excluded.due_at,
               next_at = excluded.next_at, body = excluded.body;
    end if;
    if cardinality(t_workflow) > 0 then
        insert into timer (part, workflow_id, name, due_at)
        select p_part, t.workflow, t.name, t.due_at
          from unnest(t_workflow, t_name, t_due_at) as t (workflow, name, due_at) where t.due_at is not null
            on conflict (part, workflow_id, name) do update set due_at = excluded.due_at;
        delete from timer using unnest(t_workflow, t_name, t_due_at) as t (workflow, name, due_at)
         where timer.part = p_part and timer.workflow_id = t.workflow and timer.name = t.name and t.due_at is null;
    end if;
    return first_seq;
end
$$;

create or replace function claim_v2(p_part int, p_owner text, p_generation int, p_damper interval)
returns setof partition language plpgsql as $$
begin
    if exists (select from sla where sla.part = p_part) then
        raise exception 'partition % has SLAs, which this version of the worker does not know', p_part
            using errcode = 'TS001';
    end if;
    return query select * from claim_v3(p_part, p_owner, p_generation, p_damper);
end
$$;

create or replace function apply_v2(
    p_part int, p_epoch bigint, p_turn bigint, p_expected bigint, p_next bigint,
    p_tick timestamptz, p_published bigint, p_now timestamptz,
    n_id text[], n_root text[], n_tenant text[], n_definition text[], n_definition_version int[],
    n_state text[], n_version bigint[], n_open boolean[], n_body text[],
    c_id text[], c_state text[], c_version bigint[], c_open boolean[], c_definition_version int[], c_body text[],
    j_kind text[], j_key text[], j_workflow text[], j_sequence bigint[], j_type text[], j_command uuid[],
    j_digest bytea[], j_event bytea[], j_reply bytea[], j_trace text[], j_offset bigint[],
    o_definition text[], o_delta bigint[],
    p_offset bigint[], p_workflow text[], p_command uuid[], p_reason text[], p_detail text[], p_parked_at timestamptz[],
    p_attempts int[], p_not_before timestamptz[], p_expires_at timestamptz[],
    p_topic text[], p_timestamp bigint[], p_key bytea[], p_value bytea[], p_headers text[],
    d_offset bigint[], d_reason text[], d_detail text[], d_attempts int[], d_not_before timestamptz[],
    u_offset bigint[]
) returns bigint
language plpgsql
-- A plan made while the tables are empty is kept when they are not: it must be an index plan from the start.
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
begin
    if exists (select from sla where sla.part = p_part) then
        raise exception 'partition % has SLAs, which this version of the worker does not know', p_part
            using errcode = 'TS001';
    end if;
    return apply_v3(
        p_part, p_epoch, p_turn, p_expected, p_next, p_tick, p_published, p_now, n_id, n_root, n_tenant,
        n_definition, n_definition_version, n_state, n_version, n_open,
        array_fill(p_now::text, array[cardinality(n_id)]), array_fill(p_now::text, array[cardinality(n_id)]),
        n_body, c_id, c_state, c_version, c_open, c_definition_version,
        array_fill(p_now::text, array[cardinality(c_id)]), c_body, j_kind, j_key, j_workflow, j_sequence, j_type,
        j_command, j_digest, j_event, j_reply, j_trace, j_offset, o_definition, o_delta, p_offset, p_workflow,
        p_command, p_reason, p_detail, p_parked_at, p_attempts, p_not_before, p_expires_at, p_topic, p_timestamp,
        p_key, p_value, p_headers, d_offset, d_reason, d_detail, d_attempts, d_not_before, u_offset, '{}', '{}',
        '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'
    );
end
$$;
