-- Lets a backfill that is paused go on.
create or replace function freshet.continue_backfill(run bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update freshet.backfill_run b
    set state = case when b.started_at is null then 'queued' else 'running' end,
        counted_from = case when b.started_at is not null then pg_catalog.clock_timestamp() end,
        counted_rows = b.rows_done + (select coalesce(sum(r.rows_done), 0) from freshet.backfill_range r where r.run_id = b.id)
    where b.id = continue_backfill.run and b.state = 'paused';
    if found then
        update freshet.sink s set revision = s.revision + 1
        where s.id = (select b.sink_id from freshet.backfill_run b where b.id = continue_backfill.run);
        perform freshet.unpark(array[continue_backfill.run]);
    end if;
end
$$;

revoke all on function freshet.continue_backfill(bigint) from public;
