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
    update freshet.backfill_run b
    set requested = pg_catalog.pg_current_snapshot()
    where b.id = (
        select b.id from freshet.backfill_run b
        where b.sink_id = request_rewarm.sink and b.state in ('queued', 'running')
          and not exists (
              select from freshet.backfill_range r
              where r.run_id = b.id
                and (r.position is not null or r.intent_snapshot is not null or r.finished_at is not null))
        order by b.id desc
        limit 1)
    returning b.id into v_run;
    if found then
        return v_run;
    end if;
    return freshet.request_backfill(request_rewarm.sink, 'rewarm');
end
$$;

revoke all on function freshet.request_rewarm(integer) from public;
