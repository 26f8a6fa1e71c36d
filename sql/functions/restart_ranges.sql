-- Has what is not finished of a sink's backfills begin anew, as one range for each target:
-- tuples of its order columns mean something else from now on.
create or replace function freshet.restart_ranges(sink integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_range  record;
begin
    perform from freshet.sink s where s.id = restart_ranges.sink for update;
    for v_range in
        select r.run_id, l.target, pg_catalog.array_agg(r.lease_id) as leases
        from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id
        where l.sink_id = restart_ranges.sink and r.finished_at is null and not r.superseded
        group by r.run_id, l.target
    loop
        -- Without bounds: all that was touched since an open intent is looked at again.
        update freshet.backfill_range r
        set superseded = true, lower = null, upper = null, position = null, intent_upper = null,
            steps = r.steps + 1
        where r.lease_id = any (v_range.leases);
        perform freshet.add_range(v_range.run_id, v_range.target, null, null);
    end loop;
end
$$;

revoke all on function freshet.restart_ranges(integer) from public;
