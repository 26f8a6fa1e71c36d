-- Ends a backfill whose ranges are all finished. Who calls it holds the sink and then the
-- run locked.
create or replace function freshet.finish_backfill(run bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run    freshet.backfill_run;
    v_swept  boolean;
begin
    -- The sweep that a re-warm comes with is asked for by itself, and may not be done yet.
    select b.filter is not null or not b.sweeps and not exists (
        select from freshet.lease l where l.sink_id = b.sink_id and l.kind = 'sweep' and l.finished_at is null)
    into v_swept
    from freshet.backfill_run b where b.id = finish_backfill.run;
    update freshet.backfill_run b
    set state = case when v_swept then 'completed' else 'sweeping' end,
        finished_at = case when v_swept then pg_catalog.clock_timestamp() end
    where b.id = finish_backfill.run and b.state <> 'cancelled'
    returning * into v_run;
    -- Lanes read the sink anew, and soon write a cursor that sees this transaction.
    update freshet.sink s set revision = s.revision + 1
    where s.id = (select b.sink_id from freshet.backfill_run b where b.id = finish_backfill.run);
    if v_run.id is null then
        return;
    end if;
    if v_run.filter is not null then
        perform freshet.forget_ranges(v_run.sink_id, v_run.id, true);
        return;
    end if;
    update freshet.sink s set coverage = 'full' where s.id = v_run.sink_id;
    if v_run.sweeps then
        perform freshet.request_sweep(v_run.sink_id, pg_catalog.pg_current_snapshot());
    end if;

    -- What earlier ones wrote has been written again; only that they were is remembered, of
    -- the last hundred.
    perform freshet.forget_ranges(v_run.sink_id, v_run.id, false);
    delete from freshet.backfill_run b
    where b.sink_id = v_run.sink_id and b.state in ('completed', 'cancelled') and b.id < (
        select min(k.id) from (
            select o.id from freshet.backfill_run o where o.sink_id = v_run.sink_id order by o.id desc limit 100) k)
      and not exists (select from freshet.backfill_range r where r.run_id = b.id);
end
$$;

revoke all on function freshet.finish_backfill(bigint) from public;
