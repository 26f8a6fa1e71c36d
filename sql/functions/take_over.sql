-- Takes every lease of these targets that needs no other functions of Go and whose holder has been silent for longer than
-- `silence` away from it and enqueues its successor. Returns how many there were. Ranges
-- that were parked and can be worked on again are enqueued, too.
create or replace function freshet.take_over(targets text[], transforms text[], silence interval)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lease  record;
    v_taken  integer := 0;
begin
    -- Workers that were killed say no farewell.
    delete from freshet.worker w where w.heartbeat_at < pg_catalog.clock_timestamp() - interval '10 minutes';
    delete from freshet.lease l
    where l.kind = 'sweep' and l.finished_at < pg_catalog.clock_timestamp() - interval '1 day';

    for v_lease in
        select l.id, l.epoch
        from freshet.lease l
        join freshet.sink s on s.id = l.sink_id
        cross join freshet.function_for(s, l) as n (function)
        where l.finished_at is null
          and l.target = any (take_over.targets)
          and (n.function is null or n.function = any (take_over.transforms))
          and l.heartbeat_at < pg_catalog.clock_timestamp() - silence
          -- A range waits until it is parked no more, or until a worker has work for its job.
          and not (l.kind = 'backfill' and l.holder is null and (
              exists (select from freshet.backfill_range r where r.lease_id = l.id and r.parked)
              or exists (select from freshet.river_job j 
                      where j.id = l.job_id and j.queue = freshet.queue_for(l.kind, l.target, n.function)
                        and j.state in ('available', 'scheduled', 'retryable'))))
        order by l.id
        for update of l skip locked
    loop
        if freshet.release_lease(v_lease.id, v_lease.epoch, silence) then
            v_taken := v_taken + 1;
        end if;
    end loop;
    perform freshet.unpark();
    return v_taken;
end
$$;

revoke all on function freshet.take_over(text[], text[], interval) from public;
