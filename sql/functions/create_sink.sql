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
set search_path = ''
as $$
declare
    v_parts    jsonb;
    v_key      smallint[];
    v_order    smallint[];
    v_columns  smallint[];
    v_source   freshet.source;
    v_sink     integer;
    v_missing  text;
    v_lease    bigint;
    v_made     boolean := false;
    v_altered  boolean := false;
    v_grouped  boolean := false;
    v_what     text;
    v_drifts   boolean;
    v_type     oid;
    v_others   oid[];
begin
    perform freshet.refuse_later('transform', transform is not null);
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
    if accept_drift is null then
        raise exception 'accept_drift: say true or false' using errcode = 'invalid_parameter_value';
    end if;
    if columns is not null and value is not null then
        raise exception 'columns: value says what the entry is already' using errcode = 'invalid_parameter_value',
            hint = 'Give one of the two.';
    end if;
    if expires <> interval '0' and expires_at is not null then
        raise exception 'expires: expires_at says already when an entry expires' using errcode = 'invalid_parameter_value',
            hint = 'Give one of the two.';
    end if;
    if expires < interval '0' then
        raise exception 'expires: % is negative', expires using errcode = 'invalid_parameter_value',
            hint = 'Give how long an entry lives after it was written; leave expires out for ever.';
    end if;
    expires := nullif(expires, interval '0');
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

    -- The key.
    if key is null then
        key := freshet.default_key(source);
    end if;
    v_parts := freshet.parse_key(key);
    select pg_catalog.string_agg(pg_catalog.format('"%s"', p ->> 'column'), ', ') into v_missing
    from pg_catalog.jsonb_array_elements(v_parts) as p
    where p ? 'column' and not exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = source and a.attname = p ->> 'column' and a.attnum > 0 and not a.attisdropped);
    if v_missing is not null then
        raise exception 'key: % has no column %', source, v_missing
            using errcode = 'undefined_column', hint = freshet.column_hint(source);
    end if;
    select pg_catalog.array_agg(distinct a.attnum order by a.attnum) into v_key
    from pg_catalog.jsonb_array_elements(v_parts) as p
    join pg_catalog.pg_attribute a on a.attrelid = source and a.attname = p ->> 'column';
    if v_key is null then
        raise exception 'key: the template "%" names no column, so all rows would share one key', key
            using errcode = 'invalid_parameter_value', hint = 'Write ${column} for a column of the source.';
    end if;
    v_parts := freshet.key_by_attnum(source, v_parts);
    select p ->> 'column' into v_missing
    from pg_catalog.jsonb_array_elements(v_parts) as p
    where p ? 'column' and freshet.prints_names((p ->> 'type')::oid);
    if v_missing is not null then
        raise exception 'key: ${%} prints names, so its text can change when no row does', v_missing
            using errcode = 'invalid_parameter_value',
                  hint = 'Use a column of type oid or text.';
    end if;
    select p ->> 'column' into v_missing
    from pg_catalog.jsonb_array_elements(v_parts) as p
    where p ? 'column'
    group by p ->> 'column'
    having count(distinct p -> 'modifiers' ? 'lower') > 1;
    if v_missing is not null then
        raise exception 'key: ${%} stands there with |lower and without', v_missing
            using errcode = 'invalid_parameter_value';
    end if;
    v_order := freshet.walk_index(source, v_parts, false);
    if v_order is null then
        if value is null then
            perform freshet.refuse_key(source, key, v_key);
        end if;
        v_grouped := true;
        v_order := freshet.walk_index(source, v_parts, true);
        if v_order is null then
            perform freshet.refuse_group(source, key, v_parts);
        end if;
    end if;
    perform freshet.check_key(v_parts);
    perform freshet.check_overlap(v_parts, targets);

    -- The value: the columns there are now, so that a later one does not leak. An expression
    -- can use any.
    select pg_catalog.string_agg(pg_catalog.format('"%s"', c.name), ', ') into v_missing
    from pg_catalog.unnest(columns) as c (name)
    where columns <> '{*}' and not exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = source and a.attname = c.name and a.attnum > 0 and not a.attisdropped);
    if v_missing is not null then
        raise exception 'columns: % has no column %', source, v_missing
            using errcode = 'undefined_column', hint = freshet.column_hint(source);
    end if;
    if columns = '{*}' or value is not null then
        v_columns := null;
    elsif columns is null then
        select pg_catalog.array_agg(a.attnum order by a.attnum) into v_columns
        from pg_catalog.pg_attribute a
        where a.attrelid = source and a.attnum > 0 and not a.attisdropped;
    else
        select pg_catalog.array_agg(a.attnum order by c.n) into v_columns
        from pg_catalog.unnest(columns) with ordinality as c (name, n)
        join pg_catalog.pg_attribute a on a.attrelid = source and a.attname = c.name;
        if v_columns is null then
            raise exception 'columns: the list is empty' using errcode = 'invalid_parameter_value',
                hint = 'Leave columns out to take all of them.';
        end if;
        if (select count(distinct c) < count(*) from pg_catalog.unnest(columns) as c) then
            raise exception 'columns: a column is named twice' using errcode = 'duplicate_column';
        end if;
    end if;

    v_what := case when v_grouped then 'group' else 'row' end;
    v_drifts := accept_drift or expires is not null or expires_at is not null;
    perform freshet.check_expression(source, 'filter', filter, 'condition');
    v_type := freshet.check_expression(source, 'value', value, v_what);
    perform freshet.check_moment(source, expires_at, v_what);
    v_others := freshet.check_purity(source, 'filter', filter, 'condition', v_drifts)
        || freshet.check_purity(source, 'value', value, v_what, v_drifts)
        || freshet.check_purity(source, 'expires_at', expires_at, v_what, v_drifts);

    -- From here on the source is locked against writers, for as long as this
    -- transaction takes, unless capture already has all that the sink needs.
    select * into v_source from freshet.source s where s.relid = create_sink.source;
    if not found or not v_key <@ v_source.key_attnums then
        perform freshet.lock_source(source);
        v_altered := v_source.fingerprint is not null and freshet.is_altered(v_source.id);
        insert into freshet.source as s (relid, schema_name, table_name, key_attnums, floor)
        select c.oid, n.nspname, c.relname, v_key, freshet.cursor_now()
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
    perform freshet.grant_reading(o) from (select distinct o from pg_catalog.unnest(v_others) as o) u;

    insert into freshet.sink (
        name, source_id, key, key_parts, key_attnums, folded_attnums, order_attnums, column_attnums, value, value_type,
        grouped, filter, expires, expires_at, accept_drift, reads, targets, shards, capture, on_schema_change, max_lag, max_pending, max_rate)
    values (
        create_sink.name, v_source.id, create_sink.key, v_parts, v_key, freshet.folded(source, v_parts), v_order, v_columns,
        create_sink.value, v_type, v_grouped, create_sink.filter, create_sink.expires, create_sink.expires_at,
        create_sink.accept_drift, v_others, create_sink.targets, create_sink.shards, create_sink.capture,
        create_sink.on_schema_change, create_sink.max_lag, create_sink.max_pending, create_sink.max_rate)
    returning id into v_sink;

    -- The cursor is taken after the lock: what was captured by then, this very
    -- transaction's own later writes included, counts as not yet applied.
    for v_lease in
        insert into freshet.lease (sink_id, kind, target, part, cursor, adopt)
        select v_sink, 'sync', t.target, p.shard::text, freshet.cursor_now()::text, create_sink.adopt
        from pg_catalog.unnest(targets) as t (target), pg_catalog.generate_series(0, shards - 1) as p (shard)
        returning id
    loop
        perform freshet.enqueue_lease(v_lease);
    end loop;

    -- Only what changes from here on is to be noticed. What was altered before, and nobody
    -- has looked after yet, other sinks of the source may have missed changes by.
    update freshet.source s set fingerprint = freshet.fingerprint(s.id)
    where s.id = v_source.id and ((v_made and not v_altered) or s.fingerprint is null);

    if backfill then
        -- Among keys that are taken over there may be some without a row.
        perform freshet.request_backfill(v_sink, 'create', sweeps => adopt);
    end if;
end
$$;

comment on function freshet.create_sink(text, regclass, text, text[], text, text, text, interval, text, text[], integer, text, boolean, boolean, boolean, text, interval, bigint, integer)
is 'Keeps an entry in Redis for each row of a table. Give at least name and source; see the README for every argument.';
revoke all on function freshet.create_sink(text, regclass, text, text[], text, text, text, interval, text, text[], integer, text, boolean, boolean, boolean, text, interval, bigint, integer) from public;
