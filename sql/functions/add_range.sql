-- Adds a range to a backfill: its lease, and the job that takes it.
create or replace function freshet.add_range(run bigint, target text, lower text[], upper text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease  bigint;
begin
    insert into freshet.lease (sink_id, kind, target, part, cursor)
    select b.sink_id, 'backfill', add_range.target,
           pg_catalog.concat_ws('_', 'b' || run, (
               select nullif(count(*), 0) from freshet.backfill_range r
               join freshet.lease l on l.id = r.lease_id
               where r.run_id = run and l.target = add_range.target)), ''
    from freshet.backfill_run b
    where b.id = run
    returning id into strict v_lease;
    insert into freshet.backfill_range (lease_id, run_id, lower, upper)
    values (v_lease, run, add_range.lower, add_range.upper);
    perform freshet.enqueue_lease(v_lease);
end
$$;

revoke all on function freshet.add_range(bigint, text, text[], text[]) from public;
