-- Enqueues a backfill that Freshet itself asks for, unless one that nobody has begun
-- is waiting already: that one will read everything after this moment too.
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
    select b.id into v_run
    from freshet.backfill_run b
    where b.sink_id = request_rewarm.sink and b.state = 'queued' and b.reason <> 'partial'
      and not exists (
          select from freshet.backfill_range r join freshet.lease l on l.id = r.lease_id
          where r.run_id = b.id and l.holder is not null)
    limit 1;
    if found then
        return v_run;
    end if;
    return freshet.request_backfill(request_rewarm.sink, 'rewarm');
end
$$;

revoke all on function freshet.request_rewarm(integer) from public;
