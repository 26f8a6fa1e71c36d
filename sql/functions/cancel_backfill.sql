-- Ends a backfill before its end. What it has written stays, and is right; each range's
-- holder looks a last time at what changed while its last chunk was written.
create or replace function freshet.cancel_backfill(id bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run  freshet.backfill_run := freshet.find_backfill(id);
begin
    update freshet.backfill_run b
    set state = 'cancelled', finished_at = pg_catalog.clock_timestamp()
    where b.id = v_run.id;
    -- What was lost before a re-warm, or never written before the first backfill, is not
    -- there now.
    update freshet.sink s
    set revision = s.revision + 1,
        coverage = case when v_run.needed then 'lazy' else s.coverage end
    where s.id = v_run.sink_id;
    perform freshet.unpark(array[v_run.id]);
end
$$;

comment on function freshet.cancel_backfill(bigint) is 'Ends a backfill before its end. What it has written stays.';
revoke all on function freshet.cancel_backfill(bigint) from public;
