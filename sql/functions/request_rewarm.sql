-- Enqueues a backfill that Freshet itself asks for, which `repairs` entries that may be wrong: that
-- one is not cancelled. Asked again and again while a target is
-- away, it is one backfill, which reads no row earlier than when it was last asked for.
drop function if exists freshet.request_rewarm(integer);
create or replace function freshet.request_rewarm(sink integer, repairs boolean default true)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run  bigint;
begin
    perform from freshet.sink s where s.id = request_rewarm.sink for update;
    if exists (select from freshet.sink s where s.id = request_rewarm.sink and s.state = 'retiring') then
        return null;
    end if;
    perform freshet.lock_ranges(request_rewarm.sink);
    -- What earlier ones wrote is written again: nobody need ask any more whether it is there.
    update freshet.backfill_range r
    set finished_xid = null
    from freshet.backfill_run b
    where b.id = r.run_id and b.sink_id = request_rewarm.sink and r.finished_xid is not null;
    -- What backfills of some rows have read and not written they read anew.
    update freshet.backfill_range r
    set requested = pg_catalog.pg_current_snapshot()
    from freshet.backfill_run b
    where b.id = r.run_id and b.sink_id = request_rewarm.sink and r.finished_at is null;
    v_run := freshet.request_backfill(request_rewarm.sink, 'rewarm');
    if request_rewarm.repairs then
        update freshet.backfill_run b set repairs = true where b.id = v_run and not b.repairs;
    end if;
    return v_run;
end
$$;

revoke all on function freshet.request_rewarm(integer, boolean) from public;
