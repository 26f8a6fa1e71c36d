-- Whether a lane may stay with the worker that holds it for longer than a slice: no other
-- worker that could serve it has two lanes less.
create or replace function freshet.is_shared(lease bigint, worker text, silence interval)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
    return not exists (
        select from freshet.lease l
        join freshet.sink s on s.id = l.sink_id
        cross join freshet.function_for(s, l) as n (function)
        join freshet.worker w on w.id <> is_shared.worker and w.heartbeat_at > pg_catalog.clock_timestamp() - silence
            and l.target = any (w.targets) and (n.function is null or n.function = any (w.transforms))
        where l.id = is_shared.lease
          and (select count(*) from freshet.lease o where o.holder = w.id and o.kind = 'sync') + 2
            <= (select count(*) from freshet.lease o where o.holder = is_shared.worker and o.kind = 'sync'));
end
$$;

revoke all on function freshet.is_shared(bigint, text, interval) from public;
