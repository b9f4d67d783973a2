-- Parked commands: those whose outcome is still open. They are written and deleted by the turns of their partition.
-- A worker of the version before knows nothing of them, so its functions refuse a partition that has some.

-- One row per parked command, with its record as it came; `headers` is JSON: names and base64 values.
create table parked (
    part          int not null,
    record_offset bigint not null,                -- of the command record: the order within a workflow
    workflow_id   text not null,                  -- '' where our own code failed and it cannot be read
    command_id    uuid,
    reason        text not null,                  -- guard, behind, internal_error
    detail        text not null,
    parked_at     timestamptz not null,
    attempts      int not null,
    not_before    timestamptz not null,           -- nothing is tried again before
    expires_at    timestamptz,                    -- the command's own
    topic         text not null,
    broker_ms     bigint not null,
    key           bytea,
    value         bytea,
    headers       text not null,
    primary key (part, record_offset)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Take a partition, by a worker that knows parked commands; a halted one stays as it is.
create function claim_v2(p_part int, p_owner text, p_generation int, p_damper interval) returns setof partition
language sql as $$
    update partition
       set epoch = epoch + 1, owner = p_owner, group_generation = p_generation, touched_at = clock_timestamp()
     where part = p_part
       and halted is null
       and (group_generation <= p_generation or touched_at < clock_timestamp() - p_damper)
    returning *
$$;

-- Apply one turn: as apply_v1, and the commands it parks (p), postpones (d) and lets go of (u).
create function apply_v2(
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
    return first_seq;
end
$$;

create or replace function claim_v1(p_part int, p_owner text, p_generation int, p_damper interval)
returns setof partition language plpgsql as $$
begin
    if exists (select from parked where parked.part = p_part) then
        raise exception 'partition % has parked commands, which this version of the worker does not know', p_part
            using errcode = 'TS001';
    end if;
    return query select * from claim_v2(p_part, p_owner, p_generation, p_damper);
end
$$;

create or replace function apply_v1(
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
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan as $$
begin
    if exists (select from parked where parked.part = p_part) then
        raise exception 'partition % has parked commands, which this version of the worker does not know', p_part
            using errcode = 'TS001';
    end if;
    return apply_v2(
        p_part, p_epoch, p_turn, p_expected, p_next, p_tick, p_published, p_now, n_id, n_root, n_tenant,
        n_definition, n_definition_version, n_state, n_version, n_open, n_body, c_id, c_state, c_version,
        c_open, c_definition_version, c_body, j_kind, j_key, j_workflow, j_sequence, j_type, j_command,
        j_digest, j_event, j_reply, j_trace, j_offset, o_definition, o_delta, '{}', '{}', '{}', '{}', '{}',
        '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'
    );
end
$$;
