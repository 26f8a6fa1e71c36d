-- Enqueues a backfill that Freshet itself asks for, unless one waits that has not
-- begun: that one then reads no row earlier than this moment. Asked again and again
-- while a target is away, it is one backfill.
create or replace function freshet.request_rewarm(sink integer)
returns bigint
language plpgsql
set search_path = ''
as $$
declare
    v_run  bigint;
begin
    -- One at a time: two lanes of a sink lose their target together.
    perform from freshet.sink s where s.id = request_rewarm.sink for update;
    -- What earlier ones wrote is written again: nobody need ask any more whether it is there.
    update freshet.backfill_range r
    set finished_xid = null
    from freshet.backfill_run b
    where b.id = r.run_id and b.sink_id = request_rewarm.sink and r.finished_xid is not null;
    select b.id into v_run
    from freshet.backfill_run b
    where b.sink_id = request_rewarm.sink and b.state in ('queued', 'running')
    order by b.id desc
    limit 1
    for update;
    -- Asked in a statement of its own: next_chunk holds the same lock when it begins.
    if v_run is not null and not exists (
        select from freshet.backfill_range r
        where r.run_id = v_run
          and (r.position is not null or r.intent_snapshot is not null or r.finished_at is not null))
    then
        update freshet.backfill_run b
        set requested = pg_catalog.pg_current_snapshot()
        where b.id = v_run;
        return v_run;
    end if;
    return freshet.request_backfill(request_rewarm.sink, 'rewarm');
end
$$;

revoke all on function freshet.request_rewarm(integer) from public;
