-- Stops a backfill after the chunk that it is at, until it is resumed.
create or replace function freshet.pause_backfill(id bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run  freshet.backfill_run := freshet.find_backfill(id);
begin
    update freshet.backfill_run b
    set state = 'paused'
    where b.id = v_run.id;
    update freshet.sink s set revision = s.revision + 1 where s.id = v_run.sink_id;
end
$$;

comment on function freshet.pause_backfill(bigint) is 'Stops a backfill after its present chunk, until it is resumed.';
revoke all on function freshet.pause_backfill(bigint) from public;
