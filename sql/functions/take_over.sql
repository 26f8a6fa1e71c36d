-- Takes every lease of these targets whose holder has been silent for longer than
-- `silence` away from it and enqueues its successor. Returns how many there were.
create or replace function freshet.take_over(targets text[], silence interval)
returns integer
language plpgsql
set search_path = ''
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
        select l.id, l.epoch from freshet.lease l
        where l.finished_at is null
          and l.target = any (targets)
          and l.heartbeat_at < pg_catalog.clock_timestamp() - silence
        order by l.id
        for update skip locked
    loop
        if freshet.release_lease(v_lease.id, v_lease.epoch, silence) then
            v_taken := v_taken + 1;
        end if;
    end loop;
    return v_taken;
end
$$;

revoke all on function freshet.take_over(text[], interval) from public;
