-- Enqueues a backfill of a sink: a run, and its ranges for each target. There is one
-- backfill of everything at a time: a second one joins the first, which then writes again
-- what it had written before this moment.
create or replace function freshet.request_backfill(
    sink    integer,
    reason  text,
    filter  text default null,
    rate    integer default null,
    sweeps  boolean default false)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sink    freshet.sink;
    v_relid   oid;
    v_run     bigint;
    v_rows    bigint;
    v_units   bigint;
    v_bounds  record;
    v_lower   text[];
    v_point   text[];
    v_pieces  integer;
    v_target  text;
begin
    -- One at a time: two lanes of a sink lose their target together.
    select * into strict v_sink from freshet.sink s where s.id = request_backfill.sink for update;
    if request_backfill.reason = 'rewarm' then
        rate := v_sink.max_rate;
    end if;
    if filter is null then
        v_run := freshet.join_backfill(sink, reason, rate, sweeps);
        if v_run is not null then
            return v_run;
        end if;
    end if;

    select o.relid into v_relid from freshet.source o where o.id = v_sink.source_id;
    v_rows := freshet.estimate_rows(v_relid, filter);
    select null::text[] as lower, null::text[] as upper into v_bounds;
    if filter is not null then
        select b.lower, b.upper into v_bounds from freshet.filter_bounds(sink, filter) b;
        -- Where the filter does not say which keys to look at, all of them are.
        if v_bounds.upper is null then
            v_rows := freshet.estimate_rows(v_relid);
        end if;
    end if;
    -- Where rows share a key it is groups that are read. Of a sink that cannot be read its columns may be gone.
    v_units := case when v_sink.grouped and v_sink.broken is null then least(v_rows, freshet.estimate_rows(v_relid, filter, freshet.order_terms(
                   sink, (select pg_catalog.quote_ident(c.relname) from pg_catalog.pg_class c where c.oid = v_relid), false)))
               else v_rows end;
    insert into freshet.backfill_run (sink_id, reason, filter, needed, sweeps, rate, rows_estimated)
    values (v_sink.id, request_backfill.reason, request_backfill.filter, request_backfill.reason <> 'user',
            request_backfill.sweeps, request_backfill.rate,
            v_units * pg_catalog.cardinality(v_sink.targets))
    returning id into v_run;

    select case when v_sink.broken is null then least(64, pg_catalog.ceil(v_rows::double precision / i.range_rows)) else 1 end
    into v_pieces from freshet.installation i;
    v_lower := v_bounds.lower;
    for v_point in
        select p from freshet.split_points(sink, v_pieces, v_bounds.lower, v_bounds.upper) as p
        union all
        -- the rest
        select v_bounds.upper
    loop
        foreach v_target in array v_sink.targets loop
            perform freshet.add_range(v_run, v_target, v_lower, v_point);
        end loop;
        v_lower := v_point;
    end loop;
    return v_run;
end
$$;

revoke all on function freshet.request_backfill(integer, text, text, integer, boolean) from public;
