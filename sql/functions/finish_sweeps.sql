-- Ends the backfills of a sink that wait for sweeps, when none is left. Who calls it holds the
-- sink locked.
create or replace function freshet.finish_sweeps(sink integer)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update freshet.backfill_run b
    set state = 'completed', finished_at = pg_catalog.clock_timestamp()
    where b.sink_id = finish_sweeps.sink and b.state = 'sweeping'
      and not exists (
          select from freshet.lease l
          where l.sink_id = finish_sweeps.sink and l.kind = 'sweep' and l.finished_at is null);
$$;

revoke all on function freshet.finish_sweeps(integer) from public;
