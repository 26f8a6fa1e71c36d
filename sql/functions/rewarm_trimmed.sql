-- Asks for what has to follow when a lane can only go on from the floor of the change
-- table: of changes below it that the lane has not applied nobody knows any more. Rows are
-- written again by a backfill that was asked for at the floor or later, so one is enough for
-- all lanes, and for whoever raised the floor because the change table was damaged. What is
-- gone is found by a sweep that is still to come: one that is over may have been undone by
-- the loss that brought the lane here. Returns whether a re-warm was asked for.
create or replace function freshet.rewarm_trimmed(sink integer, floor pg_snapshot)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_asked  boolean := false;
begin
    -- A crash must not forget it once the target says that nothing is missing.
    perform freshet.commit_to_disk();
    perform from freshet.sink s where s.id = rewarm_trimmed.sink for update;
    if not exists (
        select from freshet.backfill_run b
        where b.sink_id = rewarm_trimmed.sink and b.filter is null and b.state in ('queued', 'running', 'sweeping', 'completed')
          and freshet.snapshot_covers(b.requested, rewarm_trimmed.floor))
    then
        perform freshet.request_rewarm(rewarm_trimmed.sink);
        v_asked := true;
    end if;
    if v_asked or exists (
        select from freshet.sink s cross join lateral pg_catalog.unnest(s.targets) as t (target)
        where s.id = rewarm_trimmed.sink and not exists (
            select from freshet.lease l
            where l.sink_id = s.id and l.kind = 'sweep' and l.target = t.target and l.finished_at is null and not l.begun
              and freshet.snapshot_covers(l.cursor::pg_snapshot, rewarm_trimmed.floor)))
    then
        perform freshet.request_sweep(rewarm_trimmed.sink, pg_catalog.pg_current_snapshot());
    end if;
    return v_asked;
end
$$;

revoke all on function freshet.rewarm_trimmed(integer, pg_snapshot) from public;
