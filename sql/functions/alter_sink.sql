-- Changes a sink. Null leaves an argument as it is.
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
set search_path = ''
as $$
declare
    v_sink     freshet.sink;
    v_unknown  text;
begin
    -- First: the sink may be dropped while this waits.
    perform freshet.lock_definitions();
    v_sink := freshet.find_sink(name);
    perform freshet.check_owner(v_sink.id);
    perform freshet.refuse_later('source', source is not null);
    perform freshet.refuse_later('key', key is not null);
    perform freshet.refuse_later('columns', columns is not null);
    perform freshet.refuse_later('value', value is not null);
    perform freshet.refuse_later('transform', transform is not null);
    perform freshet.refuse_later('filter', filter is not null);
    perform freshet.refuse_later('expires', expires is not null);
    perform freshet.refuse_later('expires_at', expires_at is not null);
    perform freshet.refuse_later('targets', targets is not null);
    perform freshet.refuse_later('capture', capture is not null);
    perform freshet.refuse_later('backfill', backfill is not null);
    perform freshet.refuse_later('accept_drift', accept_drift is not null);

    select pg_catalog.string_agg(pg_catalog.format('"%s"', r), ', ') into v_unknown
    from pg_catalog.unnest(reset) as r
    where r is null or r <> all (array['max_lag', 'max_pending', 'max_rate']);
    if v_unknown is not null then
        raise exception 'reset: % cannot be reset', v_unknown
            using errcode = 'invalid_parameter_value', hint = 'What this version can reset: max_lag, max_pending and max_rate.';
    end if;
    select r into v_unknown
    from pg_catalog.unnest(reset) as r
    where case r when 'max_lag' then max_lag is not null when 'max_pending' then max_pending is not null else max_rate is not null end
    limit 1;
    if found then
        raise exception 'reset: % is both set and reset', v_unknown using errcode = 'invalid_parameter_value';
    end if;
    perform freshet.check_shards(coalesce(shards, 1));
    perform freshet.check_rate('max_rate', max_rate);
    perform freshet.check_limits(coalesce(max_lag, interval '1 hour'), max_pending);
    perform freshet.check_schema_change(coalesce(on_schema_change, 'rewarm'));

    update freshet.sink s
    set on_schema_change = coalesce(alter_sink.on_schema_change, s.on_schema_change),
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
    if adopt then
        -- In the order of heartbeats, which know leases of many sinks.
        perform from freshet.lease l where l.sink_id = v_sink.id and l.kind = 'sync' order by l.id for update;
        update freshet.lease l set adopt = true where l.sink_id = v_sink.id and l.kind = 'sync';
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
