-- Asks for a re-warm and a sweep for the sake of one target. The first request is for all of
-- them, and later ones, while that is not over, are for this target only: one that refuses
-- writes, and has its lanes ask again and again, must not have the others written without end.
-- `repairs`: entries may be wrong, not just missing.
drop function if exists freshet.rewarm_target(integer, text);
create or replace function freshet.rewarm_target(sink integer, target text, repairs boolean)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run  bigint;
begin
    -- A crash must not forget it once the target says that nothing is missing.
    perform freshet.commit_to_disk();
    perform from freshet.sink s where s.id = rewarm_target.sink for update;
    if exists (select from freshet.sink s where s.id = rewarm_target.sink and s.state = 'retiring') then
        return null;
    end if;
    -- The one that request_backfill would join, if it has this target.
    select max(b.id) into v_run
    from freshet.backfill_run b
    where b.sink_id = rewarm_target.sink and b.filter is null and b.state in ('queued', 'running');
    if not exists (
        select from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id
        where r.run_id = v_run and l.target = rewarm_target.target and not r.superseded)
    then
        perform freshet.request_sweep(rewarm_target.sink, pg_catalog.pg_current_snapshot());
        return freshet.request_rewarm(rewarm_target.sink, rewarm_target.repairs);
    end if;

    -- As in request_rewarm.
    perform freshet.lock_ranges(rewarm_target.sink);
    update freshet.backfill_range r
    set finished_xid = null
    from freshet.lease l
    where l.id = r.lease_id and l.sink_id = rewarm_target.sink and l.target = rewarm_target.target and r.finished_xid is not null;
    update freshet.backfill_range r
    set requested = pg_catalog.pg_current_snapshot()
    from freshet.lease l
    where l.id = r.lease_id and l.sink_id = rewarm_target.sink and l.target = rewarm_target.target and r.finished_at is null;
    perform freshet.redo_ranges(v_run, rewarm_target.target);
    update freshet.backfill_run b set needed = true, repairs = b.repairs or rewarm_target.repairs, paced_until = null where b.id = v_run;
    perform freshet.sweep_target(rewarm_target.sink, rewarm_target.target, pg_catalog.pg_current_snapshot());
    return v_run;
end
$$;

revoke all on function freshet.rewarm_target(integer, text, boolean) from public;
