-- Has the ranges of a backfill, on one target or on all of them, write again what they had
-- written before this moment. Who calls it holds the sink locked.
create or replace function freshet.redo_ranges(run bigint, target text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_range  record;
begin
    -- Locked like by next_chunk: whether a range has begun does not change meanwhile. One that
    -- has not begins with what is there by now, one that has begins anew.
    for v_range in
        select r.*, l.target,
               r.position is not null or r.intent_snapshot is not null or r.finished_at is not null as begun
        from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id
        where r.run_id = redo_ranges.run and not r.superseded
          and (redo_ranges.target is null or l.target = redo_ranges.target)
        order by r.lease_id
        for update of r
    loop
        update freshet.backfill_range r
        set requested = pg_catalog.pg_current_snapshot(), superseded = v_range.begun
        where r.lease_id = v_range.lease_id;
        if v_range.begun then
            perform freshet.add_range(redo_ranges.run, v_range.target, v_range.lower, v_range.upper);
            update freshet.backfill_run b set rows_estimated = b.rows_estimated + v_range.rows_done where b.id = redo_ranges.run;
        end if;
    end loop;
end
$$;

revoke all on function freshet.redo_ranges(bigint, text) from public;
