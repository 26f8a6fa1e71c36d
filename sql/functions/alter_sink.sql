-- Changes a sink. Null leaves an argument as it is, and what is named in `reset` goes back to
-- what it is when nobody says anything.
--
-- What says how an entry is made is changed in place: the definition is raised, so that
-- nobody writes by the old one any more, and every entry is written again. Another key makes
-- another sink of the same name, and the old one removes its entries: those that change at
-- once, and the others one after the other. So does a sink on a target that it leaves.
create or replace function freshet.alter_sink(
    name              text,
    source            regclass default null,
    key               text default null,
    columns           text[] default null,
    value             text default null,
    transform         text default null,
    filter            text default null,
    expires           interval default null,
    expires_at        text default null,
    targets           text[] default null,
    shards            integer default null,
    capture           text default null,
    backfill          boolean default null,
    adopt             boolean default null,
    accept_drift      boolean default null,
    on_schema_change  text default null,
    max_lag           interval default null,
    max_pending       bigint default null,
    max_rate          integer default null,
    reset             text[] default null)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    -- What says which entries there are, and of what.
    v_defines  constant text[] := array['key', 'columns', 'value', 'transform', 'filter', 'expires', 'expires_at', 'targets', 'accept_drift'];
    v_all      constant text[] := v_defines || array['shards', 'on_schema_change', 'max_lag', 'max_pending', 'max_rate'];
    v_given    jsonb := pg_catalog.jsonb_build_object(
        'key', key, 'columns', columns, 'value', value, 'transform', transform, 'filter', filter, 'expires', expires, 'expires_at', expires_at,
        'targets', targets, 'shards', shards, 'accept_drift', accept_drift,
        'on_schema_change', on_schema_change, 'max_lag', max_lag, 'max_pending', max_pending, 'max_rate', max_rate);
    v_sink     freshet.sink;
    v_next     freshet.sink;
    v_relid    oid;
    v_parts    jsonb;
    v_unknown  text;
    v_target   text;
    v_lease    bigint;
begin
    -- First: the sink may be dropped while this waits.
    perform freshet.lock_definitions();
    v_sink := freshet.find_sink(name);
    perform freshet.check_owner(v_sink.id);
    select o.relid into v_relid from freshet.source o where o.id = v_sink.source_id;
    if source is not null then
        raise exception 'source: a sink stays with its source' using errcode = 'feature_not_supported',
            hint = 'Drop it, and create one of that name on the other table.';
    end if;
    perform freshet.refuse_later('capture', capture is not null);

    select pg_catalog.string_agg(pg_catalog.format('"%s"', r), ', ') into v_unknown
    from pg_catalog.unnest(reset) as r
    where r is null or r <> all (v_all);
    if v_unknown is not null then
        raise exception 'reset: % cannot be reset', v_unknown
            using errcode = 'invalid_parameter_value', hint = 'These can: ' || pg_catalog.array_to_string(v_all, ', ') || '.';
    end if;
    select r into v_unknown from pg_catalog.unnest(reset) as r where v_given -> r <> 'null' limit 1;
    if found then
        raise exception 'reset: % is both set and reset', v_unknown using errcode = 'invalid_parameter_value';
    end if;
    reset := coalesce(reset, '{}');
    perform freshet.check_shards(coalesce(shards, 1));
    perform freshet.check_rate('max_rate', max_rate);
    perform freshet.check_limits(coalesce(max_lag, interval '1 hour'), max_pending);
    perform freshet.check_schema_change(coalesce(on_schema_change, 'rewarm'));
    shards := case when 'shards' = any (reset) then 1 else coalesce(shards, v_sink.shards) end;

    update freshet.sink s
    set on_schema_change = case when 'on_schema_change' = any (reset) then 'rewarm' else coalesce(alter_sink.on_schema_change, s.on_schema_change) end,
        max_lag = case when 'max_lag' = any (reset) then interval '24 hours' else coalesce(alter_sink.max_lag, s.max_lag) end,
        max_pending = case when 'max_pending' = any (reset) then null else coalesce(alter_sink.max_pending, s.max_pending) end,
        max_rate = case when 'max_rate' = any (reset) then null else coalesce(alter_sink.max_rate, s.max_rate) end,
        -- Whoever changes a sink that fails wants it tried again.
        state = case s.state when 'failing' then 'active' else s.state end,
        failing = null,
        revision = s.revision + 1
    where s.id = v_sink.id
    returning * into v_sink;
    -- A re-warm that runs obeys the new rate from its next chunk on.
    update freshet.backfill_run b
    set rate = v_sink.max_rate, paced_until = null
    where b.sink_id = v_sink.id and b.reason = 'rewarm' and b.state in ('queued', 'running', 'paused');

    if reset && v_defines or exists (
        select from pg_catalog.jsonb_each(v_given) g where g.key = any (v_defines) and g.value <> 'null')
    then
        if v_relid is null or not exists (select from pg_catalog.pg_class c where c.oid = v_relid) then
            raise exception 'sink: the source of "%" is gone', name using errcode = 'object_not_in_prerequisite_state';
        end if;
        -- A column that was renamed a moment ago makes no other key.
        v_parts := freshet.named_key(v_relid, v_sink.key_parts);
        key := case when 'key' = any (reset) then null else coalesce(key, freshet.key_text(v_parts)) end;
        -- What somebody wrote goes only when it is named. Columns that nobody gave follow.
        if v_sink.value is not null and value is null and 'value' <> all (reset) and coalesce(transform, columns::text) is not null then
            raise exception '%: the sink has a value, which says what the entry is already', case when transform is not null then 'transform' else 'columns' end
                using errcode = 'invalid_parameter_value', hint = 'To give that up, add reset => ''{value}''.';
        end if;
        if v_sink.transform is not null and transform is null and 'transform' <> all (reset) and value is not null then
            raise exception 'value: the sink has a transform, which says what the entry is already'
                using errcode = 'invalid_parameter_value', hint = 'To give that up, add reset => ''{transform}''.';
        end if;
        transform := case when 'transform' = any (reset) then null else coalesce(transform, v_sink.transform) end;
        value := case when 'value' = any (reset) then null else coalesce(value, v_sink.value) end;
        columns := case when columns is not null then columns when value is not null or 'columns' = any (reset) or v_sink.value is not null then null
            when v_sink.column_attnums is null then '{*}'
            -- None is not null, which would be all of them.
            else (select coalesce(pg_catalog.array_agg(a.attname::text order by u.n), '{}')
                  from pg_catalog.unnest(v_sink.column_attnums) with ordinality as u (attnum, n)
                  join pg_catalog.pg_attribute a on a.attrelid = v_relid and a.attnum = u.attnum and not a.attisdropped) end;
        filter := case when 'filter' = any (reset) then null else coalesce(filter, v_sink.filter) end;
        -- One kind of expiry takes the other's place.
        v_next.expires := case when 'expires' = any (reset) or expires_at is not null and expires is null then null else coalesce(expires, v_sink.expires) end;
        v_next.expires_at := case when 'expires_at' = any (reset) or expires is not null and expires_at is null then null else coalesce(expires_at, v_sink.expires_at) end;
        targets := case when 'targets' = any (reset) then '{default}' else coalesce(targets, v_sink.targets) end;
        accept_drift := case when 'accept_drift' = any (reset) then false else coalesce(accept_drift, v_sink.accept_drift) end;
        perform freshet.check_kind(v_relid);
        v_next := freshet.check_definition(v_relid, key, columns, value, transform, filter, v_next.expires, v_next.expires_at, accept_drift, targets, v_sink.id);

        if v_next.key_parts is distinct from v_parts then
            -- Before the leases: the new sink may have to capture more.
            perform freshet.lock_capture(v_sink.source_id);
            -- Whoever writes by the old definition is refused; what is there goes.
            -- As whoever asks for a re-warm has it: before the leases.
            perform from freshet.sink s where s.id = v_sink.id for update;
            update freshet.sink s
            set name = s.name || '~' || s.id, state = 'retiring', broken = null, definition = s.definition + 1, revision = s.revision + 1
            where s.id = v_sink.id;
            update freshet.backfill_run b set state = 'cancelled', finished_at = pg_catalog.clock_timestamp()
            where b.sink_id = v_sink.id and b.state in ('queued', 'running', 'paused', 'sweeping');
            foreach v_target in array v_sink.targets loop
                perform freshet.close_target(v_sink.id, v_target);
            end loop;
            perform freshet.create_sink(name, v_relid::pg_catalog.regclass, key => key, columns => columns, value => value, transform => transform, filter => filter,
                expires => v_next.expires, expires_at => v_next.expires_at, targets => targets, shards => shards,
                backfill => coalesce(backfill, true), adopt => coalesce(adopt, false), accept_drift => accept_drift,
                on_schema_change => v_sink.on_schema_change, max_lag => v_sink.max_lag, max_pending => v_sink.max_pending,
                max_rate => v_sink.max_rate);
            if v_sink.state = 'paused' then
                perform freshet.pause_sink(name);
            end if;
            return;
        end if;

        foreach v_target in array targets loop
            if exists (select from freshet.lease l where l.sink_id = v_sink.id and l.target = v_target and l.closing) then
                raise exception 'targets: the entries of "%" on "%" are still being removed', name, v_target
                    using errcode = 'object_not_in_prerequisite_state', hint = 'Try again when freshet.status shows that target no more.';
            end if;
        end loop;
        perform freshet.grant_reading(o) from pg_catalog.unnest(v_next.reads) as o;
        perform freshet.grant_calling(v_relid, v_next);
        -- As whoever asks for a re-warm has it: before the leases.
        perform from freshet.sink s where s.id = v_sink.id for update;
        update freshet.sink s
        set key_parts = v_next.key_parts, folded_attnums = v_next.folded_attnums, order_attnums = v_next.order_attnums,
            column_attnums = v_next.column_attnums, value = v_next.value, value_type = v_next.value_type, transform = v_next.transform, grouped = v_next.grouped,
            filter = v_next.filter, expires = v_next.expires, expires_at = v_next.expires_at, accept_drift = v_next.accept_drift,
            reads = v_next.reads, calls = v_next.calls, targets = v_next.targets, broken = null, survey_after = null, notice = null,
            coverage = 'lazy', definition = s.definition + 1, revision = s.revision + 1
        where s.id = v_sink.id;
        perform freshet.watch_calls(v_sink.source_id);
        for v_target in select t from pg_catalog.unnest(v_sink.targets) as t where t <> all (targets) loop
            perform freshet.close_target(v_sink.id, v_target);
        end loop;
        for v_lease in
            insert into freshet.lease (sink_id, kind, target, part, cursor, adopt)
            select v_sink.id, 'sync', t, p.shard::text, freshet.cursor_now()::text, coalesce(alter_sink.adopt, false)
            from pg_catalog.unnest(targets) as t, pg_catalog.generate_series(0, v_sink.shards - 1) as p (shard)
            where t <> all (v_sink.targets)
            returning id
        loop
            perform freshet.enqueue_lease(v_lease);
        end loop;
        if v_next.order_attnums is distinct from v_sink.order_attnums or v_next.folded_attnums is distinct from v_sink.folded_attnums then
            perform freshet.restart_ranges(v_sink.id);
        end if;
        -- One that was given up, or removed everything and went back since, has what was written then.
        perform freshet.rewarm_target(v_sink.id, t, true)
        from pg_catalog.unnest(targets) as t
        where t <> all (v_sink.targets) and exists (select from freshet.removed r where r.sink_id = v_sink.id and r.target = t);
        if coalesce(backfill, true) then
            perform freshet.request_rewarm(v_sink.id, false);
            -- Entries of rows that have none any more.
            perform freshet.request_sweep(v_sink.id, pg_catalog.pg_current_snapshot());
        else
            -- Nor does one that is on its way make the sink whole: it began before. One that sets wrong entries right
            -- begins anew.
            perform freshet.cancel_backfill(b.id)
            from freshet.backfill_run b
            where b.sink_id = v_sink.id and b.filter is null and b.state in ('queued', 'running', 'paused') and not b.repairs;
            perform freshet.lock_ranges(v_sink.id);
            perform freshet.redo_ranges(b.id, null), freshet.add_targets(b.id)
            from freshet.backfill_run b
            where b.sink_id = v_sink.id and b.filter is null and b.state in ('queued', 'running', 'paused') and b.repairs;
        end if;
    elsif backfill is not null then
        raise exception 'backfill: it says what follows from a new definition, and nothing of that is given'
            using errcode = 'invalid_parameter_value', hint = pg_catalog.format('To write every entry again run: select freshet.backfill(%L);', name);
    end if;

    if adopt then
        -- In one order, like all who lock several.
        perform from freshet.lease l where l.sink_id = v_sink.id and l.kind = 'sync' order by l.id for update;
        update freshet.lease l set adopt = true where l.sink_id = v_sink.id and l.kind = 'sync' and not l.closing;
        update freshet.backfill_run b set sweeps = true
        where b.sink_id = v_sink.id and b.filter is null and b.state in ('queued', 'running', 'paused');
    end if;
    if shards <> v_sink.shards then
        perform freshet.recut(v_sink.id, shards);
    end if;
end
$$;

comment on function freshet.alter_sink(text, regclass, text, text[], text, text, text, interval, text, text[], integer, text, boolean, boolean, boolean, text, interval, bigint, integer, text[])
is 'Changes a sink; what is left out stays as it is.';
revoke all on function freshet.alter_sink(text, regclass, text, text[], text, text, text, interval, text, text[], integer, text, boolean, boolean, boolean, text, interval, bigint, integer, text[]) from public;
