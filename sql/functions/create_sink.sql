-- Creates a sink: checks every argument, sets up capture on the source, makes the
-- lanes and their jobs, and enqueues the first backfill.
create or replace function freshet.create_sink(
    name              text,
    source            regclass,
    key               text default null,
    columns           text[] default null,
    value             text default null,
    transform         text default null,
    filter            text default null,
    expires           interval default null,
    expires_at        text default null,
    targets           text[] default '{default}',
    shards            integer default 1,
    capture           text default 'trigger',
    backfill          boolean default true,
    adopt             boolean default false,
    accept_drift      boolean default false,
    on_schema_change  text default 'rewarm',
    max_lag           interval default '24 hours',
    max_pending       bigint default null,
    max_rate          integer default null)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_source   freshet.source;
    v_sink     freshet.sink;
    v_lease    bigint;
    v_made     boolean := false;
    v_altered  boolean := false;
begin
    perform freshet.refuse_later('capture', capture is distinct from 'trigger');

    if name is null or name !~ '^[a-z][a-z0-9_]{0,47}$' then
        raise exception 'name: "%" is not a sink name', name
            using errcode = 'invalid_parameter_value',
                  hint = 'Begin with a lower-case letter and go on with lower-case letters, digits and underscores, 48 at most.';
    end if;
    if source is null then
        raise exception 'source: name the table that feeds the sink' using errcode = 'invalid_parameter_value';
    end if;
    if adopt is null then
        raise exception 'adopt: say true or false' using errcode = 'invalid_parameter_value';
    end if;
    if backfill is null then
        raise exception 'backfill: say true or false' using errcode = 'invalid_parameter_value';
    end if;
    perform freshet.check_shards(shards);
    perform freshet.check_rate('max_rate', max_rate);
    perform freshet.check_limits(max_lag, max_pending);
    perform freshet.check_schema_change(on_schema_change);
    perform freshet.check_targets(targets);
    perform freshet.lock_definitions();
    if exists (select from freshet.sink s where s.name = create_sink.name) then
        raise exception 'name: there is a sink "%" already%', name,
            (select case s.state when 'dropping' then ', whose entries are still being removed' else '' end
             from freshet.sink s where s.name = create_sink.name)
            using errcode = 'duplicate_object';
    end if;
    perform freshet.check_source(source);

    v_sink := freshet.check_definition(source, key, columns, value, transform, filter, expires, expires_at,
        accept_drift, targets, null);

    -- From here on the source is locked against writers, for as long as this
    -- transaction takes, unless capture already has all that the sink needs.
    select * into v_source from freshet.source s where s.relid = create_sink.source;
    if not found or not v_sink.key_attnums <@ v_source.key_attnums then
        if found then
            perform freshet.lock_capture(v_source.id);
            select * into v_source from freshet.source s where s.relid = create_sink.source;
        end if;
        perform freshet.lock_source(source, 'share row exclusive', interval '10 seconds', true);
        v_altered := v_source.fingerprint is not null and freshet.is_altered(v_source.id);
        insert into freshet.source as s (relid, schema_name, table_name, key_attnums, floor)
        select c.oid, n.nspname, c.relname, v_sink.key_attnums, freshet.cursor_now()
        from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where c.oid = create_sink.source
        on conflict (relid) do update
        set key_attnums = (
            select pg_catalog.array_agg(distinct u order by u)
            from pg_catalog.unnest(s.key_attnums || excluded.key_attnums) as u)
        returning * into v_source;
        perform freshet.make_capture(v_source.id);
        v_made := true;
    end if;
    perform freshet.grant_source(v_source.id);
    perform freshet.grant_reading(o) from pg_catalog.unnest(v_sink.reads) as o;
    perform freshet.grant_calling(source, v_sink);

    insert into freshet.sink (
        name, source_id, key, key_parts, key_attnums, folded_attnums, order_attnums, column_attnums, value, value_type,
        transform, grouped, filter, expires, expires_at, accept_drift, reads, calls, targets, shards, capture,
        on_schema_change, max_lag, max_pending, max_rate)
    values (
        create_sink.name, v_source.id, v_sink.key, v_sink.key_parts, v_sink.key_attnums, v_sink.folded_attnums,
        v_sink.order_attnums, v_sink.column_attnums, v_sink.value, v_sink.value_type,
        v_sink.transform, v_sink.grouped, v_sink.filter, v_sink.expires, v_sink.expires_at, v_sink.accept_drift, v_sink.reads, v_sink.calls,
        create_sink.targets, create_sink.shards, create_sink.capture,
        create_sink.on_schema_change, create_sink.max_lag, create_sink.max_pending, create_sink.max_rate)
    returning * into v_sink;

    -- The cursor is taken after the lock: what was captured by then, this very
    -- transaction's own later writes included, counts as not yet applied.
    for v_lease in
        insert into freshet.lease (sink_id, kind, target, part, cursor, adopt)
        select v_sink.id, 'sync', t.target, p.shard::text, freshet.cursor_now()::text, create_sink.adopt
        from pg_catalog.unnest(targets) as t (target), pg_catalog.generate_series(0, shards - 1) as p (shard)
        returning id
    loop
        perform freshet.enqueue_lease(v_lease);
    end loop;

    -- Only what changes from here on is to be noticed. What was altered before, and nobody
    -- has looked after yet, other sinks of the source may have missed changes by.
    update freshet.source s
    set fingerprint = freshet.fingerprint(s.id)
        || case when s.fingerprint ? 'types' then pg_catalog.jsonb_build_object('types', s.fingerprint -> 'types', 'calls', s.fingerprint -> 'calls') else '{}' end
    where s.id = v_source.id and ((v_made and not v_altered) or s.fingerprint is null);
    perform freshet.watch_calls(v_source.id);

    if backfill then
        -- Among keys that are taken over there may be some without a row.
        perform freshet.request_backfill(v_sink.id, 'create', sweeps => adopt);
    end if;
end
$$;

comment on function freshet.create_sink(text, regclass, text, text[], text, text, text, interval, text, text[], integer, text, boolean, boolean, boolean, text, interval, bigint, integer)
is 'Keeps an entry in Redis for each row of a table. Give at least name and source; see the README for every argument.';
revoke all on function freshet.create_sink(text, regclass, text, text[], text, text, text, interval, text, text[], integer, text, boolean, boolean, boolean, text, interval, bigint, integer) from public;
